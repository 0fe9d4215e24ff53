"""`headrace demo`: the main job on the in-process broker, with real data, to watch.

What is known of items and users goes to their topics first. Then a replay sends a data set's events, the worker learns
them and publishes lists, a subscriber reads the lists: the same parts that run against Kafka. The replay stays a few
steps ahead of the worker and no more, so that lists stay fresh.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from consumer.broker import CLIENT_PROPERTIES, InProcessBroker
from consumer.checkpoint import Counts, read_checkpoint
from consumer.commands import explain
from consumer.config import Settings
from consumer.health import CannotListen, Health
from consumer.observation import Observation
from consumer.quality import Figures
from consumer.screen import Screen, as_share, in_ms
from consumer.signals import Stopped, stop_signals
from consumer.tally import Tally
from consumer.worker import Worker
from producer.client import EventProducer
from producer.datasets import Dataset, load
from producer.events import Recommendations
from producer.replay import replay
from producer.subscriber import Subscriber

STEP_EVENTS = 32
"""Most events in a step where nobody set a number: small steps, fresh lists."""
STEPS_AHEAD = 2
"""Steps' worth of events that may lie between the replay and the worker: one in work, one on its way."""
EVENTS_PER_SECOND = 2000.0
"""Slow enough to watch and to leave the worker idle at times, fast enough to be over within a minute."""
PARTITIONS = 8
EXPLAINED = 3
"""First items of one person's list that the end says the reasons of."""


def run(
    settings: Settings,
    *,
    dataset: str = "movielens-100k",
    rate: float | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Runs to the end of the data set, or until it is told to stop, and returns the summary of what was done.

    `rate` is events a second, EVENTS_PER_SECOND where None. Progress is shown on standard output. Everything lives in
    a fresh temporary folder and on loopback. Told to stop before the first event it says so, and all counts are 0.
    DatasetUnavailable says what to do without the data.
    """
    screen_stream = sys.stdout
    print(f"Loading {dataset} ...", file=screen_stream, flush=True)
    data = load(dataset, seed=settings.seed)
    total = len(data.events[:limit])
    names = (settings.events_topic, settings.items_topic, settings.users_topic, settings.recommendations_topic)
    topics = dict.fromkeys(names, PARTITIONS)
    with ExitStack() as stack:
        stopping = stack.enter_context(stop_signals())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-demo-")))
        broker = stack.enter_context(InProcessBroker({**topics, settings.dead_letter_topic: 1}))
        settings = settings.model_copy(
            update={
                "bootstrap_servers": broker.bootstrap_servers,
                "librdkafka": CLIENT_PROPERTIES,
                "checkpoint_dir": folder,
                "batch_size": settings.batch_size if "batch_size" in settings.model_fields_set else STEP_EVENTS,
                "quality_share": 1.0,
            }
        )
        print("Starting the in-process broker and the worker ...", file=screen_stream, flush=True)
        _send_catalogue(settings, data)
        observation = Observation.of(settings)
        tally = Tally(total, observation.quality)
        observation.batch_listeners.append(tally.batch_done)
        observation.freshness_listeners.append(tally.lists_settled)
        try:
            worker = stack.enter_context(Worker(settings, observation=observation, stopping=stopping.is_set))
        except Stopped:
            print("Told to stop before the first event.", file=screen_stream, flush=True)
            return _result(Counts(), tally, observation.quality.total(), seconds=0.0, step=0)
        health = stack.enter_context(_health(settings, worker))
        screen = Screen(tally, data.titles, stream=screen_stream, live=screen_stream.isatty())
        stack.callback(screen.close)
        screen.say(f"Metrics while this runs: http://127.0.0.1:{health.port}/metrics")
        reader = stack.enter_context(_Reader(settings, tally, screen))
        sender = stack.enter_context(_Sender(settings, data, tally, rate=rate or EVENTS_PER_SECOND, limit=limit))

        began = time.perf_counter()
        manifest = worker.run(
            lambda: stopping.is_set() or reader.has_failed or (sender.is_done and tally.done >= sender.sent)
        )
        seconds = time.perf_counter() - began
        sender.finish()
        reader.finish()
        screen.close()
        verified, _ = read_checkpoint(next(iter(worker.store.paths())))
        assert verified.state_sha256 == manifest.state_sha256
        result = _result(
            worker.progress.counts, tally, observation.quality.total(), seconds=seconds, step=verified.step
        )
        screen.summary(_facts(result))
        if tally.person is not None:
            with suppress(explain.UnknownUser):  # of few users that are kept, they may have gone meanwhile
                screen.say(_why(settings, tally.person.user_id, data.titles))
        screen.say(WHAT_NEXT)
    return result


def _send_catalogue(settings: Settings, data: Dataset) -> None:
    """What the data set knows of its items and users; on their topics when this returns, or DeliveryFailed."""
    with EventProducer(
        settings.bootstrap_servers, items_topic=settings.items_topic, users_topic=settings.users_topic
    ) as producer:
        for item in data.items:
            producer.send(item)
        for user in data.users:
            producer.send(user)


def _why(settings: Settings, user_id: str, titles: Mapping[str, str]) -> str:
    """What `headrace explain` says of the first items of a user's list."""
    told = explain.run(settings, user_id=user_id)
    first = explain.as_text({**told, "items": told["items"][:EXPLAINED]}, titles)
    return f"\nWhy that list is as it is (headrace explain). User {first}"


WHAT_NEXT = """
What to try next:
  headrace evaluate --dataset movielens-100k     the same learner without Kafka: quality and speed
  headrace demo --dataset synthetic              a generated stream whose tastes drift
  docker compose up                              Kafka, worker, Prometheus and Grafana
  headrace topics create; headrace run           the worker on a Kafka of yours
  headrace watch u1                              in a second terminal: the lists of a user, as they come
  headrace explain u1                            why u1's list is as it is, once the worker has saved (30 seconds)
  headrace click u2 i3; headrace click u1 i9     in a third one: events of yours, and u1's list follows from them
"""


def _result(counts: Counts, tally: Tally, figures: Figures, *, seconds: float, step: int) -> dict[str, Any]:
    """The answer; what nothing was observed of is NaN."""
    freshness = tally.freshness()
    return {
        "events": tally.done,
        "learned": counts.learned,
        "duplicates": counts.duplicates,
        "dead_letters": counts.dead_letters,
        "recommendations": tally.published,
        "unchanged": tally.unchanged,
        "seconds": round(seconds, 3),
        "events_per_second": round(tally.done / seconds, 1) if seconds else 0.0,
        "freshness_seconds": {"p50": round(freshness.p50, 6), "p99": round(freshness.p99, 6)},
        "hr@10": round(figures.hit_ratio, 6),
        "ndcg@10": round(figures.ndcg, 6),
        "mae": round(figures.mae, 6),
        "popularity_hr@10": round(figures.popularity_hit_ratio, 6),
        "checkpoint": step,
    }


def _facts(result: dict[str, Any]) -> dict[str, object]:
    fresh = result["freshness_seconds"]
    return {
        "events": f"{result['events']:,}: {result['learned']:,} learned, {result['duplicates']:,} duplicates, "
        f"{result['dead_letters']:,} dead letters",
        "lists": f"{result['recommendations']:,} published, {result['unchanged']:,} recomputed without change",
        "speed": f"{result['events_per_second']:,.0f} events a second, {result['seconds']:.1f} s",
        "freshness": f"p50 {in_ms(fresh['p50'])}, p99 {in_ms(fresh['p99'])}, from sent to acknowledged",
        "HR@10": f"{as_share(result['hr@10'], 4)} over all events "
        f"(popularity alone: {as_share(result['popularity_hr@10'], 4)})",
        "NDCG@10": as_share(result["ndcg@10"], 4),
        "MAE of ratings": as_share(result["mae"], 4),
        "checkpoint": f"step {result['checkpoint']}, read back and verified",
    }


@contextmanager
def _health(settings: Settings, worker: Worker) -> Iterator[Health]:
    """The metrics server on the port of the settings, or on any free one: a demo must not fail on that."""
    watch = worker.observation
    try:
        health = Health(worker.metrics.render, watch.is_alive, watch.is_ready, port=settings.metrics_port)
    except CannotListen:
        health = Health(worker.metrics.render, watch.is_alive, watch.is_ready, port=0)
    with health:
        yield health


class _Background:
    """A thread that is told to stop at the end, and whose failure is not lost."""

    def __init__(self, name: str) -> None:
        self.failure: BaseException | None = None
        self._stopping = Event()
        self._thread = Thread(target=self._guarded, name=name, daemon=True)

    @property
    def has_failed(self) -> bool:
        return self.failure is not None

    def finish(self) -> None:
        """Tell it to stop, wait for its end, raise what it raised."""
        self._stop()
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        raise AssertionError("a background without work")

    def _guarded(self) -> None:
        try:
            self._work()
        except BaseException as failure:  # raised again in the main thread
            self.failure = failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)


