"""The rating head: each user a Kalman filter, items by bias, mood and factors, neighbours, and a stack of it all.

- A user's state (bias, offset of the session, share of the item's bias, taste for the popular, factors) is the exact
  posterior of a linear model given the item's side: a Kalman filter (Kalman 1960; for recommenders Lu, Agarwal and
  Dhillon 2009), moved event by event. The session's offset fades with the time between two ratings (Koren 2010,
  temporal dynamics, in a closed form).
- Items have a live bias and a live mood (decayed mean of residuals). Their factors (Koren, Bell and Volinsky 2009)
  move once a batch along the gradient of the squared error, by Adagrad per row (Duchi, Hazan and Singer 2011).
- The residuals of the user's last ratings vote by item-item similarity (Bell and Koren 2007, see `model.pairs`).
- The parts are weighted by recursive least squares (stacking, Wolpert 1992), live: a part that does not help on this
  stream loses its weight.

Nothing depends on the scale: inside, ratings lie between 0 and 1 and errors count in standard deviations of all
ratings so far. All ratings at one time is a stream like another: the sessions then just never end.

A user takes 1,400 bytes at 16 factors, 50 remembered ratings and up to 8 values of ratings (`bytes_per_user`), 1,848
with 64 values or more. 840 of them are the covariance, one triangle in float32, which grows with the square of the
factors. However much a user rates, it stays at that.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.columns import Arrays, Columns
from model.growth import grown, normal_rows, room_for
from model.kernels.leaving import A_ROW, take_out_of_remembered
from model.kernels.ratings import (
    FACTORS,
    PARTS,
    RESIDUAL_VARIANCE,
    move_factors,
    number_rows,
    predict_then_learn,
    room_to_learn,
    take_rows,
)
from model.leaving import NamesItems, TakenOut
from model.pairs import PairTable
from model.rating_model import Part, RatingModel, load_parts, state_of
from model.tables import renewed_rows

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

REMEMBERED = 50
"""Last ratings of a user that vote on the next one and make pairs with it."""
PAIR_BITS = 18
"""The table of pairs has 2 ** 18 slots: 4 MiB."""
START_SPREAD = 0.02
ITEM_SPREAD = 0.055
FIRST_SQUARE = 0.0016
"""Adagrad's sum before an item's first step: it bounds that step."""
FIRST_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
STACK_PRIOR = (0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.002, 0.02, 0.002, 2.0)
"""How far each weight of the stack may be from its first value: variances, relative to the noise of a rating."""
_STACK_PRIOR_S = np.array(STACK_PRIOR)


@dataclass(frozen=True)
class RatingRates:
    """How fast each part moves; found on the first half of MovieLens-100K, and flat: twice or half costs little.

    Variances are relative to the noise of a rating.
    """

    bias_variance: float = 0.15
    session_variance: float = 0.15
    slope_variance: float = 0.17
    popularity_variance: float = 0.03
    factor_variance: float = 0.1
    bias_drift: float = 0.01
    """What a rating adds to the variance of its user's bias, as a share of `bias_variance`."""
    taste_drift: float = 0.004
    """How much of slope, popularity and factors a rating makes forget."""
    session_power: float = 1.5
    """The session's offset keeps (1 + minutes since the last rating) ** -session_power."""
    item_prior: float = 4.5
    """Ratings' worth of doubt in an item's bias: the n-th rating moves it by 1 / (n + item_prior) of the error."""
    item_floor: float = 0.005
    """The least rate of an item's bias, so that it follows slow change."""
    mood_rate: float = 0.1
    item_rate: float = 0.115
    shrink: float = 0.0015
    """Pull of an item's factors to 0."""
    pair_shrinkage: float = 160.0
    """Ratings' worth of doubt in the similarity of two items."""

    def live(self) -> Doubles:
        """What the kernel unpacks, in its order."""
        return np.array(
            [
                self.bias_drift,
                self.taste_drift,
                self.session_power,
                self.item_prior,
                self.item_floor,
                self.mood_rate,
                self.shrink,
                self.pair_shrinkage,
            ]
        )

    def variances(self, factors: int) -> Doubles:
        """Prior variances of a user's state, shape (D,)."""
        own = [self.bias_variance, self.session_variance, self.slope_variance, self.popularity_variance]
        return np.array([*own, *[self.factor_variance] * factors])


