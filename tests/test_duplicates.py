"""An event_id among the last 100,000 of its partition is a duplicate."""

from collections import deque
from hashlib import blake2b

import numpy as np
import pytest
from columns import One, each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_fakes import Record

from consumer import duplicates as source
from consumer.decode import Decoder
from consumer.duplicates import CAPACITY
from consumer.records import Taken
from model.packing import pack
from producer.events import Click, encode


class RecentEventIds(source.RecentEventIds):
    """Splits events one by one."""

    def split(self, events):
        accepted, _ = Decoder()(Taken([one.record for one in events]))
        return tuple(each(part) for part in super().split(accepted))


def event(event_id, partition=0):
    made = Click(user_id="u", item_id="i", timestamp=1, event_id=event_id)
    return One(made, Record(partition, 0, encode(made)))


def ids(accepted):
    return [one.event.event_id for one in accepted]


def test_an_event_id_that_came_before_is_a_duplicate():
    recent = RecentEventIds()

    recent.split([event("a"), event("b")])
    fresh, duplicates = recent.split([event("c"), event("a"), event("d"), event("b")])

    assert ids(fresh) == ["c", "d"]
    assert ids(duplicates) == ["a", "b"]


def test_the_second_of_two_in_one_batch_is_the_duplicate():
    first, second = event("a"), event("a")

    fresh, duplicates = RecentEventIds().split([first, second])

    assert fresh == [first]
    assert duplicates[0].record is second.record


def test_an_event_without_an_event_id_is_never_a_duplicate():
    fresh, duplicates = RecentEventIds().split([event(None), event(None)])

    assert len(fresh) == 2
    assert duplicates == []


def test_the_same_id_on_two_partitions_is_two_events():
    fresh, duplicates = RecentEventIds().split([event("a", 0), event("a", 1)])

    assert len(fresh) == 2
    assert duplicates == []


def test_the_last_100_000_event_ids_are_remembered_and_not_one_more():
    recent = RecentEventIds()

    recent.split([event(str(number)) for number in range(CAPACITY)])
    _, remembered = recent.split([event("0")])
    fresh, _ = recent.split([event("one more"), event("1")])

    assert CAPACITY == 100_000
    assert ids(remembered) == ["0"]
    assert ids(fresh) == ["one more", "1"]


def test_a_repeat_counts_as_the_newest_so_that_it_is_still_recognised_later():
    recent = RecentEventIds(capacity=3)

    recent.split([event("a"), event("b"), event("a"), event("c"), event("d")])
    _, duplicates = recent.split([event("a")])

    assert ids(duplicates) == ["a"]


# Machines are shared: how long an example takes says nothing of the code.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.sampled_from(["a", "b", "ü", "\x00", "日本", "f" * 256]) | st.none()
streams = st.lists(st.tuples(names, st.integers(0, 2)), max_size=60)


@calm
@given(streams, st.integers(1, 6))
def test_the_split_is_that_of_a_plain_list_of_the_newest_ids(stream, capacity):
    newest = {partition: deque(maxlen=capacity) for partition in range(3)}
    expected = []
    for event_id, partition in stream:
        expected.append(event_id is not None and event_id in newest[partition])
        if event_id is not None:
            newest[partition].append(event_id)
    batch = [event(*one) for one in stream]

    fresh, duplicates = RecentEventIds(capacity).split(batch)

    assert fresh == [one for one, repeated in zip(batch, expected, strict=True) if not repeated]
    assert duplicates == [one for one, repeated in zip(batch, expected, strict=True) if repeated]


@calm
@given(streams, streams, st.integers(1, 6))
def test_saved_and_loaded_goes_on_as_if_never_stopped(before, after, capacity):
    never_stopped, restored = RecentEventIds(capacity), RecentEventIds(capacity)
    never_stopped.split([event(*one) for one in before])
    restored.split([event("forgotten by load")])

    restored.load(never_stopped.state())

    batch = [event(*one) for one in after]
    assert restored.split(batch) == never_stopped.split(batch)
    assert_same(restored.state(), never_stopped.state())


def test_a_window_that_went_round_is_saved_oldest_first():
    recent, restored = RecentEventIds(3), RecentEventIds(3)
    recent.split([event(one) for one in "abcde"])

    restored.load(recent.state())

    assert ids(restored.split([event("f"), event("c"), event("e")])[1]) == ["e"]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], strict=True)


def test_a_state_is_not_moved_by_what_comes_after_it():
    ids = RecentEventIds(3)
    ids.split([event("a", 0), event("b", 1)])
    state = ids.state()
    before = {name: array.copy() for name, array in state.items()}

    ids.split([event("c", 0), event("d", 0), event("e", 0)])

    assert_same(state, before)


def test_the_state_has_hashes_and_no_id_as_it_came():
    recent = RecentEventIds()
    recent.split([event("ada-order-1", 3), event("ü", 3), event(None, 4)])

    state = recent.state()

    assert list(state) == ["3.hashes"]
    assert state["3.hashes"].dtype == np.uint8
    assert state["3.hashes"].tobytes() == b"".join(
        blake2b(one.encode(), digest_size=16).digest() for one in ("ada-order-1", "ü")
    )


def test_ids_that_an_older_version_saved_are_recognised_and_saved_as_hashes():
    older = dict(zip(("0.bytes", "0.lengths"), pack(["ab", "ü"]), strict=True))
    restored, never_stopped = RecentEventIds(), RecentEventIds()
    never_stopped.split([event("ab"), event("ü")])

    restored.load(older)

    assert_same(restored.state(), never_stopped.state())
    assert ids(restored.split([event("ü"), event("new")])[1]) == ["ü"]


def test_a_smaller_capacity_after_a_restart_keeps_the_newest():
    recent, smaller = RecentEventIds(4), RecentEventIds(2)
    recent.split([event(one) for one in "abcd"])

    smaller.load(recent.state())

    assert ids(smaller.split([event("a"), event("b")])[0]) == ["a", "b"]


@pytest.mark.parametrize(
    "state",
    [
        {"0.bytes": np.zeros(3, np.uint8)},
        {"0.lengths": np.zeros(3, np.int64)},
        {"0.bytes": np.zeros(3, np.uint8), "0.lengths": np.array([1], np.int64)},
        {"0.bytes": np.zeros(3, np.uint8), "0.lengths": np.array([4, -1], np.int64)},
        {"0.bytes": np.zeros(0, np.uint8), "0.lengths": np.zeros(0, np.int64), "0.odd": np.zeros(1)},
        {"0.hashes": np.zeros(17, np.uint8)},
        {"0.hashes": np.zeros(16, np.uint8), "0.bytes": np.zeros(0, np.uint8)},
        {"odd": np.zeros(1)},
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(state):
    with pytest.raises(ValueError, match="event ids"):
        RecentEventIds().load(state)


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="capacity: expected at least 1"):
        RecentEventIds(0)
