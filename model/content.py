"""What the catalogue says of items, learned into vectors: an item that nobody chose yet has a sensible one at once.

    vector of item i = embedding_i + weight(count_i) * content_i,   weight(n) = half / (half + n)
    content_i = sum of the rows of one table for the item's features (`model.entries`), each times its weight

so content speaks for items with few events and gives way to what was learned of the item itself. The table learns by
the same softmax as the embeddings and begins at zero, where it says nothing.

The sums are kept, and only those are taken anew that moved (`model.moved`). The features are gone through (entries *
width) only once in so many events that it comes to a constant an event; items that the catalogue changes are brought
up to date at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bag_sums import NONE, pulled_back, sums
from model.entries import Bags, Entries, ItemContent, features_of
from model.growth import growable, grown
from model.kernels.content import gather_back, put_on_top
from model.moved import MovedRows
from model.optimizers import Adagrad
from model.state import under
from model.tables import Rows, Table
from model.vocabulary import Vocabulary

REST_EVENTS = 100_000
"""Events before the row of a removed item without an event is given back: until then late events find that it was
removed, and lists made before hold its number."""
GIVEN_BACK: Final = 64
"""Such rows are given back when they are one in so many: each time all last lists are gone over for their numbers."""

_NOTHING: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

Row = TypeVar("Row", int, NDArray[np.int64], NDArray[np.int32])


@dataclass(frozen=True)
class ContentSettings:
    half: float = 20.0
    """Events after which an item's content weighs half."""
    rate: float = 0.03
    every_events: int = 512
    """The table moves once in so many events, or fewer times where the catalogue is large."""
    entries_an_event: int = 128
    """Features that may be gone through for each event, on average."""


