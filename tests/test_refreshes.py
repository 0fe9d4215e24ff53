"""Lists are put off only where a backlog lasts, never for longer than they may be, and none is lost."""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from stream_fakes import Record, Topic, click
from worker_fakes import SMALL, Clock, FakeWorker

from consumer.records import Taken
from consumer.refreshes import Refreshes
from producer.events import Forget

pytestmark = pytest.mark.usefixtures("quick_disk")


def decided(refreshes, clock, steps, *, at_once=False):
    """What is decided for steps, each (seconds since the one before, whether more wait)."""
    found = []
    for seconds, more_wait in steps:
        clock.seconds += seconds
        found.append(refreshes.decide(more_wait=more_wait, at_once=at_once))
    return found


def test_a_short_backlog_has_lists_at_every_step():
    clock = Clock()

    found = decided(Refreshes(5, clock), clock, [(0, True), (2, True), (2.9, True), (0.1, False), (4, True), (4, True)])

    assert found == [True] * 6


def test_a_long_backlog_has_lists_once_in_so_many_seconds():
    clock = Clock()

    found = decided(Refreshes(5, clock), clock, [(0, True), *[(1, True)] * 16])

    # From 5 s on there are lists when the last ones are 5 s old.
    assert [second for second, has_lists in enumerate(found) if has_lists] == [0, 1, 2, 3, 4, 9, 14]


def test_where_the_backlog_is_gone_lists_are_made_at_once():
    clock = Clock()
    refreshes = Refreshes(5, clock)
    decided(refreshes, clock, [(0, True), *[(1, True)] * 7])

    assert decided(refreshes, clock, [(0.01, False), (0.01, True)]) == [True, True]


def test_lists_that_must_be_made_are_made_and_0_puts_none_off():
    clock = Clock()

    assert all(decided(Refreshes(5, clock), clock, [(1, True)] * 20, at_once=True))
    assert all(decided(Refreshes(0, clock), clock, [(1, True)] * 20))


def step(*users, forgotten=(), evicted=()):
    return SimpleNamespace(
        users_B=np.array(users, dtype=np.int64),
        forgotten=list(forgotten),
        evicted_U=np.array(evicted, dtype=np.int64),
    )


OWN_TIMES, OWN_TIME = np.array([1, 2, 3]), np.array([4])


def taken(*offsets):
    return Taken([Record(0, offset, time_ms=1000 + offset) for offset in offsets])


def test_what_waited_is_made_with_the_next_lists_and_a_forgotten_user_is_left_out():
    clock = Clock()
    refreshes = Refreshes(5, clock)

    first = refreshes.after(step(3, 4, 3), taken(7, 8, 9), np.array([0, 1, 2]), OWN_TIMES, has_lists=False)
    assert (len(first.users_E), refreshes.is_waiting) == (0, True)
    clock.seconds += 2
    assert refreshes.staleness_seconds() == 2

    # user 4 is forgotten, and a stranger gets the row
    second = refreshes.after(
        step(4, forgotten=[("v", 4), ("w", -1)]), taken(10), np.array([0]), OWN_TIME, has_lists=True
    )

    assert second.users_E.tolist() == [3, -1, 3, 4]
    assert second.offset_E.tolist() == [7, 8, 9, 10]
    assert second.time_E.tolist() == second.shown_time_E.tolist() == [1007, 1008, 1009, 1010]
    assert second.users().tolist() == [3, 4]
    assert not refreshes.is_waiting
    assert refreshes.staleness_seconds() == 0


def test_whose_row_was_given_back_while_the_list_waited_keeps_the_list_they_have():
    refreshes = Refreshes(5, Clock())
    refreshes.after(step(3, 4, 5), taken(7, 8, 9), np.array([0, 1, 2]), OWN_TIMES, has_lists=False)
    refreshes.after(step(6, evicted=[5, 3]), taken(10), np.array([0]), OWN_TIME, has_lists=False)

    found = refreshes.after(step(3), taken(11), np.array([0]), OWN_TIME, has_lists=True)  # a stranger has the row

    assert found.users_E.tolist() == [-1, 4, -1, 6, 3]


