"""What one batch gave, for those who list, count and watch: see `model.learner`."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.drift import Alarm

Ranks = NDArray[np.float64]
Flags = NDArray[np.bool_]


NOBODY: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
"""No rows."""


class Swept(NamedTuple):
    """Rows of users that name no item any more of those that leave (`model.leaving`)."""

    first: int
    past: int
    leaving_I: Flags


@dataclass(frozen=True)
class Step:
    """What one batch gave. Arrays have one entry an interaction, in stream order (forgets have none)."""

    version: int
    """Number of the step."""
    ranked_B: Flags
    """Which interactions were ranked: ratings and positive weights, of the users that are ranked at all."""
    ranks_B: Ranks
    """Rank from 0 among the candidates; NaN for a miss (an item without an earlier event) or where not ranked."""
    popularity_ranks_B: Ranks
    """The same by live count alone."""
    ratings_B: Ranks
    """The rating that came, NaN where there was none."""
    predictions_B: Ranks
    """Its prediction, read at the mean; NaN where there was none."""
    medians_B: Ranks
    ranking_loss: float
    """Mean ranking loss of the interactions that had one (known item, weight not 0); 0 where none had."""
    users_B: NDArray[np.int64]
    """The user's row; -1 where the user was forgotten later in the batch."""
    forgotten: list[tuple[str, int]]
    """The users that were forgotten, and the rows they had: others may have them by now. -1: was not known."""
    losses_B: Ranks
    """The ranking loss, for a weight of 1; NaN where there was none (unknown item, weight not above 0)."""
    earlier_events_B: NDArray[np.int64]
    """How many earlier events the user had: ratings and positive weights."""
    user_means_B: Ranks
    """The mean of the user's earlier ratings; NaN where there were none."""
    alarms: list[Alarm]
    """Rises of the live error that the watch over drift saw in this step."""
    pace: float
    """What the items' rate was multiplied by, for drift."""
    refused: str | None = None
    """Why shared parameters were not moved, where loss or gradient was not finite, and what to do about it."""
    ratings_refused: str | None = None
    """The same of the rating model: why it learned nothing of the ratings."""
    evicted_U: NDArray[np.int64] = field(default_factory=lambda: NOBODY)
    """Rows of idle users that were given back after the step, none of them its own: nothing is kept of them."""
    evicted_I: NDArray[np.int64] = field(default_factory=lambda: NOBODY)
    """The same of items; the next new ones get their rows."""
    cleaned_U: NDArray[np.int64] = field(default_factory=lambda: NOBODY)
    """Rows of users that had something of items that leave, and have it no more."""
    moved_I: NDArray[np.int64] | None = field(default_factory=lambda: NOBODY)
    """Rows of items whose parameters or counts it may have changed, in any order, some repeatedly; None: any may be."""
    given_back_X: NDArray[np.int64] = field(default_factory=lambda: NOBODY)
    """Rows of the catalogue that were given back before it: their codes in last lists are other items' now."""
    swept: Swept | None = None
    """Users whose last lists are not to name items that leave either."""

    def touched_users(self) -> NDArray[np.int64]:
        """Rows of the users whose interactions the step learned and who are still known, ascending."""
        rows_U: NDArray[np.int64] = np.unique(self.users_B)
        return rows_U[rows_U >= 0]


class Piece(NamedTuple):
    """What one piece of a batch gave; the arrays are those of `Step`."""

    users_B: NDArray[np.int64]
    ranked_B: Flags
    ranks_B: Ranks
    popularity_ranks_B: Ranks
    ratings_B: Ranks
    predictions_B: Ranks
    medians_B: Ranks
    losses_B: Ranks
    earlier_events_B: NDArray[np.int64]
    user_means_B: Ranks
    alarms: list[Alarm]
    pace: float
    loss: float
    """Sum of the ranking losses of `losses` interactions."""
    losses: int
    refused: str | None
    ratings_refused: str | None


def joined(
    parts: list[Piece],
    version: int,
    forgotten: list[tuple[str, int]],
    moved_I: NDArray[np.int64] | None = NOBODY,
) -> Step:
    """The step that these pieces, in stream order, make together."""
    whole = parts[0] if len(parts) == 1 else _end_to_end(parts)
    return Step(
        version=version,
        ranked_B=whole.ranked_B,
        ranks_B=whole.ranks_B,
        popularity_ranks_B=whole.popularity_ranks_B,
        ratings_B=whole.ratings_B,
        predictions_B=whole.predictions_B,
        medians_B=whole.medians_B,
        ranking_loss=whole.loss / max(whole.losses, 1),
        users_B=whole.users_B,
        forgotten=forgotten,
        losses_B=whole.losses_B,
        earlier_events_B=whole.earlier_events_B,
        user_means_B=whole.user_means_B,
        alarms=whole.alarms,
        pace=whole.pace,
        refused=whole.refused,
        ratings_refused=whole.ratings_refused,
        moved_I=moved_I,
    )


def _end_to_end(parts: list[Piece]) -> Piece:
    rows, ranks = np.zeros(0, dtype=np.int64), np.zeros(0)
    nothing = (rows, np.zeros(0, dtype=np.bool_), *[ranks] * 6, rows, ranks)
    arrays = zip(nothing, *(part[: len(nothing)] for part in parts), strict=True)
    alarms = [alarm for part in parts for alarm in part.alarms]
    pace = parts[-1].pace if parts else 1.0
    loss, losses = sum(part.loss for part in parts), sum(part.losses for part in parts)
    refused = next((part.refused for part in parts if part.refused is not None), None)
    ratings_refused = next((part.ratings_refused for part in parts if part.ratings_refused is not None), None)
    return Piece._make([*map(np.concatenate, arrays), alarms, pace, loss, losses, refused, ratings_refused])