class RatingHead(RatingModel):
    """Predicts each rating before it learns it. Rows grow with the vocabularies."""

    def __init__(
        self,
        factors: int,
        lowest: float,
        highest: float,
        *,
        seed: int,
        rates: RatingRates | None = None,
        remembered: int = REMEMBERED,
        pair_bits: int = PAIR_BITS,
    ) -> None:
        super().__init__(lowest, highest)
        self.factors = factors
        self.rates = rates or RatingRates()
        self._live_rates = self.rates.live()
        self._variances_D = self.rates.variances(factors)
        self._seed = seed
        self._start_D = np.zeros(FACTORS + factors, dtype=np.float32)
        self._start_D[FACTORS:] = normal_rows("rating start", seed, 0, 1, factors, START_SPREAD)[0]
        self.overall = np.zeros(7)
        self.overall[RESIDUAL_VARIANCE] = 1.0
        self.stack_weights_S = np.array(FIRST_WEIGHTS)
        self.stack_covariance_SS = np.diag(STACK_PRIOR)
        self.users = Columns(
            {
                "mean": self._start_D,
                "covariance": _packed(np.diag(self._variances_D)),
                "time": np.array(0, dtype=np.int64),
                "count": np.array(0, dtype=np.int64),
                "items": np.full(remembered, -1, dtype=np.int32),
                "residuals": np.zeros(remembered, dtype=np.float32),
            }
        )
        self.items = Columns(
            {
                "bias": np.array(0.0),
                "mood": np.array(0.0),
                "count": np.array(0, dtype=np.int64),
                "factors": np.zeros(factors, dtype=np.float32),
                "squares": np.array(FIRST_SQUARE),
            }
        )
        self.pairs = PairTable(pair_bits)
        self._kept_users = _Kept(self.users, "mean", "covariance", "time", "count")
        self._kept_items = _Kept(self.items, *self.items.state())

    def grow(self, users: int, items: int) -> None:
        self.users.grow(users)
        self.median.users.grow(users)
        first = self.items.rows
        self.items.grow(items)
        if items > first:
            self.items["factors"][first:items] = normal_rows(
                "rating items", self._seed, first, items, self.factors, ITEM_SPREAD
            )
        self._kept_users.grow()
        self._kept_items.grow()

    def _pass_over(self, users_B: Ints, items_B: Ints, times_B: Ints, ratings_B: Doubles) -> Doubles:
        """Predict and learn at the mean; all or nothing: what the kernel may move is kept, to be put back."""
        self._kept_users.keep(users_B)
        items_here_B = self._kept_items.keep(items_B)
        overall, weights_S = self.overall.copy(), self.stack_weights_S.copy()
        covariance_SS = self.stack_covariance_SS.copy()
        journal = self.pairs.journal(len(users_B) * self.users["items"].shape[1])
        gradient_HF = np.zeros((len(self._kept_items.rows), self.factors), dtype=np.float32)
        predictions_B = np.zeros(len(users_B))
        forgotten_items_B = np.empty(len(users_B), dtype=np.int32)
        forgotten_residuals_B = np.empty(len(users_B), dtype=np.float32)
        length = self.highest - self.lowest
        learned, changes = predict_then_learn(
            users_B,
            items_B,
            times_B,
            (ratings_B - self.lowest) / length,
            items_here_B,
            self._live_rates,
            overall,
            self._start_D,
            self._variances_D,
            self.users["mean"],
            self.users["covariance"],
            self.users["time"],
            self.users["count"],
            self.users["items"],
            self.users["residuals"],
            self.items["bias"],
            self.items["mood"],
            self.items["count"],
            self.items["factors"],
            self.pairs.keys,
            self.pairs.sums,
            self.pairs.counts,
            self.pairs.shift,
            weights_S,
            covariance_SS,
            _STACK_PRIOR_S,
            gradient_HF,
            predictions_B,
            journal.slots,
            journal.keys,
            journal.sums,
            journal.counts,
            forgotten_items_B,
            forgotten_residuals_B,
            *room_to_learn(len(self._start_D), self.users["items"].shape[1]),
        )
        is_finite = learned == len(users_B) and move_factors(
            self._kept_items.rows, gradient_HF, self.rates.item_rate, self.items["squares"], self.items["factors"]
        )
        if not is_finite:
            self._remember_again(users_B[:learned], forgotten_items_B, forgotten_residuals_B)
            self._kept_users.put_back()
            self._kept_items.put_back()
            self.pairs.undo(journal, changes)
            raise FloatingPointError("the rating head has diverged: a number is not finite; lower its rates")
        self.overall, self.stack_weights_S, self.stack_covariance_SS = overall, weights_S, covariance_SS
        return np.clip(self.lowest + predictions_B * length, self.lowest, self.highest)

    def _remember_again(
        self, users_B: Ints, forgotten_items_B: NDArray[np.int32], forgotten_residuals_B: NDArray[np.float32]
    ) -> None:
        """Put back what these events made their users stop remembering, the last one first."""
        items_UR, residuals_UR, count_U = self.users["items"], self.users["residuals"], self.users["count"]
        if not items_UR.shape[1]:
            return
        for event in range(len(users_B) - 1, -1, -1):
            user = users_B[event]
            count_U[user] -= 1
            place = count_U[user] % items_UR.shape[1]
            items_UR[user, place] = forgotten_items_B[event]
            residuals_UR[user, place] = forgotten_residuals_B[event]

    def clear_users(self, users_U: Ints) -> None:
        """Make these rows strangers' and take their users out of the pairs, as far as `PairTable.forget` goes.

        The stack stays, too.
        """
        self.pairs.forget(self.users["items"][users_U], self.users["residuals"][users_U])
        self.let_go(users_U)

    def names_items(self) -> tuple[NamesItems, NamesItems]:
        return _Remembered(self.users), self.pairs  # pairs are made of what is remembered

    def renew_items(self, rows_N: Ints, step: int) -> None:
        self.items.clear(rows_N)
        self.items["factors"][rows_N] = renewed_rows(
            "rating items", self._seed, step, len(rows_N), self.factors, ITEM_SPREAD
        )

    def state(self) -> dict[str, NDArray[np.generic]]:
        own: dict[str, NDArray[np.generic]] = {
            "overall": self.overall,
            "stack_weights": self.stack_weights_S,
            "stack_covariance": self.stack_covariance_SS,
        }
        return own | state_of(self._parts())

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self._refuse_other_shapes(state)
        self.overall = state["overall"].astype(np.float64)
        self.stack_weights_S = state["stack_weights"].astype(np.float64)
        self.stack_covariance_SS = state["stack_covariance"].astype(np.float64)
        load_parts(self._parts(), state)
        self._kept_users.grow()
        self._kept_items.grow()

    def _parts(self) -> list[tuple[str, Part]]:
        return [("user", self.users), ("item", self.items), ("pair", self.pairs), ("median", self.median)]

    def _refuse_other_shapes(self, state: dict[str, NDArray[np.generic]]) -> None:
        for what, name, ours in (
            ("rating factors have width", "item_factors", self.factors),
            ("ratings remembered a user are", "user_items", self.users["items"].shape[1]),
            ("parts of the rating stack are", "stack_weights", PARTS),
        ):
            if (theirs := state[name].shape[-1]) != ours:
                raise ValueError(f"the saved {what} {theirs}, the settings ask for {ours}")


