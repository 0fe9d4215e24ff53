"""Looking out for partitions that are added to a topic: nobody waits for the answer."""

from collections.abc import Callable, Iterator
from threading import Event

import pytest

from consumer.partitions import Lookout


class Topic:
    """Answers with its partitions, once it may."""

    def __init__(self) -> None:
        self.partitions = [0, 1]
        self.broken = False
        self.asked = 0
        self.may_answer = Event()
        self.may_answer.set()

    def ask(self) -> list[int]:
        self.asked += 1
        assert self.may_answer.wait(30)
        if self.broken:
            raise ValueError("not asked well")
        return self.partitions


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def look(topic: Topic, clock: Clock) -> Iterator[Callable[[], list[int]]]:
    """A function that looks out for more partitions than 0 and 1, and waits for an answer that may be given."""
    lookout = Lookout(topic.ask, every_seconds=30, clock=clock)

    def once() -> list[int]:
        found = lookout.new_partitions({0, 1})
        if lookout._asking is not None and topic.may_answer.is_set():
            lookout._asking.exception(30)
        return found

    yield once

    topic.may_answer.set()
    lookout.close()
    lookout.close()


def test_nothing_is_asked_before_its_time(topic: Topic, clock: Clock, look: Callable[[], list[int]]) -> None:
    clock.seconds = 29.9

    assert [look(), look()] == [[], []]
    assert topic.asked == 0


def test_what_was_added_is_told_once_in_order(topic: Topic, clock: Clock, look: Callable[[], list[int]]) -> None:
    topic.partitions = [3, 0, 2, 1]
    clock.seconds = 30

    assert [look(), look(), look()] == [[], [2, 3], []]
    assert topic.asked == 1


def test_it_is_asked_again_after_the_same_time(topic: Topic, clock: Clock, look: Callable[[], list[int]]) -> None:
    clock.seconds = 30
    before = [look(), look()]
    topic.partitions = [0, 1, 2]
    clock.seconds = 60

    assert before == [[], []]
    assert [look(), look()] == [[], [2]]
    assert topic.asked == 2


def test_an_answer_that_takes_long_keeps_nobody_waiting(
    topic: Topic, clock: Clock, look: Callable[[], list[int]]
) -> None:
    topic.partitions = [0, 1, 2]
    topic.may_answer.clear()
    clock.seconds = 30

    meanwhile = [look(), look()]
    clock.seconds = 120
    meanwhile.append(look())
    topic.may_answer.set()

    assert meanwhile == [[], [], []]
    assert [look(), look()] in ([[], [2]], [[2], []])
    assert topic.asked == 1


def test_partitions_that_are_not_named_any_more_are_no_news(
    topic: Topic, clock: Clock, look: Callable[[], list[int]]
) -> None:
    topic.partitions = []
    clock.seconds = 30

    assert [look(), look()] == [[], []]


def test_a_question_that_fails_is_no_secret(clock: Clock) -> None:
    def fail() -> list[int]:
        raise ValueError("not asked well")

    lookout = Lookout(fail, every_seconds=30, clock=clock)
    clock.seconds = 30
    lookout.new_partitions({0})
    lookout.close()

    with pytest.raises(ValueError, match="not asked well"):
        lookout.new_partitions({0})


def test_after_a_question_that_failed_it_is_asked_again(
    topic: Topic, clock: Clock, look: Callable[[], list[int]]
) -> None:
    topic.broken = True
    clock.seconds = 30
    look()
    with pytest.raises(ValueError, match="not asked well"):
        look()
    topic.broken, topic.partitions = False, [0, 1, 2]
    clock.seconds = 60

    assert [look(), look()] == [[], [2]]
    assert topic.asked == 2
