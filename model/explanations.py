"""Why a list is as it is: what a score is made of, and what it would be without each item of the user's history.

    score = history + content + said + bias + popularity + together + repeat

as `model.scores` adds them up. What an item of the history did to the score of another is found by leaving it out:
the user's window is read as if that item had never come (older ones move up), and the score is worked out again. The
difference is a fact about the model as it stands, whichever encoder it has (leave-one-out, as in Li, Monroe and
Jurafsky, 2016, "Understanding neural networks through representation erasure"). Differences need not add up to the
score: in a network two items may say the same.

Cost: one reading of a window for each item in it, and all vectors of items once; for people, not for the stream.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.content import cold_code
from model.learner import Learner
from model.scores import repeats_of

Ints = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Score(NamedTuple):
    """What adds up to the score of an item for a user."""

    history: float
    """The encoder's vector of the user's newest items, times the item's embedding."""
    content: float
    """The same vector, times what the catalogue says of the item."""
    said: float
    """What is known or was written of the user, times the item's whole vector."""
    bias: float
    popularity: float
    """Weight of a history of this length, times the log of the item's count."""
    together: float
    """What items of the history went together with it in other histories."""
    repeat: float
    """Bias of an item that the user had lately, where these stay candidates."""


Exclusion = Literal["not described", "not available", "leaving", "seen"]
"""Without an event, and nothing said of it; withdrawn by the catalogue; on its way out (`model.leaving`); had by the
user."""


class Explanation(NamedTuple):
    """Why an item stands where it stands for a user."""

    code: int
    """As in `model.topk.Lists`: the item's row, or `cold_code` of the catalogue's."""
    excluded: Exclusion | None
    """Why the item is in no list of the user; None where it is a candidate."""
    score: Score
    because: list[tuple[int, float]]
    """Rows of the items in the user's window, and how much lower the score would be without each: what helped most
    first, what counted against it last."""


def explain(learner: Learner, user: int, codes: Sequence[int]) -> list[Explanation]:
    """One explanation for each of these distinct codes, candidates or not, for a user's row.

    Parts are float64; their sum is what `Learner.scores` and `Learner.cold_scores` round to float32.
    """
    live, parameters = learner.live, learner.ranking.parameters
    count_I, user_1 = live.counts.count_I[: live.counts.items], np.array([user], dtype=np.int64)
    items_M, windows = live.history.windows_without(user, learner.settings.window)  # the whole one, and M others
    vectors_ID, length = parameters.vectors(count_I), windows.lengths_B[0]
    encoded = parameters.encoder.encode(windows, vectors_ID)
    said = learner.said.of(user_1, live.history.pushed_U[user_1])
    said_D = np.zeros(encoded.shape[1]) if said is None else _numbers(said.on_top(encoded[:1]) - encoded[:1])[0]
    rows_N = learner.rows_of_list(codes)
    items = _items(learner, np.array(codes, dtype=np.int64), rows_N, vectors_ID, count_I)

    placed_N = np.flatnonzero(rows_N >= 0)
    place_I = np.full(len(count_I), -1, dtype=np.int64)
    place_I[rows_N[placed_N]] = placed_N
    features, shape = parameters.features(windows, count_I), (len(windows), len(rows_N))
    events, ages, repeated = repeats_of(windows if learner.settings.allow_repeats else windows[:0])
    feature_BN = _placed(features.events_E, features.items_E, features.values_E, place_I, shape)
    together_BN = _numbers(parameters.mix["together"])[length] * feature_BN
    repeat_BN = _placed(events, repeated, _numbers(parameters.mix["repeat"])[ages], place_I, shape)
    history_BN = _numbers(encoded) @ items.embedding_ND.T
    content_BN = _numbers(encoded) @ items.content_ND.T

    following_BN = history_BN + content_BN + together_BN + repeat_BN
    lower_MN = following_BN[:1] - following_BN[1:]
    order_MN = np.argsort(-lower_MN, axis=0, kind="stable")
    parts_N = zip(
        history_BN[0].tolist(),
        content_BN[0].tolist(),
        ((items.embedding_ND + items.content_ND) @ said_D).tolist(),
        items.bias_N.tolist(),
        (_numbers(parameters.mix["popularity"])[length] * np.log(items.count_N + 0.5)).tolist(),
        together_BN[0].tolist(),
        repeat_BN[0].tolist(),
        strict=True,
    )
    return [
        Explanation(
            code,
            _excluded(learner, user, code, row),
            Score(*parts),
            list(zip(items_M[order_M].tolist(), lower_M[order_M].tolist(), strict=True)),
        )
        for code, row, parts, order_M, lower_M in zip(
            codes, rows_N.tolist(), parts_N, order_MN.T, lower_MN.T, strict=True
        )
    ]


class _Items(NamedTuple):
    """What of the scores belongs to the items; an item without an event has its content alone."""

    embedding_ND: Numbers
    content_ND: Numbers
    bias_N: Numbers
    count_N: Numbers


def _items(learner: Learner, codes_N: Ints, rows_N: Ints, vectors_ID: Tensor, count_I: Ints) -> _Items:
    parameters, content, shape = learner.ranking.parameters, learner.ranking.content, (len(rows_N), vectors_ID.shape[1])
    items = _Items(np.zeros(shape), np.zeros(shape), np.zeros(len(rows_N)), np.zeros(len(rows_N)))
    known_N, cold_N = np.flatnonzero(rows_N >= 0), np.flatnonzero(rows_N < 0)
    rows = rows_N[known_N]
    items.embedding_ND[known_N] = _numbers(parameters.items.values[rows])
    items.content_ND[known_N] = _numbers(vectors_ID[rows]) - items.embedding_ND[known_N]
    items.bias_N[known_N] = _numbers(parameters.biases.values[rows])[:, 0]
    items.count_N[known_N] = count_I[rows]
    if content is not None and len(cold_N):
        items.content_ND[cold_N] = _numbers(content.vectors(cold_code(codes_N[cold_N])))
    return items


def _excluded(learner: Learner, user: int, code: int, row: int) -> Exclusion | None:
    live, content, items = learner.live, learner.ranking.content, learner.live.counts.items
    if row < 0:
        if content is None or not content.available_X[cold_code(code)]:
            return "not available"
        return None if content.is_cold(np.array([cold_code(code)]))[0] else "not described"
    if content is not None and content.hidden_I[row]:
        return "not available"
    if learner.letting_go.leaving(items)[row : row + 1].any():
        return "leaving"
    return "seen" if not learner.settings.allow_repeats and row in live.seen.items(user) else None


def _placed(
    events_E: Ints, items_E: NDArray[np.int32], values_E: NDArray[np.floating], place_I: Ints, shape: tuple[int, int]
) -> Numbers:
    """Entries of (event, item) added up in (B, N), those of items that have a place there."""
    values_BN, is_placed_E = np.zeros(shape), place_I[items_E] >= 0
    np.add.at(values_BN, (events_E[is_placed_E], place_I[items_E[is_placed_E]]), values_E[is_placed_E])
    return values_BN


def _numbers(values: Tensor) -> Numbers:
    numbers: Numbers = values.detach().cpu().double().numpy()
    return numbers
