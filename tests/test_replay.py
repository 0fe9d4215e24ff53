"""Replay: the pace, the distance to the worker, the report. The clock is the test's."""

from collections.abc import Callable
from itertools import count

import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer.broker import InProcessBroker
from producer.client import EventProducer, FailedDelivery, FlushReport
from producer.events import Click, Event
from producer.replay import replay


class Clock:
    """Time that passes only by sleeping, or when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Sink:
    """Takes events and notes when they came."""

    def __init__(self, clock: Clock, report: FlushReport | None = None) -> None:
        self.clock = clock
        self.report = report
        self.events: list[Event] = []
        self.times: list[float] = []
        self.pause_after: dict[int, float] = {}

    def send(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(self.clock.now - 100.0)
        self.clock.now += self.pause_after.get(len(self.events), 0.0)

    def flush(self, timeout_seconds: float) -> FlushReport:
        del timeout_seconds
        return self.report or FlushReport(len(self.events), [], 0)


def clicks(number: int, text: str | None = None) -> list[Event]:
    return [Click(user_id="u1", item_id=f"i{index}", timestamp=index, text=text) for index in range(number)]


def test_without_a_rate_everything_is_sent_in_order_without_waiting() -> None:
    clock = Clock()
    sink = Sink(clock)

    report = replay(sink, clicks(1_000), clock=clock, sleep=clock.sleep)

    assert sink.events == clicks(1_000)
    assert report == (1_000, 0, 0.0, None)


def test_limit_ends_the_replay_without_reading_further() -> None:
    clock = Clock()
    sink = Sink(clock)
    endless = (Click(user_id="u1", item_id="i1", timestamp=index) for index in count())

    report = replay(sink, endless, limit=3, clock=clock, sleep=clock.sleep)

    assert report.sent == len(sink.events) == 3
    assert isinstance(following := next(endless), Click)
    assert following.timestamp == 3


@pytest.mark.parametrize("rate", [2.0, 100.0, 5_000.0])
def test_a_rate_is_kept_and_the_first_event_goes_at_once(rate: float) -> None:
    clock = Clock()
    sink = Sink(clock)

    replay(sink, clicks(501), rate=rate, clock=clock, sleep=clock.sleep)

    assert sink.times[0] == 0.0
    assert sink.times[-1] == pytest.approx(500 / rate, abs=0.011)
    for number, time in enumerate(sink.times):
        assert time >= number / rate - 1e-6


def test_after_a_pause_it_catches_up_without_a_flood() -> None:
    clock = Clock()
    sink = Sink(clock)
    sink.pause_after[100] = 5.0

    replay(sink, clicks(2_001), rate=100.0, clock=clock, sleep=clock.sleep)

    assert sink.times[-1] == pytest.approx(20.0, abs=0.1)  # nothing lost in the long run
    most_in_a_tenth = max(
        sum(start <= time < start + 0.1 for time in sink.times[100:]) for start in sink.times[100:1_200]
    )
    assert most_in_a_tenth <= 32  # 10 at the plain rate, 500 in a flood


def test_it_never_gets_further_ahead_of_the_worker_than_allowed() -> None:
    clock = Clock()
    sink = Sink(clock)
    taken = 0
    ahead: list[int] = []

    def work(seconds: float) -> None:
        nonlocal taken
        ahead.append(len(sink.events) - taken)
        taken = min(taken + 7, len(sink.events))
        clock.sleep(seconds)

    report = replay(sink, clicks(500), position=lambda: taken, max_ahead=20, clock=clock, sleep=work)

    assert report.sent == 500
    assert max(ahead) == 20


def test_large_events_keep_it_closer_to_the_worker() -> None:
    clock = Clock()
    sink = Sink(clock)
    taken = 0
    ahead: list[int] = []

    def work(seconds: float) -> None:
        nonlocal taken
        ahead.append(len(sink.events) - taken)
        taken = len(sink.events)
        clock.sleep(seconds)

    replay(
        sink,
        clicks(100) + clicks(100, text="x" * 10_000),
        position=lambda: taken,
        max_ahead=90,
        max_ahead_bytes=101_000,
        clock=clock,
        sleep=work,
    )

    assert max(ahead) == 90
    assert max(ahead[2:]) == 9


def test_an_event_larger_than_all_allowed_bytes_still_goes_alone() -> None:
    clock = Clock()
    sink = Sink(clock)
    ahead: list[int] = []
    taken = 0

    def work(seconds: float) -> None:
        nonlocal taken
        ahead.append(len(sink.events) - taken)
        taken = len(sink.events)
        clock.sleep(seconds)

    replay(sink, clicks(3), position=lambda: taken, max_ahead_bytes=1, clock=clock, sleep=work)

    assert ahead == [1, 1]


def test_stopping_ends_it_even_while_it_waits_for_the_worker() -> None:
    clock = Clock()
    sink = Sink(clock)

    report = replay(
        sink,
        clicks(100),
        position=lambda: 0,
        max_ahead=5,
        stopping=lambda: clock.now > 101.0,
        clock=clock,
        sleep=clock.sleep,
    )

    assert report.sent == len(sink.events) == 5
    assert report.seconds == pytest.approx(1.0, abs=0.02)


def test_what_failed_and_what_is_still_queued_is_not_counted_as_sent() -> None:
    clock = Clock()
    sink = Sink(clock, FlushReport(6, [FailedDelivery(b"u1", b"{}", "refused")] * 3, still_queued=1))

    report = replay(sink, clicks(10), clock=clock, sleep=clock.sleep)

    assert (report.sent, report.failed, report.reason) == (6, 4, "refused")


def test_what_was_never_acknowledged_has_that_as_its_reason() -> None:
    clock = Clock()
    sink = Sink(clock, FlushReport(0, [], still_queued=2))

    report = replay(sink, clicks(2), clock=clock, sleep=clock.sleep)

    assert (report.sent, report.failed, report.reason) == (0, 2, "no acknowledgement in time")


@pytest.mark.parametrize("name", ["rate", "limit", "max_ahead"])
@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf")])
def test_a_number_that_is_not_positive_is_refused_by_name(name: str, number: float) -> None:
    clock = Clock()
    sink = Sink(clock)

    with pytest.raises(ValueError, match=f"{name}: expected a number above 0, got {number}"):
        replay(sink, clicks(3), **{name: number})  # type: ignore[arg-type]

    assert sink.events == []


def test_a_sink_without_room_that_was_told_to_stop_ends_it() -> None:
    class Full(Sink):
        def send(self, event: Event) -> None:
            if len(self.events) == 2:
                raise BufferError("no room")
            super().send(event)

    clock = Clock()
    sink = Full(clock)

    report = replay(sink, clicks(5), clock=clock, sleep=clock.sleep)

    assert report.sent == len(sink.events) == 2


def test_an_error_of_the_events_passes_through() -> None:
    clock = Clock()

    with pytest.raises(ZeroDivisionError):
        replay(Sink(clock), (clicks(1)[1 // number] for number in (2, 0)), clock=clock, sleep=clock.sleep)


def test_more_than_the_in_process_broker_holds_arrives_whole(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    broker = in_process_broker({"events": 1})
    events = clicks(1_500, text="\u03b1\u03c9" * 4_000)  # 16 kB each: 24 MB through a partition of 5 MiB
    properties = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "fetch.wait.max.ms": 5}
    taken = 0

    with EventProducer(broker.bootstrap_servers, topic="events", librdkafka={"compression.type": "none"}) as producer:
        consumer = Consumer(properties)
        consumer.assign([TopicPartition("events", 0, 0)])

        def take(_seconds: float) -> None:
            nonlocal taken
            for message in consumer.consume(100, 0.05):
                assert message.error() is None
                assert message.offset() == taken
                taken += 1

        report = replay(producer, events, position=lambda: taken, sleep=take)
        while taken < 1_500:
            take(0.0)
        consumer.close()

    assert (report.sent, report.failed) == (1_500, 0)