def test_nothing_that_waits_touches_nobody():
    assert Refreshes(5, Clock()).waiting().users().tolist() == []


class Slow(Topic):
    """40 events of four users, one of whom is forgotten on the way."""

    def __init__(self):
        super().__init__()
        for number in range(40):
            self.append(0, click(f"u{number % 4}", f"i{number}"))
            if number == 25:
                self.append(0, Forget(user_id="u1", timestamp=1))


@pytest.fixture
def start(tmp_path):
    """A function that starts a worker on this test's folder, on a clock that a take moves by a second."""
    started = []

    def run(**named):
        for one in started:
            one.close()
        worker = FakeWorker(tmp_path, Slow(), max_staleness_seconds=5.0, **named)
        take = worker.source.take

        def later(*given):
            worker.clock.seconds += 1
            return take(*given)

        worker.source.take = later
        started.append(worker)
        return worker

    yield run

    for one in started:
        one.close()


def test_with_few_users_kept_lists_that_waited_are_of_those_who_are_kept(start):
    settings = replace(SMALL, max_users=2)
    crashed, calls = start(settings=settings), iter(range(14))
    with pytest.raises(StopIteration):
        crashed.run(batch_size=2, stopping=lambda: next(calls) < 0)
    before = crashed.messages()

    again = start(settings=settings)
    again.run(batch_size=2)

    assert sum(len(batch.step.evicted_U) for batch in again.observer.batches) > 20
    assert again.messages()[: len(before)] == before
    assert again.learner.users.in_use == 2
    assert newest(again).keys() == {"u0", "u1", "u2", "u3"}  # of those who went, an earlier one
    assert again.publisher.tombstones == ["u1"]


def newest(worker):
    """Each user's newest list: the offset that it reflects, and its items."""
    return {one.user_id: (one.source.offset, [item.item_id for item in one.items]) for one in worker.publisher.lists}


def test_a_backlog_ends_with_a_list_of_each_user_that_reflects_the_newest_event(start):
    worker = start()

    worker.run(batch_size=2)

    offsets = {user: offset for user, (offset, _) in newest(worker).items()}
    assert offsets == {"u0": 37, "u1": 38, "u2": 39, "u3": 40}
    with_lists = [len(batch.lists.users_U) > 0 for batch in worker.observer.batches]
    assert with_lists[:5] == [True] * 5
    assert 2 <= sum(with_lists[5:]) <= 5  # once in five takes, and the last
    assert sum(len(times) for times, _ in worker.fresh) == 38  # two of u1 waited when the user was forgotten
    assert worker.publisher.tombstones == ["u1"]


def test_no_checkpoint_is_made_while_lists_wait(start):
    worker = start(every_seconds=7)
    saves = []
    save = worker.store.keep
    worker.store.keep = lambda *given: (saves.append(worker.refreshes.is_waiting), save(*given))[1]

    worker.run(batch_size=2)

    assert len(saves) > 2
    assert not any(saves)


def test_steps_made_again_after_a_crash_have_lists_where_they_had_them(start):
    crashed, calls = start(), iter(range(12))
    with pytest.raises(StopIteration):
        crashed.run(batch_size=2, stopping=lambda: next(calls) < 0)
    before = crashed.messages()

    again = start()
    again.run(batch_size=2)

    assert len(before) > 8
    assert again.messages()[: len(before)] == before
    with_lists = [[len(batch.lists.users_U) > 0 for batch in one.observer.batches] for one in (crashed, again)]
    assert with_lists[1][:12] == with_lists[0]
    assert False in with_lists[0]
    assert newest(again).keys() == {"u0", "u1", "u2", "u3"}


# --- where no event comes any more ---


