"""Workers one after another on a folder, and the topic that they read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_disk import SimulatedCrash
from stream_fakes import Topic, click, places
from worker_fakes import FakeWorker


def workers_in(folder: Path) -> Iterator[Callable]:
    """A function that starts a worker on this folder, or on another; the one before it ends, at last all of them."""
    started = []

    def run(topic, folder=folder, **named):
        for one in started:
            one.close()
        started.append(FakeWorker(folder, topic, **named))
        return started[-1]

    yield run

    for one in started:
        one.close()


def clicks(topic, first, end, partition=0):
    """Add clicks number `first` to `end - 1`, of four users on five items."""
    topic.append(partition, *[click(f"u{n % 4}", f"i{n % 5}", event_id=f"e{n}") for n in range(first, end)])


def twenty_clicks():
    topic = Topic(2)
    clicks(topic, 0, 12)
    clicks(topic, 12, 20, partition=1)
    return topic


def crash(worker, effect="flush", **named):
    """Let the worker run into its end at this effect."""
    worker.failing[effect] = SimulatedCrash()
    with pytest.raises(SimulatedCrash):
        worker.run(**named)


def places_of(worker):
    return [place for batch in worker.observer.batches for place in places(batch.taken)]
