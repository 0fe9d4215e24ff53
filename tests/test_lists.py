"""Only a list that changed is published; made again it is the same message, byte for byte."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_fakes import TIME_MS, Record

from consumer.lists import LastLists, ListWriter, Written, recommendations_of
from model.topk import UserList
from producer.events import ScoredItem, SourceEvent, encode


def list_of(user, rows, scores=None):
    """A list of items with these rows."""
    return UserList(user, rows, [f"item {row}" for row in rows], scores or [1.0] * len(rows))


def accepted(user, offset, partition=0, time_ms=None):
    del user
    return Record(partition, offset, time_ms=TIME_MS + offset if time_ms is None else time_ms)


ACKNOWLEDGED_AT = 1_700_000_123.5


@dataclass
class Publisher:
    """Remembers what was sent; `acknowledge` answers for the broker."""

    sent: list = field(default_factory=list)
    waiting: list = field(default_factory=list)

    def send(self, recommendations, on_delivery=None):
        self.sent.append(recommendations)
        self.waiting.append(on_delivery)

    def forget(self, user_id):
        self.sent.append(user_id)

    def acknowledge(self):
        for on_delivery in self.waiting:
            on_delivery(ACKNOWLEDGED_AT)
        self.waiting.clear()


class Desk:
    """A writer with all it needs, and what it told."""

    def __init__(self):
        self.publisher, self.last, self.fresh = Publisher(), LastLists(), []
        self.writer = ListWriter(self.publisher, self.last, lambda times, at: self.fresh.append((list(times), at)))

    def write(self, *lists, events=None, version=7):
        events = events or {one.user_id: [accepted(one.user_id, 5)] for one in lists}
        return self.writer.write(lists, events, version, TIME_MS + 99)


@pytest.fixture
def desk():
    return Desk()


# --- what has changed ---


def test_a_first_list_is_a_change():
    last = LastLists()

    assert last.replace(list_of("u", [3, 1]))
    assert len(last) == 1


@pytest.mark.parametrize("rows", [[3, 1, 2], [3, 2, 1], [3, 1], [3, 1, 2, 4], [], [3, 1, 5]])
def test_membership_and_order_make_a_change(rows):
    last = LastLists()
    last.replace(list_of("u", [3, 1, 2]))

    assert last.replace(list_of("u", rows)) == (rows != [3, 1, 2])
    assert not last.replace(list_of("u", rows)), "the newest is what the next one is compared with"


def test_scores_alone_make_no_change():
    last = LastLists()
    last.replace(list_of("u", [3, 1], [0.9, 0.8]))

    assert not last.replace(list_of("u", [3, 1], [0.5, 0.1]))


def test_each_user_is_compared_with_the_own_list_only():
    last = LastLists()
    last.replace(list_of("u", [3, 1]))

    assert last.replace(list_of("v", [3, 1]))
    assert not last.replace(list_of("u", [3, 1]))


def test_a_forgotten_user_has_no_last_list():
    last = LastLists()
    last.replace(list_of("u", [3, 1]))

    last.forget("u")
    last.forget("never seen")

    assert len(last) == 0
    assert last.replace(list_of("u", [3, 1]))


lists_of_users = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.lists(st.integers(0, 2**31 - 1), max_size=4)
)


@given(lists_of_users)
def test_saved_and_loaded_every_list_is_as_it_was(lists):
    last, restored = LastLists(), LastLists()
    for user, rows in lists.items():
        last.replace(list_of(user, rows))
    restored.replace(list_of("forgotten by load", [1]))

    restored.load(last.state())

    assert len(restored) == len(lists)
    assert not any(restored.replace(list_of(user, rows)) for user, rows in lists.items())
    for name, array in last.state().items():
        np.testing.assert_array_equal(restored.state()[name], array, strict=True)


def test_the_state_is_plain_arrays():
    last = LastLists()
    last.replace(list_of("ü", [3, 1]))
    last.replace(list_of("v", []))

    state = last.state()

    assert {name: (array.dtype.name, array.tolist()) for name, array in state.items()} == {
        "bytes": ("uint8", list("üv".encode())),
        "lengths": ("int64", [2, 1]),
        "item_rows": ("int32", [3, 1]),
        "list_lengths": ("int64", [2, 0]),
    }


@pytest.mark.parametrize(
    ("name", "array"),
    [("list_lengths", [2]), ("list_lengths", [2, 1]), ("lengths", [1]), ("item_rows", [3]), ("bytes", [65])],
)
def test_arrays_that_do_not_fit_together_are_refused(name, array):
    last = LastLists()
    last.replace(list_of("u", [3, 1]))
    last.replace(list_of("v", []))
    state = last.state()

    state[name] = np.array(array, dtype=state[name].dtype)

    with pytest.raises(ValueError, match=r"users that have a list|last lists"):
        LastLists().load(state)


# --- what is sent ---


def test_a_list_that_changed_is_sent_and_one_that_did_not_is_not(desk):
    desk.write(list_of("u", [3, 1]), list_of("v", [2]))

    written = desk.write(list_of("u", [3, 1]), list_of("v", [4]), list_of("w", [5]))

    assert written == Written(sent=2, unchanged=1)
    assert [message.user_id for message in desk.publisher.sent] == ["u", "v", "v", "w"]


def test_the_message_says_items_version_time_and_the_newest_event_of_that_user(desk):
    events = {
        "u": [accepted("u", 5), accepted("u", 3, partition=1, time_ms=TIME_MS - 7)],
        "v": [accepted("v", 900)],
    }

    desk.write(list_of("u", [3, 1], [0.9, 0.25]), events=events, version=12)

    (message,) = desk.publisher.sent
    assert (message.user_id, message.model_version, message.generated_at) == ("u", 12, TIME_MS + 99)
    assert message.items == [ScoredItem("item 3", 0.9), ScoredItem("item 1", 0.25)]
    assert message.source == SourceEvent("events", 1, 3, TIME_MS - 7)


def test_a_list_made_again_is_the_same_byte_for_byte():
    made = [
        encode(recommendations_of(list_of("u", [3, 1], [0.1 + 0.2, 1 / 3]), accepted("u", 5), 12, TIME_MS))
        for _ in range(2)
    ]

    assert made[0] == made[1]


def test_the_recommendation_id_differs_with_topic_partition_offset_user_and_version():
    def made(user="u", version=12, **record):
        one = Record(**{"number": 0, "place": 5, **record})
        return recommendations_of(list_of(user, [3]), one, version, TIME_MS).recommendation_id

    ids = [made(), made(user="v"), made(version=13), made(number=1), made(place=6), made(name="other")]

    assert len(set(ids)) == len(ids)
    assert made(time_ms=1, payload=b"other") == made()
    assert all(len(one) == 32 for one in ids)


def test_ids_that_run_into_each_other_are_told_apart():
    one = recommendations_of(list_of("1u", [3]), accepted("u", 5), 1, TIME_MS)
    other = recommendations_of(list_of("u", [3]), accepted("u", 51), 1, TIME_MS)

    assert one.recommendation_id != other.recommendation_id


# --- when events had their effect ---


def test_every_event_behind_a_list_is_fresh_once_it_is_acknowledged(desk):
    events = {"u": [accepted("u", 1), accepted("u", 2)], "v": [accepted("v", 3)]}

    desk.write(list_of("u", [3]), list_of("v", [4]), events=events)
    before = list(desk.fresh)
    desk.publisher.acknowledge()

    assert before == []
    assert desk.fresh == [([TIME_MS + 1, TIME_MS + 2], ACKNOWLEDGED_AT), ([TIME_MS + 3], ACKNOWLEDGED_AT)]


def test_behind_a_list_that_did_not_change_events_are_fresh_at_once(desk):
    desk.write(list_of("u", [3]))
    desk.publisher.acknowledge()
    desk.fresh.clear()

    desk.write(list_of("u", [3]), events={"u": [accepted("u", 8), accepted("u", 9)]})

    assert desk.fresh == [([TIME_MS + 8, TIME_MS + 9], None)]
    assert desk.publisher.waiting == []


def test_forgetting_sends_a_tombstone_for_each_and_the_next_list_is_sent_whatever_it_is(desk):
    desk.write(list_of("u", [3]))

    desk.writer.forget(["u", "stranger"])
    written = desk.write(list_of("u", [3]))

    assert written == Written(sent=1, unchanged=0)
    assert desk.publisher.sent[1:3] == ["u", "stranger"]
    assert desk.publisher.sent[3].user_id == "u"


def test_no_lists_are_no_messages(desk):
    assert desk.write() == Written(0, 0)
    assert desk.publisher.sent == []