class _Sender(_Background):
    """Replays the data set, never more than a few steps ahead of the worker."""

    def __init__(self, settings: Settings, data: Dataset, tally: Tally, *, rate: float, limit: int | None) -> None:
        super().__init__("sender")
        self._settings = settings
        self._data = data
        self._tally = tally
        self._rate = rate
        self._limit = limit
        self.sent = 0
        self.is_done = False

    def _work(self) -> None:
        try:
            settings = self._settings
            with EventProducer(
                settings.bootstrap_servers, topic=settings.events_topic, librdkafka={"linger.ms": 1}
            ) as producer:
                report = replay(
                    producer,
                    self._data.events,
                    rate=self._rate,
                    limit=self._limit,
                    position=lambda: self._tally.done,
                    max_ahead=STEPS_AHEAD * settings.batch_size,
                    stopping=self._stopping.is_set,
                )
            self.sent = report.sent
            if report.failed:
                raise RuntimeError(f"{report.failed} events did not reach the in-process broker")
        finally:
            self.is_done = True


class _Reader(_Background):
    """Reads the lists as any subscriber would, and keeps the screen up to date."""

    def __init__(self, settings: Settings, tally: Tally, screen: Screen) -> None:
        super().__init__("reader")
        self._settings = settings
        self._tally = tally
        self._screen = screen

    def _work(self) -> None:
        with Subscriber(
            self._settings.bootstrap_servers,
            topic=self._settings.recommendations_topic,
            from_beginning=True,
            librdkafka=CLIENT_PROPERTIES,
        ) as subscriber:
            while not self._stopping.is_set():
                news = subscriber.poll(0.05)
                if isinstance(news, Recommendations):
                    self._tally.list_read(news)
                self._screen.show()
