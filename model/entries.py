"""Which features each item, or user, has, and how strongly: a sparse matrix whose rows are replaced one by one.

A feature is a hashed bucket (`model.text`) and gets a row of the table when it first occurs, so memory follows what
occurs. It counts from its second item on: what only one item has says nothing of another one. Rows that were replaced
leave holes; they are closed when half of it is holes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown
from model.kernels.entries import read_bags, write_rows
from model.numbers import RunningScaler
from model.text import bucket, text_features

MOST_NUMBERS = 4096
"""Numbers of a ready-made vector, and numeric features, that an item may have."""


class ItemContent(NamedTuple):
    """What is said of an item, or of a user (categories and features); None where nothing is."""

    title: str | None = None
    text: str | None = None
    categories: Sequence[str] | None = None
    features: Mapping[str, float] | None = None
    vector: Sequence[float] | None = None
    available: bool = True
    """Whether it may be recommended."""

    def refusal(self) -> str | None:
        """What is wrong with it, None where nothing is."""
        for field, numbers in (("features", list((self.features or {}).values())), ("vector", self.vector or ())):
            if len(numbers) > MOST_NUMBERS:
                return f"$.{field}: expected at most {MOST_NUMBERS} numbers, got {len(numbers)}"
            if not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
                return f"$.{field}: expected finite numbers only"
        return None


class Features(NamedTuple):
    """Hashed features: bucket -> weight, and bucket -> number to be scaled. No bucket is in both."""

    weights: dict[int, float]
    numbers: dict[int, float]


class Bags(NamedTuple):
    """Rows of the matrix end to end: row n is `features_E` and `weights_E` from `starts_N[n]` on."""

    starts_N: NDArray[np.int64]
    features_E: NDArray[np.int64]
    weights_E: NDArray[np.float32]

    @property
    def rows_E(self) -> NDArray[np.int64]:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.starts_N)), np.diff(self.starts_N, append=len(self.features_E)))

    def some(self, rows_M: NDArray[np.int64]) -> "Bags":
        """These rows, in this order."""
        lengths_M = np.diff(self.starts_N, append=len(self.features_E))[rows_M]
        starts_M = np.cumsum(lengths_M) - lengths_M
        places = np.arange(int(lengths_M.sum())) + np.repeat(self.starts_N[rows_M] - starts_M, lengths_M)
        return Bags(starts_M, self.features_E[places], self.weights_E[places])


class Entries:
    """The matrix: one row for each item of the catalogue, one column for each feature that occurs."""

    def __init__(self) -> None:
        self.rows = 0
        self.live = 0
        """Entries in use."""
        self.numbers = RunningScaler()
        self.in_force = RunningScaler()
        """The statistics that weights are made with, those of the last `refresh`; in between no weight moves."""
        self._columns: dict[int, int] = {}
        self._items_F = np.zeros(0, dtype=np.int64)
        """How many items have each feature."""
        self._shared_F = np.zeros(0, dtype=np.bool_)
        """Whether two items had it at some time: from then on it counts."""
        self._used = 0
        self._feature_E = np.zeros(0, dtype=np.int32)
        self._value_E = np.zeros(0)
        self._share_E = np.zeros(0, dtype=np.float32)
        """1 / how many numbers the item has, where the value is a number to be scaled; 0 where it is a weight."""
        self._start_X = np.zeros(0, dtype=np.int64)
        self._length_X = np.zeros(0, dtype=np.int64)
        self._number_F = np.zeros(0, dtype=np.int64)

    @property
    def features(self) -> int:
        return len(self._columns)

    def lengths(self) -> NDArray[np.int64]:
        """How many features each row has."""
        return self._length_X[: self.rows]

    def no_numbers(self) -> NDArray[np.int64]:
        """A number for each feature, -1, to be written to by those who leave it so."""
        self._number_F = grown(self._number_F, self.features, fill=-1)
        return self._number_F

    def grow(self, rows: int) -> None:
        self._start_X, self._length_X = grown(self._start_X, rows), grown(self._length_X, rows)
        self.rows = max(self.rows, rows)

    def replace(self, row: int, content: ItemContent | None) -> None:
        """Put what is said of an item in the place of what was said before."""
        self.write(np.array([row]), [features_of(content)])
        self.tidy()

    def write(
        self, rows_W: NDArray[np.int64], said_W: Sequence[Features]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same for many rows, one after the other, also of the same one; where each was written, and its length.

        What was said before stays where `spans` found it until `tidy`.
        """
        columns, values, shares = self._columns, list[float](), list[float]()
        places: list[int] = []
        numeric: list[int] = []
        for weights, numbers in said_W:
            places += [columns.setdefault(place, len(columns)) for place in weights]
            numeric += range(len(places), len(places) + len(numbers))
            places += [columns.setdefault(place, len(columns)) for place in numbers]
            values += [*weights.values(), *numbers.values()]
            shares += [0.0] * len(weights) + [1 / max(len(numbers), 1)] * len(numbers)
        lengths_W = np.array([len(weights) + len(numbers) for weights, numbers in said_W], dtype=np.int64)
        start, end = self._used, self._used + len(places)
        self._items_F, self._shared_F = grown(self._items_F, self.features), grown(self._shared_F, self.features)
        self._feature_E, self._value_E = grown(self._feature_E, end), grown(self._value_E, end)
        self._share_E = grown(self._share_E, end)
        self._feature_E[start:end], self._value_E[start:end], self._share_E[start:end] = places, values, shares
        if numeric:
            at_E = start + np.array(numeric, dtype=np.int64)
            self.numbers.learn(self._feature_E[at_E].astype(np.int64), self._value_E[at_E])
        distinct = np.unique(rows_W)
        self.live -= int(self._length_X[distinct].sum())
        write_rows(
            rows_W, lengths_W, start, self._feature_E, self._start_X, self._length_X, self._items_F, self._shared_F
        )
        self.live += int(self._length_X[distinct].sum())
        self._used = end
        return start + np.cumsum(lengths_W) - lengths_W, lengths_W

    def clear(self, rows_N: NDArray[np.int64]) -> None:
        """Say nothing of distinct rows any more, and leave nothing of what was said in memory."""
        at_E = self._entries_of(rows_N)
        np.subtract.at(self._items_F, self._feature_E[at_E], 1)
        self._feature_E[at_E] = 0
        self._value_E[at_E] = 0
        self.live -= len(at_E)
        self._length_X[rows_N] = 0

    def tidy(self) -> None:
        """Close the holes that replaced rows left, where they are half of it all."""
        if self._used > 2 * self.live + 4096:
            self._close_holes()

    def has_new_scale(self) -> bool:
        """Whether so many numbers came since `refresh` that what it left behind is no guide any more."""
        return self.numbers.values >= 2 * max(self.in_force.values, 0.5)

    def refresh(self) -> None:
        """Make weights with the statistics as they are now."""
        self.in_force.load(self.numbers.state())

    def bags(self, rows_N: NDArray[np.int64]) -> Bags:
        """The features of these rows that count, and their weights."""
        return self.bags_at(*self.spans(rows_N))

    def spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where what is said of these rows begins and how long it is, each of the shape of `rows`; see `bags_at`."""
        return self._start_X[rows], self._length_X[rows]

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same of every row, and behind them of rows that there are not yet: to be read."""
        return self._start_X, self._length_X

    def bags_at(self, start_N: NDArray[np.int64], length_N: NDArray[np.int64]) -> Bags:
        """The same of what stood in these places, also where it was replaced since, but for `tidy`."""
        entries = int(length_N.sum())
        starts_N, features_M = np.empty(len(length_N), dtype=np.int64), np.empty(entries, dtype=np.int64)
        values_M, shares_M = np.empty(entries), np.empty(entries, dtype=np.float32)
        found = read_bags(
            start_N,
            length_N,
            self._feature_E,
            self._value_E,
            self._share_E,
            self._shared_F,
            starts_N,
            features_M,
            values_M,
            shares_M,
        )
        weights_M = self.in_force.scaled(features_M[:found], values_M[:found], shares_M[:found])
        return Bags(starts_N, features_M[:found], weights_M.astype(np.float32))

    def _close_holes(self) -> None:
        at_E, length_X = self._entries_of(np.arange(self.rows)), self._length_X[: self.rows]
        self._feature_E, self._value_E, self._share_E = self._feature_E[at_E], self._value_E[at_E], self._share_E[at_E]
        self._start_X[: self.rows] = np.cumsum(length_X) - length_X
        self._used = len(at_E)

    def _entries_of(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of what is said of these rows, one row after the other."""
        start_N, length_N = self.spans(rows_N)
        return np.repeat(start_N - (np.cumsum(length_N) - length_N), length_N) + np.arange(int(length_N.sum()))

    def state(self) -> dict[str, NDArray[np.generic]]:
        self._close_holes()  # equal contents, equal states, whatever was replaced on the way
        arrays: dict[str, NDArray[np.generic]] = {
            "columns": np.fromiter(self._columns, dtype=np.int64, count=len(self._columns)),
            "shared": self._shared_F[: self.features],
            "features": self._feature_E,
            "values": self._value_E,
            "shares": self._share_E,
            "lengths": self._length_X[: self.rows],
        }
        for name, scaler in (("numbers", self.numbers), ("in force", self.in_force)):
            arrays.update({f"{name}.{part}": array for part, array in scaler.state().items()})
        return arrays

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self._shared_F = growable(state["shared"], np.bool_)
        self._items_F = growable(np.bincount(state["features"], minlength=len(self._shared_F)), np.int64)
        self._columns = {int(place): column for column, place in enumerate(state["columns"])}
        self._feature_E = growable(state["features"], np.int32)
        self._value_E = growable(state["values"], np.float64)
        self._share_E = growable(state["shares"], np.float32)
        self._length_X = growable(state["lengths"], np.int64)
        self._start_X = growable(np.cumsum(self._length_X) - self._length_X, np.int64)
        self.rows, self._used = len(self._length_X), len(self._feature_E)
        self.live = self._used
        for name, scaler in (("numbers", self.numbers), ("in force", self.in_force)):
            scaler.load({part: state[f"{name}.{part}"] for part in scaler.state()})


def features_of(content: ItemContent | None) -> Features:
    """The hashed features of what is said; none where nothing is."""
    if content is None:
        return Features({}, {})
    weights = text_features(content.title, content.text, content.categories)
    if content.vector:
        weights.update(_vector_features(content.vector))
    numbers = {bucket("number", name): value for name, value in (content.features or {}).items()}
    return Features(weights, {place: value for place, value in numbers.items() if place not in weights})


def _vector_features(vector: Sequence[float]) -> dict[int, float]:
    """One feature for each place of the vector; the absolute weights add up to 1."""
    numbers = np.asarray(vector, dtype=np.float64)
    numbers = numbers / max(float(np.abs(numbers).max()), 1e-300)  # first, so that the sum is finite
    whole = float(np.abs(numbers).sum())
    return {} if whole == 0 else {bucket("vector", str(n)): v for n, v in enumerate((numbers / whole).tolist())}