class _Remembered(NamedTuple):
    """The ratings that users remember, as what names items."""

    users: Columns

    def take_out(self, first: int, entries: int, marks_I: NDArray[np.uint8]) -> TakenOut:
        changed_N = np.empty(entries // A_ROW + 1, dtype=np.int64)
        remembered = self.users["items"], self.users["residuals"]
        past, changed = take_out_of_remembered(first, self.users.rows, entries, marks_I, *remembered, changed_N)
        return TakenOut(past, past >= self.users.rows, changed_N[:changed].copy())


class _Kept:
    """The rows that a batch is about to move, as they were: in memory that every batch uses again."""

    def __init__(self, columns: Columns, *names: str) -> None:
        self.columns = columns
        self.rows: Ints = np.zeros(0, dtype=np.int64)
        """Distinct ones, by first mention."""
        self._before: Arrays = {name: columns[name][:0] for name in names}
        """Room for them, and more."""
        self._place_N = np.zeros(0, dtype=np.int32)

    def grow(self) -> None:
        self._place_N = grown(self._place_N, self.columns.rows, fill=-1)

    def keep(self, rows_B: Ints) -> Ints:
        """Copy the rows of these events; where (B,) each event's one is among them."""
        distinct_H, places_B = np.empty((2, len(rows_B)), dtype=np.int64)
        kept = number_rows(rows_B, self._place_N, distinct_H, places_B)
        self.rows = distinct_H[:kept]
        for name, before in self._before.items():
            array = self.columns[name]
            if len(before) < kept:
                before = self._before[name] = np.empty((room_for(kept, 0), *array.shape[1:]), dtype=array.dtype)
            if array.ndim == 2:
                take_rows(array, self.rows, before)
            else:
                np.take(array, self.rows, out=before[:kept], mode="clip")  # none is beyond, and that checks less
        return places_B

    def put_back(self) -> None:
        for name, before in self._before.items():
            self.columns[name][self.rows] = before[: len(self.rows)]


def _packed(matrix_DD: Doubles) -> NDArray[np.float32]:
    """The lower triangle, row after row."""
    return matrix_DD[np.tril_indices(len(matrix_DD))].astype(np.float32)
