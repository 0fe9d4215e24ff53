"""What the demo counts: speeds over the newest seconds, freshness, and one person's list."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from worker_fakes import Clock

from consumer.lists import Written
from consumer.quality import LiveQuality
from consumer.tally import IDLE_SECONDS, NEWEST, SPEED_SECONDS, Percentiles, Person, Tally, percentiles
from producer.events import Recommendations, ScoredItem, SourceEvent


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(1_000, LiveQuality(window=10), clock=clock)


def batch(records: int) -> Any:
    return SimpleNamespace(taken=[None] * records)


def a_list(user_id: str, *items: str) -> Recommendations:
    return Recommendations(
        user_id=user_id,
        recommendation_id="r",
        generated_at=0,
        model_version=1,
        source=SourceEvent("events", 0, 0, 0),
        items=[ScoredItem(item, 0.5) for item in items],
    )


def test_at_first_nothing_is_done_and_nothing_known(tally: Tally) -> None:
    assert (tally.events, tally.done, tally.published, tally.unchanged, tally.person) == (1_000, 0, 0, 0, None)
    assert (tally.events_per_second(), tally.lists_per_second()) == (0, 0)
    assert math.isnan(tally.freshness().p50)
    assert math.isnan(tally.rolling.hit_ratio)


def test_batches_and_lists_add_up(tally: Tally) -> None:
    tally.batch_done(batch(32), Written(sent=5, unchanged=2))
    tally.batch_done(batch(10), Written(sent=1, unchanged=3))
    tally.list_settled([0.1, 0.2], True)
    tally.list_settled([0.3], False)

    assert (tally.done, tally.unchanged, tally.published) == (42, 5, 1)
    assert tally.freshness() == percentiles([0.1, 0.2, 0.3])


def test_speed_looks_back_on_the_newest_seconds(tally: Tally, clock: Clock) -> None:
    for _ in range(10):  # 100 events a second at first
        clock.seconds += 1
        tally.batch_done(batch(100), Written(0, 0))
    at_first = tally.events_per_second()
    for _ in range(10):  # then 20, and 3 lists
        clock.seconds += 1
        for _ in range(3):
            tally.list_settled([], True)
        tally.batch_done(batch(20), Written(0, 0))

    assert at_first == pytest.approx(100)
    assert tally.events_per_second() == pytest.approx(20)
    assert tally.lists_per_second() == pytest.approx(3)


def test_many_small_batches_leave_few_marks_and_the_right_speed(tally: Tally, clock: Clock) -> None:
    for _ in range(10_000):
        clock.seconds += 0.001
        tally.batch_done(batch(2), Written(0, 0))

    assert tally.events_per_second() == pytest.approx(2_000)
    assert len(tally._marks) <= SPEED_SECONDS / (SPEED_SECONDS / 20) + 2


def test_rolling_figures_are_looked_at_now_and_then(clock: Clock) -> None:
    asked: list[float] = []
    quality = LiveQuality(window=10)
    figures = quality.rolling()
    tally = Tally(10, SimpleNamespace(rolling=lambda: asked.append(clock.seconds) or figures), clock=clock)  # type: ignore[arg-type]

    for _ in range(100):
        clock.seconds += 0.01
        tally.batch_done(batch(1), Written(0, 0))

    assert 2 <= len(asked) <= 8


def test_the_screen_shows_the_freshness_of_the_newest_and_the_end_that_of_all(tally: Tally) -> None:
    tally.list_settled([9.0] * 10, True)
    tally.list_settled([0.01] * NEWEST, True)

    assert tally.newest_freshness() == pytest.approx((0.01, 0.01))
    assert tally.freshness().p50 == pytest.approx(0.01)
    assert percentiles([9.0] * 10 + [0.01] * NEWEST) == tally.freshness()


def test_one_person_is_followed_as_long_as_the_list_changes(tally: Tally, clock: Clock) -> None:
    tally.list_read(a_list("ada", "i1", "i2"))
    first = tally.person
    clock.seconds += IDLE_SECONDS / 2
    tally.list_read(a_list("bob", "i9"))
    clock.seconds += IDLE_SECONDS / 4
    tally.list_read(a_list("ada", "i2", "i1"))

    assert first == Person("ada", [], ["i1", "i2"], 1, 0)
    assert tally.person == Person("ada", ["i1", "i2"], ["i2", "i1"], 2, IDLE_SECONDS * 0.75)


def test_a_person_whose_list_stands_still_makes_room_for_another(tally: Tally, clock: Clock) -> None:
    tally.list_read(a_list("ada", "i1"))
    clock.seconds += IDLE_SECONDS + 0.1

    tally.list_read(a_list("bob", "i9"))

    assert tally.person == Person("bob", [], ["i9"], 1, clock.seconds)


def test_percentiles_are_the_median_and_the_slowest_hundredth() -> None:
    p50, p99 = percentiles([number / 100 for number in range(101)])

    assert (p50, p99) == pytest.approx((0.5, 0.99))
    assert all(map(math.isnan, percentiles([])))
    assert percentiles([0.25]) == Percentiles(0.25, 0.25)
