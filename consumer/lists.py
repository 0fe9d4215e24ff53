"""From the model's lists to messages: only what changed is published, each numbered so that a repeat is the same.

A list is changed when its membership or order is not that of the last one of the user that was acknowledged.
While one is on its way it stands for the acknowledged one: should it fail, the worker stops and saves nothing.

Everything here is done for all lists of a step at once, on arrays: the comparison, the JSON (`consumer.kernels.lists`),
and the times at which events had their effect.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumer.kernels.lists import DECIMALS, MOST_SCORE, write_lists
from consumer.last_lists import LastLists
from consumer.refreshes import Touches
from producer.events import Recommendations, ScoredItem, SourceEvent, encode

BUFFER_BYTES: Final = 1 << 20
"""Messages are written so many bytes at a time."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class IdColumns(Protocol):
    """What `model.vocabulary.Vocabulary` has: the id of row r is the `length_R[r]` bytes of UTF-8 from `start_R[r]`."""

    @property
    def blob(self) -> NDArray[np.uint8]: ...
    @property
    def start_R(self) -> Ints: ...
    @property
    def length_R(self) -> NDArray[np.int32]: ...


class ListsOfUsers(Protocol):
    """What `model.topk.Lists` has: one list for each of U users."""

    @property
    def users_U(self) -> Ints: ...
    @property
    def codes_UK(self) -> NDArray[np.int32]: ...
    @property
    def lengths_U(self) -> NDArray[np.int32]: ...
    @property
    def scores_UK(self) -> NDArray[np.float32]: ...


class Behind(NamedTuple):
    """The events behind each list, in the order of the lists."""

    starts_U: Ints
    """Where the events of each list begin in `times_E`; one number more than there are lists."""
    times_E: Ints
    """Record timestamps in ms, list after list, in stream order inside of each; below 0 where a record has none."""
    partition_U: Ints
    offset_U: Ints
    timestamp_U: Ints
    """Of the record of the user's newest event; the event's own where the record has none."""


@dataclass(frozen=True)
class Messages:
    """Keys and values end to end."""

    data: bytes
    bounds: Sequence[int]
    """Key n is `data[bounds[2 * n]:bounds[2 * n + 1]]`, and its value goes on from there to `bounds[2 * n + 2]`."""


OnDelivery = Callable[[Ints, Doubles], None]
"""Numbers of messages, and when the broker had each, seconds since 1970."""


class Publishes(Protocol):
    """What `consumer.publish.Publisher` does with lists."""

    def send(self, messages: Messages, on_delivery: OnDelivery | None = None) -> None: ...

    def forget(self, user_id: str) -> None: ...


class Written(NamedTuple):
    sent: int
    unchanged: int
    """Not sent: what is always published is none of these."""


OnFresh = Callable[[Ints, Doubles | None, int], None]
"""Record timestamps in ms of events, below 0 where there is none; when the broker had the list behind each, seconds, or
None: these lists did not change; and how many lists the broker had."""


