"""Only a list that changed is published; made again it is the same message, byte for byte."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from stream_fakes import TIME_MS, Record
from worker_fakes import keys_and_values

from consumer.kernels.lists import MOST_SCORE, find_coded, replace_lists, unpack_lists, write_lists
from consumer.last_lists import LastLists
from consumer.lists import Behind, ListWriter, Messages, UserList, Written, messages_of, recommendations_of, warm_up
from consumer.records import Taken
from consumer.refreshes import Touches
from model.topk import Lists
from model.vocabulary import Vocabulary
from producer.events import Recommendations, ScoredItem, SourceEvent, encode


class ListOf(NamedTuple):
    user: str
    rows: list[int]
    scores: list[float] | None = None


ACKNOWLEDGED_AT = 1_700_000_123.5


@dataclass
class Publisher:
    """Remembers what was sent; `acknowledge` answers for the broker, a second later for each message."""

    sent: list = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    waiting: list = field(default_factory=list)

    def send(self, messages, on_delivery=None):
        received = keys_and_values(messages)
        for key, value in received:
            self.sent.append(msgspec.json.decode(value, type=Recommendations))
            self.values.append(value)
            assert self.sent[-1].user_id == key.decode()
        self.waiting.append((on_delivery, len(received)))

    def forget(self, user_id):
        self.sent.append(user_id)

    def acknowledge(self):
        for on_delivery, lists in self.waiting:
            on_delivery(np.arange(lists)[::-1], ACKNOWLEDGED_AT + np.arange(lists)[::-1])
        self.waiting.clear()


class Desk:
    """A writer with all it needs, and what it told. Item rows are those of "item 0", "item 1", ..."""

    def __init__(self, always=False, topic="events", items=100):
        self.publisher, self.last, self.fresh = Publisher(), LastLists(), []
        self.users, self.items, self.catalogue = Vocabulary(), Vocabulary(), Vocabulary()
        self.items.rows([f"item {row}" for row in range(items)])
        self.catalogue.rows([f"cold {row}" for row in range(5)])
        self.writer = ListWriter(
            self.publisher,
            self.last,
            lambda times, at, lists: self.fresh.append((times.tolist(), None if at is None else at.tolist(), lists)),
            topic=topic,
            users=self.users,
            items=self.items,
            catalogue=lambda: self.catalogue,
            always=always,
        )

    def write(self, *lists, records=None, version=7):
        """`records`: those behind each list."""
        records = records or [[(0, 5, TIME_MS + 5)]] * len(lists)
        return self.writer.write(self.arrays(lists), behind_of(records), version, TIME_MS + 99)

    def arrays(self, lists):
        k = max((len(one.rows) for one in lists), default=0)
        codes_UK = np.full((len(lists), k), 2**31 - 1, dtype=np.int32)  # what is behind a list's end means nothing
        scores_UK = np.full((len(lists), k), np.nan, dtype=np.float32)
        for place, one in enumerate(lists):
            codes_UK[place, : len(one.rows)] = one.rows
            scores_UK[place, : len(one.rows)] = one.scores or [1.0] * len(one.rows)
        lengths_U = np.array([len(one.rows) for one in lists], dtype=np.int32)
        return Lists(self.users.rows([one.user for one in lists]), codes_UK, lengths_U, scores_UK)


def behind_of(records):
    """Events (partition, offset, timestamp) behind each list."""
    newest = np.array([of_list[-1] for of_list in records], dtype=np.int64).reshape(-1, 3)
    times = [time_ms for of_list in records for _, _, time_ms in of_list]
    starts = np.cumsum([0, *map(len, records)])
    return Behind(starts, np.array(times, dtype=np.int64), newest[:, 0], newest[:, 1], newest[:, 2])


@pytest.fixture
def desk():
    return Desk()


# --- what is sent ---


def test_a_list_that_changed_is_sent_and_one_that_did_not_is_not(desk):
    desk.write(ListOf("u", [3, 1]), ListOf("v", [2]))

    written = desk.write(ListOf("u", [3, 1]), ListOf("v", [4]), ListOf("w", [5]))

    assert written == Written(sent=2, unchanged=1)
    assert [message.user_id for message in desk.publisher.sent] == ["u", "v", "v", "w"]


def test_scores_alone_make_no_change(desk):
    desk.write(ListOf("u", [3, 1], [0.9, 0.8]))

    assert desk.write(ListOf("u", [3, 1], [0.5, 0.1])) == Written(sent=0, unchanged=1)


def test_always_sends_unchanged_lists_too_and_counts_each_list_once():
    desk = Desk(always=True)
    desk.write(ListOf("u", [3, 1]))
    desk.publisher.acknowledge()
    desk.fresh.clear()

    written = desk.write(ListOf("u", [3, 1], [0.5, 0.25]), ListOf("v", [2]), version=8)

    assert written == Written(sent=2, unchanged=0)
    assert [message.model_version for message in desk.publisher.sent] == [7, 8, 8]
    assert desk.fresh == [], "the effect of an event is a list that the broker has"
    desk.publisher.acknowledge()
    assert [lists for _, _, lists in desk.fresh] == [2]


def test_the_message_says_items_version_time_and_the_newest_event_of_that_user(desk):
    records = [[(0, 5, TIME_MS + 5), (1, 3, TIME_MS - 7)], [(0, 900, TIME_MS)]]

    desk.write(ListOf("u", [3, -2, 1], [0.9, 0.25, -1.5]), ListOf("v", [], []), records=records, version=12)

    message, empty = desk.publisher.sent
    assert (message.user_id, message.model_version, message.generated_at) == ("u", 12, TIME_MS + 99)
    assert message.items == [
        ScoredItem("item 3", pytest.approx(0.9, abs=1e-9)),
        ScoredItem("cold 1", 0.25),
        ScoredItem("item 1", -1.5),
    ]
    assert message.source == SourceEvent("events", 1, 3, TIME_MS - 7)
    assert (empty.user_id, empty.items) == ("v", [])


def test_a_list_whose_scores_are_too_large_for_the_compiled_writer_is_sent_all_the_same(desk):
    huge = [float(np.float32(3e30)), 0.5]

    written = desk.write(
        ListOf("u", [1]), ListOf("v", [3, -1], huge), ListOf("w", [2], [-MOST_SCORE]), ListOf("x", [4])
    )

    by_user = {message.user_id: message for message in desk.publisher.sent}
    assert written == Written(sent=4, unchanged=0)
    assert by_user["v"].items == [ScoredItem("item 3", huge[0]), ScoredItem("cold 0", 0.5)]
    assert by_user["w"].items == [ScoredItem("item 2", float(np.float32(-MOST_SCORE)))]
    assert by_user["v"].source == by_user["u"].source
    desk.publisher.acknowledge()
    assert sum(lists for _, _, lists in desk.fresh) == 4


def test_lists_that_do_not_fit_the_buffer_at_once_are_sent_one_bufferful_after_the_other():
    desk = Desk(items=4)
    desk.writer._buffer = np.empty(3000, dtype=np.uint8)

    written = desk.write(*(ListOf(f"u{number}", [1, 2, 3]) for number in range(40)))

    assert written.sent == 40
    assert [message.user_id for message in desk.publisher.sent] == [f"u{number}" for number in range(40)]
    assert len(desk.publisher.waiting) == 5
    desk.publisher.acknowledge()
    assert sum(lists for _, _, lists in desk.fresh) == 40


def test_a_message_larger_than_the_buffer_makes_it_grow():
    desk = Desk(items=900)
    desk.writer._buffer = np.empty(100, dtype=np.uint8)

    desk.write(ListOf("u", list(range(900))))

    (message,) = desk.publisher.sent
    assert [item.item_id for item in message.items] == [f"item {row}" for row in range(900)]


def test_ids_beyond_the_first_growth_of_a_vocabulary_are_found(desk):
    desk.write(ListOf("u", [1]))
    desk.items.rows([f"new {number}" for number in range(5000)])

    desk.write(ListOf("u", [100 + 4321]), ListOf("somebody new", [1]))

    assert [item.item_id for item in desk.publisher.sent[1].items] == ["new 4321"]
    assert desk.publisher.sent[2].user_id == "somebody new"


def test_a_list_made_again_is_the_same_byte_for_byte():
    made = []
    for _ in range(2):
        desk = Desk()
        desk.write(ListOf("u", [3, 1], [0.1 + 0.2, 1 / 3]), version=12)
        made += desk.publisher.values

    assert made[0] == made[1]


def made(user="u", version=12, topic="events", number=0, place=5, time_ms=TIME_MS):
    """The id of a list, by the compiled writer; the plain one must agree."""
    desk = Desk(topic=topic)
    desk.write(ListOf(user, [3]), records=[[(number, place, time_ms)]], version=version)
    source = SourceEvent(topic, number, place, time_ms)
    plain = recommendations_of(UserList(user, ["item 3"], [1.0]), source, version, TIME_MS + 99)
    assert desk.publisher.sent == [plain]
    return plain.recommendation_id


def test_the_recommendation_id_differs_with_topic_partition_offset_user_and_version():
    ids = [made(), made(user="v"), made(version=13), made(number=1), made(place=6), made(topic="other")]

    assert len(set(ids)) == len(ids)
    assert made(time_ms=1) == made()
    assert all(len(one) == 32 for one in ids)


def test_ids_that_run_into_each_other_are_told_apart():
    assert made(user="1u", place=5, version=1) != made(user="u", place=51, version=1)


def test_messages_are_keys_and_values_end_to_end():
    source = SourceEvent("events", 0, 5, TIME_MS)
    lists = [recommendations_of(UserList(user, ["i"], [0.5]), source, 1, 2) for user in ("ü", "v")]

    messages = messages_of(lists)

    assert keys_and_values(messages) == [("ü".encode(), encode(lists[0])), (b"v", encode(lists[1]))]
    assert messages_of([]) == Messages(b"", [0])


# --- when events had their effect ---


def test_every_event_behind_a_list_is_fresh_once_it_is_acknowledged(desk):
    records = [[(0, 1, TIME_MS + 1), (0, 2, TIME_MS + 2)], [(0, 3, TIME_MS + 3)]]

    desk.write(ListOf("u", [3]), ListOf("v", [4]), records=records)
    before = list(desk.fresh)
    desk.publisher.acknowledge()

    assert before == []
    later = ACKNOWLEDGED_AT + 1
    assert desk.fresh == [([TIME_MS + 3, TIME_MS + 1, TIME_MS + 2], [later, ACKNOWLEDGED_AT, ACKNOWLEDGED_AT], 2)]


def test_behind_lists_that_did_not_change_events_are_fresh_at_once(desk):
    desk.write(ListOf("u", [3]), ListOf("w", [5]))
    desk.publisher.acknowledge()
    desk.fresh.clear()

    records = [[(0, 8, TIME_MS + 8), (0, 9, TIME_MS + 9)], [(0, 10, TIME_MS + 10)], [(0, 11, TIME_MS + 11)]]
    desk.write(ListOf("u", [3]), ListOf("v", [4]), ListOf("w", [5]), records=records)
    at_once = list(desk.fresh)
    desk.publisher.acknowledge()

    assert at_once == [([TIME_MS + 8, TIME_MS + 9, TIME_MS + 11], None, 0)]
    assert desk.fresh[1:] == [([TIME_MS + 10], [ACKNOWLEDGED_AT], 1)]


def test_forgetting_sends_a_tombstone_for_each_and_the_next_list_is_sent_whatever_it_is(desk):
    desk.write(ListOf("u", [3]))

    desk.writer.forget([("u", 0), ("stranger", -1)])
    written = desk.write(ListOf("u", [3]))

    assert written == Written(sent=1, unchanged=0)
    assert desk.publisher.sent[1:3] == ["u", "stranger"]
    assert desk.publisher.sent[3].user_id == "u"


def test_who_gets_the_row_of_a_forgotten_user_is_not_compared_with_that_users_list(desk):
    desk.write(ListOf("u", [3]))
    row = desk.users.remove("u")

    desk.writer.forget([("u", row)])
    written = desk.write(ListOf("v", [3]))

    assert desk.users.row("v") == row
    assert written == Written(sent=1, unchanged=0)


def test_whose_row_is_given_back_keeps_the_list_and_who_gets_the_row_has_none(desk):
    desk.write(ListOf("idle", [1, 2]))
    row = desk.users.remove("idle")

    desk.writer.let_go(np.array([row]))

    assert [one.user_id for one in desk.publisher.sent] == ["idle"]  # no tombstone
    assert desk.write(ListOf("stranger", [1, 2])) == Written(1, 0)


def test_a_list_that_names_an_item_on_its_way_out_is_not_compared_with_that_of_who_gets_its_row(desk):
    desk.write(ListOf("u", [1, 2]), ListOf("v", [2, 3]), ListOf("w", [1, -2]))
    leaving_I = np.array([False, True, False, False])

    desk.writer.let_items_leave(0, 2, leaving_I)

    assert len(desk.publisher.sent) == 3  # no tombstone
    assert desk.write(ListOf("u", [1, 2]), ListOf("v", [2, 3]), ListOf("w", [1, -2])) == Written(1, 2)
    desk.writer.let_items_leave(1, 10**6, leaving_I)
    assert desk.write(ListOf("u", [1, 2]), ListOf("v", [2, 3]), ListOf("w", [1, -2])) == Written(1, 2)


def test_a_list_that_names_a_row_of_the_catalogue_is_not_compared_with_one_of_who_gets_that_row(desk):
    desk.write(ListOf("u", [1, -2]), ListOf("v", [-1, 3]), ListOf("w", [2]))

    desk.writer.give_back_codes(np.array([1, 4]))

    assert desk.write(ListOf("u", [1, -2]), ListOf("v", [-1, 3]), ListOf("w", [2])) == Written(1, 2)


def test_no_lists_are_no_messages(desk):
    assert desk.write() == Written(0, 0)
    assert desk.publisher.sent == []
    assert desk.fresh == []


def test_warming_up_sends_nothing_and_compiles_what_a_step_needs(desk):
    warm_up()
    compiled = signatures()

    desk.write(ListOf("u", [3, -1], [0.5, 0.25]))
    desk.last.clear_coded(np.array([-3]))
    desk.last.load(desk.last.state())

    assert signatures() == compiled


def signatures():
    """What each kernel was compiled for; nothing where it is interpreted."""
    return [getattr(kernel, "signatures", []) for kernel in (replace_lists, find_coded, unpack_lists, write_lists)]


def test_the_events_behind_lists_are_those_of_their_users_in_stream_order():
    records = [Record(1, 5), Record(9, 9), Record(2, 9), Record(0, 3), Record(0, 0), Record(0, 4)]
    taken = Taken([replace(one, time_ms=TIME_MS + one.place) for one in records])
    # the second record is no event
    touches = Touches.of(np.array([7, 4, 7, -1, 9]), taken, np.array([0, 2, 3, 4, 5]), np.zeros(5, np.int64))

    behind = ListWriter.behind(np.array([4, 7]), touches)

    assert [array.tolist() for array in behind] == [
        [0, 1, 3],
        [TIME_MS + 9, TIME_MS + 5, TIME_MS + 3],
        [2, 0],
        [9, 3],
        [TIME_MS + 9, TIME_MS + 3],
    ]
    other_order = ListWriter.behind(np.array([7, 4]), touches)
    assert other_order.starts_U.tolist() == [0, 2, 3]
    assert other_order.offset_U.tolist() == [3, 9]


def test_a_list_whose_newest_record_has_no_time_shows_the_events_own():
    taken = Taken([Record(0, 0), Record(0, 1, time_ms=-1), Record(0, 2, time_ms=-1)])
    touches = Touches.of(np.array([7, 7, 4]), taken, np.arange(3), np.array([55, 66, 77]))

    behind = ListWriter.behind(np.array([4, 7]), touches)

    assert behind.timestamp_U.tolist() == [77, 66]
    assert behind.times_E.tolist() == [-1, TIME_MS, -1]


def test_no_lists_have_no_events_behind_them():
    nothing = np.zeros(0, dtype=np.int64)

    for users in ([], [-1], [5]):
        zeros = np.zeros(len(users), np.int64)
        touches = Touches.of(np.array(users, dtype=np.int64), Taken([Record(0, 0)]), zeros, zeros)
        behind = ListWriter.behind(nothing, touches)
        assert behind.starts_U.tolist() == [0]
        assert len(behind.times_E) == len(behind.offset_U) == 0
