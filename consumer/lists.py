"""From the model's lists to messages: only what changed is published, each numbered so that a repeat is the same.

A list is changed when its membership or order is not that of the last one of the user that was acknowledged.
While one is on its way it stands for the acknowledged one: should it fail, the worker stops and saves nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from consumer.records import Taken
from consumer.source import Record
from model.packing import pack, unpack
from model.vocabulary import Vocabulary
from producer.events import Recommendations, ScoredItem, SourceEvent

_ROW_BYTES: Final = np.dtype(np.int32).itemsize


class ListOfUser(Protocol):
    """What `model.topk.UserList` has."""

    @property
    def user_id(self) -> str: ...
    @property
    def item_rows(self) -> list[int]: ...
    @property
    def item_ids(self) -> list[str]: ...
    @property
    def scores(self) -> list[float]: ...


class LastLists:
    """The last list of each user, as item rows; kept in the checkpoint."""

    def __init__(self) -> None:
        self._lists: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._lists)

    def replace(self, one: ListOfUser) -> bool:
        """Remember this list; whether it differs from the one before."""
        rows = np.array(one.item_rows, dtype=np.int32).tobytes()
        if self._lists.get(one.user_id) == rows:
            return False
        self._lists[one.user_id] = rows
        return True

    def forget(self, user_id: str) -> None:
        self._lists.pop(user_id, None)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The users, packed as `bytes` and `lengths`; `item_rows` of all lists end to end, and how many each has."""
        users = pack(self._lists)
        return {
            "bytes": users.bytes,
            "lengths": users.lengths,
            "item_rows": np.frombuffer(b"".join(self._lists.values()), dtype=np.int32),
            "list_lengths": np.array([len(rows) // _ROW_BYTES for rows in self._lists.values()], dtype=np.int64),
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where the arrays do not fit together."""
        users = unpack("users that have a list", state["bytes"], state["lengths"])
        rows, ends = state["item_rows"].astype(np.int32).tobytes(), np.cumsum(state["list_lengths"]) * _ROW_BYTES
        if len(ends) != len(users) or (len(ends) and int(ends[-1]) != len(rows)):
            raise ValueError(
                f"last lists: {len(users)} users have {len(ends)} lists of together {int(state['list_lengths'].sum())} "
                f"items, but there are {len(rows) // _ROW_BYTES}"
            )
        starts = [0, *ends.tolist()]
        self._lists = {user: rows[start:end] for user, start, end in zip(users, starts, ends.tolist(), strict=False)}


class Publishes(Protocol):
    """What `consumer.publish.Publisher` does with lists."""

    def send(self, recommendations: Recommendations, on_delivery: Callable[[float], None] | None = None) -> None: ...

    def forget(self, user_id: str) -> None: ...


class Written(NamedTuple):
    sent: int
    unchanged: int


OnFresh = Callable[[Iterable[int], float | None], None]
"""Record timestamps in ms of the events behind a list; when the broker had it, seconds, or None: it did not change."""


class ListWriter:
    """Sends the lists of a step that changed, and says when the events behind each list had their effect."""

    def __init__(self, publisher: Publishes, last: LastLists, on_fresh: OnFresh) -> None:
        """`on_fresh` is called once a list: after its acknowledgement, or at once where it did not change."""
        self._publisher = publisher
        self._last = last
        self._on_fresh = on_fresh

    def forget(self, user_ids: Iterable[str]) -> None:
        """Publish a tombstone for each of these users."""
        for user_id in user_ids:
            self._last.forget(user_id)
            self._publisher.forget(user_id)

    @staticmethod
    def behind(
        users: Vocabulary, users_B: NDArray[np.int64], taken: Taken, place_B: NDArray[np.int64]
    ) -> dict[str, list[Record]]:
        """The records of each user, in stream order; what came before a forget is not among them."""
        by_row: dict[int, list[Record]] = defaultdict(list)
        for row, place in zip(users_B.tolist(), place_B.tolist(), strict=True):
            by_row[row].append(taken.records[place])
        return {users.name(row): records for row, records in by_row.items() if row >= 0}

    def write(
        self,
        lists: Iterable[ListOfUser],
        records: Mapping[str, list[Record]],
        model_version: int,
        generated_at: int,
    ) -> Written:
        """`records`: those of each user that the lists reflect, in stream order; the last is the newest."""
        sent = unchanged = 0
        for one in lists:
            behind = records[one.user_id]
            times = [record.timestamp()[1] for record in behind]
            if not self._last.replace(one):
                unchanged += 1
                self._on_fresh(times, None)
                continue
            message = recommendations_of(one, behind[-1], model_version, generated_at)
            self._publisher.send(message, partial(self._on_fresh, times))
            sent += 1
        return Written(sent, unchanged)


def recommendations_of(one: ListOfUser, record: Record, model_version: int, generated_at: int) -> Recommendations:
    """The message of a list. No wall clock: made again from the same events it is the same, byte for byte."""
    source = SourceEvent(record.topic(), record.partition(), record.offset(), record.timestamp()[1])
    named = f"{source.topic}\0{source.partition}\0{source.offset}\0{one.user_id}\0{model_version}"
    return Recommendations(
        user_id=one.user_id,
        recommendation_id=hashlib.sha256(named.encode()).hexdigest()[:32],
        generated_at=generated_at,
        model_version=model_version,
        source=source,
        items=[ScoredItem(*pair) for pair in zip(one.item_ids, one.scores, strict=True)],
    )
