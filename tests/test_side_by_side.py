"""Work in several threads: all of it is done once, nobody waits for a thread that did not come, errors come out."""

import threading
import time

import pytest

from model.kernels.compiled import IS_COMPILED
from model.side_by_side import SideBySide

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")


def test_each_thread_gets_a_number_and_they_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)  # which breaks where fewer come
    threads: dict[int, str] = {}

    def work(number: int) -> None:
        threads[number] = threading.current_thread().name
        together.wait()

    SideBySide(3)(work, 100)

    assert sorted(threads) == [0, 1, 2]
    assert threads[0] == threading.current_thread().name
    assert len(set(threads.values())) == 3


@pytest.mark.parametrize(("threads", "shares", "calls"), [(1, 9, 1), (4, 0, 1), (4, 1, 1), (4, 2, 2), (4, 9, 4)])
def test_no_more_threads_than_shares(threads: int, shares: int, calls: int) -> None:
    come = threading.Barrier(calls, timeout=10)
    numbers = []

    def work(number: int) -> None:
        numbers.append(number)
        come.wait()

    SideBySide(threads)(work, shares)

    assert sorted(numbers) == list(range(calls))


def test_a_thread_that_has_not_come_when_all_is_done_is_not_waited_for() -> None:
    side_by_side, is_free, left = SideBySide(2), threading.Event(), list(range(5))
    done: dict[int, list[int]] = {0: [], 1: []}

    def work(number: int) -> None:
        while left:
            done[number].append(left.pop())

    busy = side_by_side._others.submit(is_free.wait, 10)  # the other thread has something else to do
    try:
        side_by_side(work, 5)
    finally:
        is_free.set()

    assert done == {0: [4, 3, 2, 1, 0], 1: []}
    assert busy.result()


@pytest.mark.parametrize("which", [0, 1])
def test_what_a_call_raises_comes_out_once_all_have_ended(which: int) -> None:
    come, ended = threading.Barrier(2, timeout=10), []

    def work(number: int) -> None:
        come.wait()
        if number == which:
            raise RuntimeError(f"thread {number}")
        ended.append(number)

    with pytest.raises(RuntimeError, match=f"thread {which}"):
        SideBySide(2)(work, 2)

    assert ended == [1 - which]


def test_an_error_leaves_only_when_every_thread_has_ended() -> None:
    come, ended = threading.Barrier(3, timeout=10), []

    def work(number: int) -> None:
        come.wait()
        if number == 1:
            raise RuntimeError("thread 1")
        time.sleep(0.2 * number)
        ended.append(number)

    with pytest.raises(RuntimeError, match="thread 1"):
        SideBySide(3)(work, 3)

    assert ended == [0, 2]


def test_where_the_system_gives_no_thread_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    numbers: list[int] = []
    side_by_side = SideBySide(3)
    monkeypatch.setattr(threading.Thread, "start", refused)

    side_by_side(numbers.append, 9)

    assert numbers == [0]


def test_less_than_one_thread_is_refused() -> None:
    with pytest.raises(ValueError, match="threads: expected at least 1, got 0"):
        SideBySide(0)
