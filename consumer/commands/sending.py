"""What the commands that send have in common: one event, or a stream of them, sent for sure."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from consumer.config import Settings
from consumer.signals import stop_signals
from producer.client import DeliveryFailed, EventProducer
from producer.events import Event
from producer.replay import replay

ONE_EVENT_SECONDS: Final = 20.0
"""Somebody waits at the prompt for this one event; librdkafka itself would try for five minutes."""


def deliver(settings: Settings, event: Event, *, timeout_seconds: float = ONE_EVENT_SECONDS) -> dict[str, Any]:
    """Send the event and wait for its acknowledgement. The answer: `sent` (1), `topic` and the `event`.

    Raises ValueError, naming the field, for an event that the worker would not accept; DeliveryFailed where the
    broker refused it and ConnectionError where none answered in time.
    """
    producer = _producer(settings)
    producer.send(event)
    report = producer.flush(timeout_seconds)
    if report.failed:
        raise DeliveryFailed(report.failed, report.still_queued)
    if report.still_queued:
        raise ConnectionError(
            f"no broker at {settings.bootstrap_servers} took the event within {timeout_seconds:g} seconds; "
            "is HEADRACE_BOOTSTRAP_SERVERS right?"
        )
    return {"sent": report.delivered, "topic": settings.events_topic, "event": msgspec.to_builtins(event)}


def send_all(
    settings: Settings, events: Iterable[Event], *, rate: float | None, limit: int | None = None
) -> dict[str, Any]:
    """Send the events and wait for their acknowledgements; SIGTERM and Ctrl-C end it early, and it is still waited.

    The answer: `sent` (acknowledged), `failed` (0, or it raises), `seconds`, `events_per_second` and `topic`.
    Raises RuntimeError, with the reason, where some did not reach the topic.
    """
    with stop_signals() as stopping, _producer(settings) as producer:
        report = replay(producer, events, rate=rate, limit=limit, stopping=stopping.is_set)
    if report.failed:
        total = report.sent + report.failed
        raise RuntimeError(f"{report.failed} of {total} events did not reach {settings.events_topic}: {report.reason}")
    return {
        "sent": report.sent,
        "failed": report.failed,
        "seconds": report.seconds,
        "events_per_second": report.sent / report.seconds if report.seconds > 0 else 0.0,
        "topic": settings.events_topic,
    }


def _producer(settings: Settings) -> EventProducer:
    return EventProducer(settings.bootstrap_servers, topic=settings.events_topic, librdkafka=settings.librdkafka)