class ListWriter:
    """Sends the lists of a step that changed, and says when the events behind them had their effect."""

    def __init__(
        self,
        publisher: Publishes,
        last: LastLists,
        on_fresh: OnFresh,
        *,
        topic: str,
        users: IdColumns,
        items: IdColumns,
        catalogue: Callable[[], IdColumns | None] = lambda: None,
        always: bool = False,
    ) -> None:
        """`topic`: that of the events. `catalogue` has the ids of items without an event, codes below 0.

        `on_fresh` is called for many lists at once: after their acknowledgement, or at once for those that did not
        change. `always`: also unchanged lists are published.
        """
        self._publisher = publisher
        self._last = last
        self._on_fresh = on_fresh
        self._topic = topic
        self._topic_bytes = np.frombuffer(topic.encode(), dtype=np.uint8).copy()
        self._topic_json = np.frombuffer(msgspec.json.encode(topic), dtype=np.uint8).copy()
        self._users = users
        self._items = items
        self._catalogue = catalogue
        self._always = always
        self._buffer = np.empty(BUFFER_BYTES, dtype=np.uint8)

    def forget(self, forgotten: Sequence[tuple[str, int]]) -> None:
        """Publish a tombstone for each of these users. The second is the row that the user had, below 0 for none:
        another user may have it by now, whose list is not written yet.
        """
        self._last.clear([row for _, row in forgotten])
        for user_id, _ in forgotten:
            self._publisher.forget(user_id)

    def let_go(self, rows_U: Ints) -> None:
        """These rows were given back: their users keep the lists that they have, and what is next is news to them."""
        self._last.clear(rows_U.tolist())

    def let_items_leave(self, first: int, past: int, leaving_I: NDArray[np.bool_]) -> None:
        """Where lists of these rows name items that leave, what is next is news to their users."""
        self._last.clear_naming(first, past, leaving_I)

    def give_back_codes(self, catalogue_rows_X: Ints) -> None:
        """These rows of the catalogue go to other items: where lists name them, what is next is news to their users."""
        self._last.clear_coded(-1 - catalogue_rows_X)

    def write(self, lists: ListsOfUsers, behind: Behind, model_version: int, generated_at: int) -> Written:
        """Send what changed, as the lists of step `model_version`; `generated_at` in ms."""
        changed_U = self._last.replace(lists.users_U, lists.codes_UK, lists.lengths_U)
        sent_U = np.ones_like(changed_U) if self._always else changed_U
        if not sent_U.all():
            self._on_fresh(_events_behind(behind, np.flatnonzero(~sent_U))[0], None, 0)
        for lists_N, messages in self._messages(lists, behind, np.flatnonzero(sent_U), model_version, generated_at):
            self._publisher.send(messages, self._delivered(behind, lists_N))
        return Written(int(sent_U.sum()), int((~sent_U).sum()))

    @staticmethod
    def behind(users_U: Ints, touches: Touches) -> Behind:
        """The events of each of these users, of whom each has some; events of others are left out."""
        if not len(users_U):
            nothing = np.zeros(0, dtype=np.int64)
            return Behind(np.zeros(1, dtype=np.int64), nothing, nothing, nothing, nothing)
        by_row = np.argsort(users_U)
        places_E = np.searchsorted(users_U, touches.users_E, sorter=by_row)
        list_E = by_row[np.minimum(places_E, len(users_U) - 1)]
        is_listed_E = users_U[list_E] == touches.users_E
        order_E = np.flatnonzero(is_listed_E)[np.argsort(list_E[is_listed_E], kind="stable")]
        starts_U = np.concatenate(([0], np.cumsum(np.bincount(list_E[is_listed_E], minlength=len(users_U)))))
        newest_U = order_E[starts_U[1:] - 1]
        return Behind(
            starts_U,
            touches.time_E[order_E],
            touches.partition_E[newest_U],
            touches.offset_E[newest_U],
            touches.shown_time_E[newest_U],
        )

    def _delivered(self, behind: Behind, lists_N: Ints) -> OnDelivery:
        def delivered(numbers: Ints, at_seconds: Doubles) -> None:
            times_E, owner_E = _events_behind(behind, lists_N[numbers])
            self._on_fresh(times_E, at_seconds[owner_E], len(numbers))

        return delivered

    def _messages(
        self, lists: ListsOfUsers, behind: Behind, lists_N: Ints, model_version: int, generated_at: int
    ) -> Iterable[tuple[Ints, Messages]]:
        """The messages of the lists with these numbers, a bufferful at a time, and the numbers of their lists."""
        catalogue = self._catalogue_ids()
        fit_N = self._fit(lists, lists_N)
        plain_N, bounds = lists_N[fit_N], np.empty(2 * len(lists_N) + 1, dtype=np.int64)
        first = 0
        while first < len(plain_N):
            written = write_lists(
                first,
                plain_N,
                lists.users_U,
                lists.codes_UK,
                lists.lengths_U,
                lists.scores_UK,
                behind.partition_U,
                behind.offset_U,
                behind.timestamp_U,
                model_version,
                generated_at,
                self._topic_bytes,
                self._topic_json,
                self._users.blob,
                self._users.start_R,
                self._users.length_R,
                self._items.blob,
                self._items.start_R,
                self._items.length_R,
                catalogue.blob,
                catalogue.start_R,
                catalogue.length_R,
                self._buffer,
                bounds,
            )
            if not written:
                self._buffer = np.empty(2 * len(self._buffer), dtype=np.uint8)
                continue
            ends = bounds[: 2 * written + 1].tolist()
            yield plain_N[first : first + written], Messages(self._buffer[: ends[-1]].tobytes(), ends)
            first += written
        for number in lists_N[~fit_N].tolist():
            message = recommendations_of(
                self._list(lists, number), self._source(behind, number), model_version, generated_at
            )
            yield np.array([number]), messages_of([message])

    def _catalogue_ids(self) -> IdColumns:
        catalogue = self._catalogue()
        return self._items if catalogue is None else catalogue  # without a catalogue no code is below 0

    def _fit(self, lists: ListsOfUsers, lists_N: Ints) -> NDArray[np.bool_]:
        """Whether all scores of a list are such that the compiled writer can take it."""
        if not lists.scores_UK.shape[1]:
            return np.ones(len(lists_N), dtype=np.bool_)
        far_NK = ~(np.abs(lists.scores_UK[lists_N]) < MOST_SCORE)
        if not far_NK.any():
            return np.ones(len(lists_N), dtype=np.bool_)
        in_list_NK = np.arange(far_NK.shape[1]) < lists.lengths_U[lists_N, None]
        return np.asarray(~(far_NK & in_list_NK).any(1))

    def _list(self, lists: ListsOfUsers, number: int) -> "UserList":
        """One list with its ids."""
        length = int(lists.lengths_U[number])
        catalogue = self._catalogue_ids()
        items = [
            _name(self._items, code) if code >= 0 else _name(catalogue, -1 - code)
            for code in lists.codes_UK[number, :length].tolist()
        ]
        return UserList(
            _name(self._users, int(lists.users_U[number])), items, lists.scores_UK[number, :length].tolist()
        )

    def _source(self, behind: Behind, number: int) -> SourceEvent:
        return SourceEvent(
            self._topic,
            int(behind.partition_U[number]),
            int(behind.offset_U[number]),
            int(behind.timestamp_U[number]),
        )


