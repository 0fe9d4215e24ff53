"""What every rating model is and does; which there are: `model.rating_choice`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.columns import Columns
from model.leaving import NamesItems
from model.median import MedianTable

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Part(Protocol):
    """Arrays by name that are saved and loaded."""

    def state(self) -> dict[str, NDArray[np.generic]]: ...

    def load(self, state: dict[str, NDArray[np.generic]]) -> None: ...


class RatingModel(ABC):
    """Predicts each rating before it learns it; rows grow with the vocabularies."""

    users: Columns
    """What is held of each user, but for what the median needs."""
    items: Columns
    """What is held of each item."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest = lowest
        self.highest = highest
        self.median = MedianTable(lowest, highest)

    @property
    def bytes_per_user(self) -> int:
        return self.users.bytes_per_row + self.median.users.bytes_per_row

    @abstractmethod
    def grow(self, users: int, items: int) -> None: ...

    def predict_then_learn(
        self, users_B: Ints, items_B: Ints, times_B: Ints, ratings_B: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Predictions made before each rating was learned, on the scale: at the mean and at the median, shape (B,).

        Times in milliseconds; one before the user's last is taken as no time later. A rating beyond the scale is
        learned as its end. FloatingPointError for a rating that is not finite, or where rates are so high that a
        prediction or a factor is not: nothing was changed then.
        """
        if len(ratings_B) == 0:
            return np.zeros(0), np.zeros(0)
        if not np.isfinite(ratings_B).all():
            raise FloatingPointError(f"ratings have to be finite, got {ratings_B[~np.isfinite(ratings_B)][0]}")
        ratings_B = np.minimum(np.maximum(ratings_B, self.lowest), self.highest)
        predictions_B = self._pass_over(users_B, items_B, times_B, ratings_B)
        return predictions_B, self.median.read_then_learn(users_B, predictions_B, ratings_B)

    @abstractmethod
    def _pass_over(self, users_B: Ints, items_B: Ints, times_B: Ints, ratings_B: Doubles) -> Doubles:
        """Predict and learn at the mean, all or nothing."""

    def clear_users(self, users_U: Ints) -> None:
        """Make these rows strangers'. What stays is what their users' ratings moved together with everybody's: running
        means, items, and the table of medians. None of it names a user.
        """
        self.let_go(users_U)

    def let_go(self, users_U: Ints) -> None:
        """Make these rows strangers'; what their users' ratings taught about items stays."""
        self.users.clear(users_U)
        self.median.users.clear(users_U)

    def names_items(self) -> Sequence[NamesItems]:
        """What of it holds rows of items, in the order in which these are to be taken out."""
        return ()

    @abstractmethod
    def renew_items(self, rows_N: Ints, step: int) -> None:
        """Let these rows be new items', after this step; the first values of factors are a function of it."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[np.generic]]: ...

    @abstractmethod
    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError, and nothing taken, for other sizes."""


def state_of(parts: Sequence[tuple[str, Part]]) -> dict[str, NDArray[np.generic]]:
    """The arrays of named parts, with the part's name before theirs."""
    return {f"{part}_{name}": array for part, held in parts for name, array in held.state().items()}


def load_parts(parts: Sequence[tuple[str, Part]], state: Mapping[str, NDArray[np.generic]]) -> None:
    """The inverse of `state_of`."""
    for part, held in parts:
        start = f"{part}_"
        held.load({name.removeprefix(start): array for name, array in state.items() if name.startswith(start)})