def stalling(worker, after, *, is_known_to_have_more=False):
    """Let nothing come after so many takes; a function that lets it come again."""
    take, is_behind, calls = worker.source.take, worker.source.is_behind, count(1)
    may_come, stalled = [], [False]

    def slow_take(*given):
        stalled[0] = not may_come and next(calls) > after
        return [] if stalled[0] else take(*given)

    worker.source.take = slow_take
    worker.source.is_behind = lambda: (is_known_to_have_more or not stalled[0]) and is_behind()
    return lambda: may_come.append(True)


def test_lists_wait_on_where_more_is_only_slow_to_come_but_no_longer_than_they_may(start):
    worker, calls = start(every_seconds=1000), count(1)
    worker.progress.due = lambda: False
    stalling(worker, after=9, is_known_to_have_more=True)

    def stopping():
        call = next(calls)
        if call == 14:
            assert len(worker.observer.batches) == 9
            assert worker.refreshes.is_waiting
            worker.clock.seconds += 1000
        return call > 16

    worker.run(batch_size=2, stopping=stopping)

    assert [len(batch.taken) for batch in worker.observer.batches[8:]] == [2, 0]
    assert len(worker.observer.batches[-1].lists.users_U) == 4


def test_lists_that_wait_are_published_and_saved_as_soon_as_nothing_comes(start):
    worker, calls = start(every_seconds=1), count(1)
    worker.progress.due = lambda: False  # or the next step would have to have lists
    stalling(worker, after=9)

    worker.run(batch_size=2, stopping=lambda: next(calls) > 10)

    *_, before, last = worker.observer.batches
    assert (len(before.lists.users_U), len(last.taken)) == (0, 0)
    assert {user: offset for user, (offset, _) in newest(worker).items()} == {"u0": 16, "u1": 17, "u2": 14, "u3": 15}
    assert worker.refreshes.staleness_seconds() == 0
    assert worker.progress.saved.step == 10


def test_lists_of_a_step_without_records_are_made_again_after_a_crash(start):
    crashed, calls = start(), iter(range(13))
    stalling(crashed, after=9)
    with pytest.raises(StopIteration):
        crashed.run(batch_size=2, stopping=lambda: next(calls) < 0)
    before = crashed.messages()

    again = start()
    again.run(batch_size=2)

    assert [len(batch.taken) for batch in crashed.observer.batches[8:]] == [2, 0]
    assert [len(batch.taken) for batch in again.observer.batches[8:11]] == [2, 0, 2]
    assert again.messages()[: len(before)] == before
    assert again.progress.counts.learned == 41


def test_a_stop_among_steps_made_again_without_lists_leaves_the_save_before_them(start):
    crashed, calls = start(), iter(range(12))
    with pytest.raises(StopIteration):
        crashed.run(batch_size=2, stopping=lambda: next(calls) < 0)
    stopped, calls = start(), count(1)

    stopped.run(batch_size=2, stopping=lambda: next(calls) > 8)

    assert stopped.refreshes.is_waiting
    assert stopped.progress.saved.step == 0
    again = start()
    again.run(batch_size=2)
    assert again.messages()[: len(crashed.messages())] == crashed.messages()


def test_the_last_step_of_a_backlog_has_lists_though_it_is_full(start):
    worker = start()

    worker.run(batch_size=41 // 4)  # 10, 10, 10, 10, 1
    worker.source.topic.append(0, *[click("u0", f"i{number}") for number in range(44)])
    worker.run(batch_size=2)

    assert [len(batch.taken) for batch in worker.observer.batches[-2:]] == [2, 2]
    assert [len(batch.lists.users_U) for batch in worker.observer.batches[-2:]] == [0, 1]


def test_a_worker_whose_steps_are_full_and_leave_nothing_is_not_behind(start):
    worker = start()
    take = worker.source.take

    def one_more(*given):
        worker.source.topic.append(0, click("u0", "i1"))
        return take(*given)

    worker.run()
    worker.source.take = one_more
    worker.run(batch_size=1, until={0: 61})

    assert [len(batch.taken) for batch in worker.observer.batches[1:]] == [1] * 20
    assert all(len(batch.lists.users_U) for batch in worker.observer.batches)
