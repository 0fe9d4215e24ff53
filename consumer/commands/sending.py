"""What the commands that send have in common: one event, or a stream of them, sent for sure."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from consumer.config import Settings
from consumer.signals import stop_signals, until_stopped
from producer.client import REACH_SECONDS, DeliveryFailed, EventProducer, TopicMissing
from producer.datasets import EventsFileError
from producer.events import Event
from producer.replay import replay


def deliver(settings: Settings, event: Event, *, timeout_seconds: float = REACH_SECONDS) -> dict[str, Any]:
    """Send the event and wait for its acknowledgement. The answer: `sent` (1), `topic` and the `event`.

    Raises ValueError, naming the field, for an event that the worker would not accept; DeliveryFailed where the
    broker refused it, ConnectionError where none answered in time, TopicMissing.
    """
    ends_at = time.monotonic() + timeout_seconds
    producer = _producer(settings)
    try:
        producer.send(event)
        _reach(producer, timeout_seconds)
        report = producer.flush(max(0.0, ends_at - time.monotonic()))
    finally:
        with suppress(DeliveryFailed):
            producer.close(0)  # what failed is told below
    if report.failed:
        raise DeliveryFailed(report.failed, report.still_queued)
    if report.still_queued:
        raise ConnectionError(
            f"no broker at {settings.bootstrap_servers} acknowledged the event within {timeout_seconds:g} seconds"
        )
    return {"sent": report.delivered, "topic": settings.events_topic, "event": msgspec.to_builtins(event)}


def send_all(
    settings: Settings, events: Iterable[Event], *, rate: float | None, limit: int | None = None
) -> dict[str, Any]:
    """Send the events and wait for their acknowledgements; SIGTERM and Ctrl-C end it early, and it is still waited.
    While no broker has answered yet they are a SystemExit.

    The answer: `sent` (acknowledged), `failed` (0, or it raises), `seconds`, `events_per_second` and `topic`.
    Raises RuntimeError, with the reason, where some did not reach the topic, and, with the number of those that were
    sent before, where a file has a line that is none, or one that is too large; before anything is sent
    EventsFileError for such a line, ConnectionError where no broker answers in time, and TopicMissing.
    """
    with stop_signals() as stopping, _producer(settings, stopping.is_set) as producer:
        with stopping.nothing_begun():
            _reach(producer, REACH_SECONDS)
        try:
            counted = _Counted(until_stopped(events, stopping))
            report = replay(producer, counted, rate=rate, limit=limit, stopping=stopping.is_set)
        except ValueError as error:
            before = producer.flush()
            lost = len(before.failed) + before.still_queued
            is_refused = counted.number > before.delivered + lost
            if not is_refused and not isinstance(error, EventsFileError):
                raise
            where = f"event {counted.number}: " if is_refused else ""  # a line that is no event says itself where it is
            if not before.delivered and not lost:
                raise EventsFileError(f"{where}{error}; nothing was sent") from error
            more = f", and {lost} did not arrive" if lost else ""
            raise RuntimeError(f"{where}{error}; {before.delivered} events before it were sent{more}") from error
        if report.failed:
            with suppress(DeliveryFailed):
                producer.close(0)  # what failed is in the report, and was waited for
            raise RuntimeError(
                f"{report.failed} of {report.sent + report.failed} events did not reach {settings.events_topic}: "
                f"{report.reason} (brokers: {settings.bootstrap_servers})"
            )
    return {
        "sent": report.sent,
        "failed": report.failed,
        "seconds": report.seconds,
        "events_per_second": report.sent / report.seconds if report.seconds > 0 else 0.0,
        "topic": settings.events_topic,
    }


class _Counted:
    """Events, and the number of those that were asked for."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.number = 0
        self._events = events

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            self.number += 1
            yield event


def _reach(producer: EventProducer, timeout_seconds: float) -> None:
    try:
        producer.reach(timeout_seconds)
    except ConnectionError as error:
        raise ConnectionError(f"{error}; is HEADRACE_BOOTSTRAP_SERVERS right?") from error
    except TopicMissing as error:
        raise TopicMissing(f"{error}; is HEADRACE_EVENTS_TOPIC right? `headrace topics create` makes it") from error


def _producer(settings: Settings, stopping: Callable[[], bool] = lambda: False) -> EventProducer:
    return EventProducer(
        settings.bootstrap_servers, topic=settings.events_topic, librdkafka=settings.librdkafka, stopping=stopping
    )