class Content:
    """Content vectors of the catalogue, and which items they belong to.

    The catalogue has rows of its own: an item of it gets a row among the items with its first event, so that a large
    catalogue costs nothing where items are ranked.
    """

    def __init__(
        self,
        width: int,
        settings: ContentSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        moved: MovedRows | None = None,
    ) -> None:
        """`moved`: what is told which items moved, also through content; it has to hear of all other moves too."""
        self.settings = settings
        self.device = device
        self.moved = MovedRows() if moved is None else moved
        self.moved_rows = MovedRows()
        """Rows of the catalogue whose vector moved, or whether they may be recommended, or had their first event."""
        self.ids = Vocabulary()
        self.entries = Entries()
        self.available_X = np.zeros(0, dtype=np.bool_)
        self.is_removed_X = np.zeros(0, dtype=np.bool_)
        """Whether nothing is said any more; what is not available may come with nothing else said, too."""
        self.item_X = np.zeros(0, dtype=np.int64)
        """The item row of each catalogue row, NONE before its first event."""
        self.born_cold_X = np.zeros(0, dtype=np.bool_)
        """Whether the catalogue knew it before its first event."""
        self.row_I = np.zeros(0, dtype=np.int64)
        """The catalogue row of each item, NONE where there is none."""
        self.items = 0
        self.hidden_I = np.zeros(0, dtype=np.bool_)
        """Items that are not to be recommended."""
        self._removed: dict[int, int] = {}
        """Row of each removed item that had no event -> events learned up to then, oldest first."""
        self._learned = 0
        self.table = Table("content", width, spread=0, seed=0, device=device, dtype=dtype)
        self._optimizer = Adagrad(self.table, settings.rate)
        self._vectors = Rows(width, device=device, dtype=dtype)
        self._gathered = Rows(width, device=device, dtype=dtype)
        self._sums = Rows(width, device=device, dtype=dtype)
        """Of embedding and content."""
        self._summed = 0
        """Items whose sum was ever taken."""
        self._summed_at = -1
        """Sums are as of this place of `moved`."""
        self._events = 0
        self._bags: Bags | None = None

    # --- the catalogue ---

    def describe(self, changes: Mapping[str, ItemContent | None], items: Vocabulary) -> NDArray[np.int64]:
        """Take in what is said of items now; None: nothing any more, and the item is not to be recommended.

        Rows that were given back: `cold_code` of them is in old lists, and is other items' from now on.
        """
        self.follow(items)
        given_back_X = self._give_back_rows()
        rows = self.ids.rows(list(changes))
        self._grow(len(self.ids))
        self.entries.write(rows, [features_of(content) for content in changes.values()])
        self.entries.tidy()
        for row, (item_id, content) in zip(rows.tolist(), changes.items(), strict=True):
            self.is_removed_X[row] = content is None
            self.available_X[row] = content is not None and content.available
            item = items.row(item_id) if self.item_X[row] == NONE else None
            if item is not None:
                self._link(row, item, born_cold=False)
            self._removed.pop(row, None)
            if content is None and self.item_X[row] == NONE:
                self._removed[row] = self._learned
        items_N = self.item_X[rows]
        items_N, is_available_N = items_N[items_N != NONE], self.available_X[rows[items_N != NONE]]
        self.hidden_I[items_N] = ~is_available_N
        self.moved.add(items_N)
        self.moved_rows.add(rows)
        self.table.grow(self.entries.features)
        self._bags = None
        if self.entries.has_new_scale():
            self.entries.refresh()
            self._compute_all()
        elif self.table.rows:
            at = torch.from_numpy(rows).to(self.device)
            self._vectors_XD[at] = sums(self.entries.bags(rows), self.table.values)
        return given_back_X

    def follow(self, items: Vocabulary, again_N: NDArray[np.int64] = _NOTHING) -> None:
        """Find the catalogue's rows of items that had their first event; `again_N`: among them are those of these rows,
        which others have let go.
        """
        known, self.items = self.items, max(self.items, len(items))
        if self.items == known and not len(again_N):
            return
        self.row_I = grown(self.row_I, self.items, fill=NONE)
        self.hidden_I = grown(self.hidden_I, self.items)
        is_in_use_N = items.length_R[known : self.items] >= 0  # some left before there was a catalogue
        new_N = known + np.flatnonzero(is_in_use_N)
        for item in (*np.unique(again_N[again_N < known]).tolist(), *new_N.tolist()):
            row = self.ids.row(items.name(item))
            if row is not None and self.item_X[row] == NONE:
                self._link(row, item, born_cold=True)

    def let_go(self, items_N: NDArray[np.int64]) -> None:
        """These rows go to other items; what the catalogue says of theirs stays, as before their first event."""
        self._gathered_ID[torch.from_numpy(items_N).to(self.device)] = 0
        rows_N = self.row_I[items_N]
        rows_N = rows_N[rows_N != NONE]
        self.item_X[rows_N], self.row_I[items_N], self.hidden_I[items_N] = NONE, NONE, False
        self.moved_rows.add(rows_N)
        for row in rows_N[self.is_removed_X[rows_N]].tolist():  # as one that was removed before its first event
            self._removed[row] = self._learned

    def _give_back_rows(self) -> NDArray[np.int64]:
        """Let go of items that were removed long ago and had no event, where there are many: their rows."""
        rested = takewhile(lambda entry: self._learned - entry[1] >= REST_EVENTS, self._removed.items())
        rows = [row for row, _ in rested]
        if len(rows) * GIVEN_BACK < self.ids.in_use:
            return _NOTHING
        for row in rows:
            del self._removed[row]
            self.ids.remove(self.ids.name(row))
        return np.array(rows, dtype=np.int64)

    def cold_rows(self) -> NDArray[np.int64]:
        """Catalogue rows of available items without an event, of which something is said."""
        return np.flatnonzero(self.is_cold(np.arange(len(self.ids))))

    def is_cold(self, rows_X: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows are such rows."""
        has_none_X: NDArray[np.bool_] = self.item_X[rows_X] == NONE
        return has_none_X & self.available_X[rows_X] & (self.entries.lengths()[rows_X] > 0)

    # --- vectors ---

    def vectors(self, rows_X: NDArray[np.int64]) -> Tensor:
        """Content vectors of catalogue rows."""
        return self._vectors_XD[torch.from_numpy(rows_X).to(self.device)]

    def of_all(self, values_ID: Tensor, count_I: NDArray[np.int64]) -> Tensor:
        """The embeddings of all items with content on top, as of the last move; on the CPU not to be written to.

        Counts and embeddings are those that `moved` was told of: others count as they were.
        """
        if self.device.type != "cpu":
            return self.on_top(values_ID.clone(), np.arange(len(values_ID)), count_I)
        items, rows_R = len(values_ID), self.moved.since(self._summed_at)
        if rows_R is None:
            rows_R = np.arange(items)
        elif items > self._summed:
            rows_R = np.concatenate((rows_R, np.arange(self._summed, items)))
        summed_ID = self._sums.first(items)
        self._put_on_top(rows_R, rows_R, values_ID, count_I, summed_ID)
        self._summed, self._summed_at = items, self.moved.end
        return summed_ID

    def on_top(self, embeddings_ND: Tensor, items_N: NDArray[np.int64], count_I: NDArray[np.int64]) -> Tensor:
        """The embeddings of these items, changed: content is on top, by the events that each has had."""
        if self.device.type == "cpu":
            self._put_on_top(items_N, np.arange(len(items_N)), embeddings_ND, count_I, embeddings_ND)
            return embeddings_ND
        return self._on_top_anywhere(embeddings_ND, items_N, count_I)

    def _on_top_anywhere(self, embeddings_ND: Tensor, items_N: NDArray[np.int64], count_I: NDArray[np.int64]) -> Tensor:
        """The plain torch twin of the kernel, for GPUs."""
        places, rows, weights = self._weighted(items_N, count_I)
        return embeddings_ND.index_add_(0, places, weights * self._vectors_XD[rows])

    def learn(self, rows: Tensor | None, gradient: Tensor, count_I: NDArray[np.int64], events: int) -> None:
        """Take in the gradient by the vectors that `on_top` gave (of all items, or of distinct `rows`)."""
        items_N = np.arange(len(gradient)) if rows is None else rows.cpu().numpy()  # CPU-GPU sync point
        if self.device.type == "cpu":
            half = self.settings.half
            gather_back(items_N, gradient.numpy(), self.row_I, count_I, half, self._gathered_ID.numpy())
        else:
            self._gather_anywhere(items_N, gradient, count_I)
        self._events += events
        self._learned += events
        if self._events >= max(self.settings.every_events, self.entries.live // self.settings.entries_an_event):
            self._move()

    def _gather_anywhere(self, items_N: NDArray[np.int64], gradient: Tensor, count_I: NDArray[np.int64]) -> None:
        """The plain torch twin of the kernel, for GPUs."""
        places, _, weights = self._weighted(items_N, count_I)
        items = torch.from_numpy(items_N).to(self.device)[places]
        self._gathered_ID.index_add_(0, items, weights * gradient[places])

    def _put_on_top(
        self,
        items_R: NDArray[np.int64],
        places_R: NDArray[np.int64],
        values_ND: Tensor,
        count_I: NDArray[np.int64],
        summed_ND: Tensor,
    ) -> None:
        vectors, half = self._vectors_XD.numpy(), self.settings.half
        put_on_top(items_R, places_R, values_ND.numpy(), vectors, self.row_I, count_I, half, summed_ND.numpy())

    def _weighted(self, items_N: NDArray[np.int64], count_I: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Of these items those that the catalogue has: their places here, the catalogue's rows, and weights (N, 1)."""
        places_N = np.flatnonzero(self.row_I[items_N] != NONE)
        items_N = items_N[places_N]
        weights_N = self.settings.half / (self.settings.half + count_I[items_N])
        weights = torch.from_numpy(weights_N).to(self.table.values)[:, None]
        rows = torch.from_numpy(self.row_I[items_N])
        return torch.from_numpy(places_N).to(self.device), rows.to(self.device), weights

    def _move(self) -> None:
        """One step of the table against what was gathered; every content vector follows."""
        items_X = self.item_X[: len(self.ids)]
        self._optimizer.step(*pulled_back(self.entries, self._all_bags(), items_X, self._gathered_ID))
        self._gathered_ID.zero_()
        self._events = 0
        if self.entries.numbers.values != self.entries.in_force.values:
            self.entries.refresh()
            self._bags = None
        self._compute_all()

    def _all_bags(self) -> Bags:
        if self._bags is None:
            self._bags = self.entries.bags(np.arange(len(self.ids)))
        return self._bags

    def _compute_all(self) -> None:
        if self.table.rows:
            self._vectors_XD[:] = sums(self._all_bags(), self.table.values)
            items_X = self.item_X[: len(self.ids)]
            self.moved.add(items_X[items_X != NONE])
            self.moved_rows.add(None)

    @property
    def _vectors_XD(self) -> Tensor:
        return self._vectors.first(len(self.ids))

    @property
    def _gathered_ID(self) -> Tensor:
        """Gradients by the vectors of items, since the table moved last."""
        return self._gathered.first(self.items)

    def _grow(self, rows: int) -> None:
        self.is_removed_X = grown(self.is_removed_X, rows)
        self.available_X = grown(self.available_X, rows)
        self.item_X = grown(self.item_X, rows, fill=NONE)
        self.born_cold_X = grown(self.born_cold_X, rows)
        self.entries.grow(rows)

    def _link(self, row: int, item: int, *, born_cold: bool) -> None:
        self.item_X[row], self.row_I[item], self.born_cold_X[row] = item, row, born_cold
        self.hidden_I[item] = not self.available_X[row]
        self.moved.add(np.array([item]))
        self.moved_rows.add(np.array([row]))
        self._removed.pop(row, None)

    # --- keeping ---

    def state(self) -> dict[str, Tensor]:
        """Views, where that is what is kept. Vectors are not part of it: they follow from table and features."""
        size = len(self.ids)
        arrays: dict[str, NDArray[np.generic]] = {
            "available": self.available_X[:size],
            "is removed": self.is_removed_X[:size],
            "item rows": self.item_X[:size],
            "born cold": self.born_cold_X[:size],
            "events": np.array([self._events, self._learned]),
            "removed": np.array([*self._removed.items()], dtype=np.int64).reshape(-1, 2),
            **{f"ids.{name}": array for name, array in self.ids.state().items()},
            **{f"entries.{name}": array for name, array in self.entries.state().items()},
        }
        return {
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
            "table": self.table.values,
            "gathered": self._gathered_ID,
            **{f"table.{name}": value for name, value in self._optimizer.state().items()},
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        arrays = {name: value.numpy() for name, value in state.items()}
        self.table.load(arrays["table"])
        self._optimizer.load({"squares": state["table.squares"]})
        self.ids.load(under(arrays, "ids."))
        self.entries.load(under(arrays, "entries."))
        self.available_X = growable(arrays["available"], np.bool_)
        is_removed_X = arrays.get("is removed")
        if is_removed_X is None:  # older states do not tell it from what is not available
            is_removed_X = ~arrays["available"] & (self.entries.lengths()[: len(self.ids)] == 0)
        self.is_removed_X = growable(is_removed_X, np.bool_)
        self.item_X = growable(arrays["item rows"], np.int64)
        self.born_cold_X = growable(arrays["born cold"], np.bool_)
        self._events, self._learned = arrays["events"].tolist()
        self._removed = dict(arrays["removed"].tolist())
        self._gathered.load(state["gathered"])
        self.items = len(state["gathered"])
        self.row_I = grown(np.zeros(0, dtype=np.int64), self.items, fill=NONE)
        linked_X = np.flatnonzero(self.item_X != NONE)
        self.row_I[self.item_X[linked_X]] = linked_X
        self.hidden_I = grown(np.zeros(0, dtype=np.bool_), self.items)
        self.hidden_I[self.item_X[linked_X]] = ~self.available_X[linked_X]
        self._vectors = Rows(self.table.width, device=self.device, dtype=self.table.values.dtype)
        self._bags = None
        self._summed_at = -1
        self.moved_rows.add(None)
        self._compute_all()


def cold_code(catalogue_row: Row) -> Row:
    """What stands for an item (in arrays: for items) of the catalogue in lists of rows. Its own inverse.

    It is below zero, where no item row is.
    """
    return -1 - catalogue_row