class UserList(NamedTuple):
    """A user's list, best first."""

    user_id: str
    item_ids: Sequence[str]
    scores: Sequence[float]


def recommendations_of(one: UserList, source: SourceEvent, model_version: int, generated_at: int) -> Recommendations:
    """The message of a list. No wall clock: made again from the same events it is the same, byte for byte.

    What `consumer.kernels.lists.write_lists` writes is this, encoded.
    """
    named = f"{source.topic}\0{source.partition}\0{source.offset}\0{one.user_id}\0{model_version}"
    return Recommendations(
        user_id=one.user_id,
        recommendation_id=hashlib.sha256(named.encode()).hexdigest()[:32],
        generated_at=generated_at,
        model_version=model_version,
        source=source,
        items=[
            ScoredItem(item_id, round(score, DECIMALS)) for item_id, score in zip(one.item_ids, one.scores, strict=True)
        ],
    )


def messages_of(recommendations: Iterable[Recommendations]) -> Messages:
    """Encoded one by one, keyed by user."""
    parts = [part for one in recommendations for part in (one.user_id.encode(), encode(one))]
    return Messages(b"".join(parts), [0, *np.cumsum([len(part) for part in parts]).tolist()])


def _events_behind(behind: Behind, lists_N: Ints) -> tuple[Ints, Ints]:
    """The record timestamps of the events behind these lists, and which of `lists_N` (its place) each belongs to."""
    starts_N = behind.starts_U[lists_N]
    counts_N = behind.starts_U[lists_N + 1] - starts_N
    owner_E = np.repeat(np.arange(len(lists_N)), counts_N)
    places_E = np.arange(len(owner_E)) + np.repeat(starts_N - (np.cumsum(counts_N) - counts_N), counts_N)
    return behind.times_E[places_E], owner_E


def _name(ids: IdColumns, row: int) -> str:
    start = int(ids.start_R[row])
    return ids.blob[start : start + int(ids.length_R[row])].tobytes().decode()


class _Ids(NamedTuple):
    blob: NDArray[np.uint8]
    start_R: Ints
    length_R: NDArray[np.int32]


class _Lists(NamedTuple):
    users_U: Ints
    codes_UK: NDArray[np.int32]
    lengths_U: NDArray[np.int32]
    scores_UK: NDArray[np.float32]


class _Nowhere:
    """A publisher that sends nothing."""

    def send(self, messages: Messages, on_delivery: OnDelivery | None = None) -> None:
        del messages, on_delivery

    def forget(self, user_id: str) -> None:
        del user_id


def warm_up() -> None:
    """Compile what a step needs, before the first one waits for it."""
    zero = np.zeros(1, dtype=np.int64)
    ids = _Ids(np.zeros(1, dtype=np.uint8), zero, np.zeros(1, dtype=np.int32))
    lists = _Lists(
        zero, np.zeros((1, 1), dtype=np.int32), np.ones(1, dtype=np.int32), np.ones((1, 1), dtype=np.float32)
    )
    last = LastLists()
    writer = ListWriter(_Nowhere(), last, lambda _times, _at, _lists: None, topic="t", users=ids, items=ids)
    writer.write(lists, Behind(np.array([0, 0]), zero, zero, zero, zero), 1, 1)
    last.clear_coded(np.array([-1]))
    last.load(last.state())
