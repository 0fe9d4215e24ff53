"""Items and users with every oddity for the tests of the scan, and the lists that are right, by sorting all scores."""

from dataclasses import replace

import numpy as np
import torch

from model.cooccurrence import Cooccurrence, CooccurrenceSettings
from model.item_index import Items
from model.kernels.scan import Askers
from model.windows import empty_windows


def world(seed, *, users=30, items=400, width=8, whole=False, dtype=np.float32, extras=12, seen=15, hides_seen=True):
    """(Items, Askers). `whole`: all parts of the scores are whole numbers, so sums are exact and ties abound."""
    draw = np.random.default_rng(seed)

    def numbers(*shape):
        return (draw.integers(-2, 3, shape) if whole else draw.normal(size=shape)).astype(dtype)

    count_I = (np.floor(2000 * draw.random(items) ** 6)).astype(np.int64)
    known_I = draw.random(items) < 0.9
    count_I[~known_I] = 0
    made = Items(
        torch.from_numpy(numbers(items, width)),
        torch.from_numpy(numbers(items)),
        count_I,
        known_I,
        draw.random(items) < 0.1,
    )
    lengths_U = draw.integers(0, extras + 1, users)
    starts_U = np.concatenate(([0], np.cumsum(lengths_U))).astype(np.int64)
    seen_length_U = draw.integers(0, seen + 1, users).astype(np.int64)
    seen_start_U = np.concatenate(([0], np.cumsum(seen_length_U)[:-1])).astype(np.int64)
    seen_pool = np.concatenate([draw.choice(items, size, replace=False) for size in seen_length_U])
    popularity_U = np.zeros(users) if whole else draw.choice([1.0, 1.3, 0.4, -0.5], users)
    askers = Askers(
        numbers(users, width),
        popularity_U.astype(np.float32),
        starts_U,
        draw.integers(0, items, starts_U[-1]).astype(np.int32),  # some items twice
        numbers(starts_U[-1]).astype(np.float32),
        draw.integers(0, 3, users).astype(np.float32),
        hides_seen,
        seen_pool.astype(np.int32),
        seen_start_U,
        seen_length_U,
    )
    return made, askers


def said_together(askers, count_I, weights=(0.0, 0.02, -0.3, 2.0)):
    """Pairs of all items, and windows of three; some weights are LITTLE."""
    draw, items, users = np.random.default_rng(5), len(count_I), len(askers.users_UD)
    pairs = Cooccurrence(CooccurrenceSettings(neighbours=8))
    pairs.grow(items)
    pairs.pairs.neighbours_IN[:items] = draw.integers(0, items, (items, 8))
    pairs.pairs.strengths_IN[:items] = 1 + draw.random((items, 8))
    pairs.pairs.length_I[:items] = 8
    pairs.pairs.whole_I[:] = -1
    windows = replace(empty_windows(users, 4), items_BW=draw.integers(0, items, (users, 4)).astype(np.int32))
    return pairs.together(windows, count_I, draw.choice(weights, users).astype(np.float32))


def all_scores(items, askers):
    """Scores (U, I) in float64, -inf for what is no candidate."""
    vectors_ID, biases_I = items.vectors_ID.numpy().astype(np.float64), items.biases_I.numpy().astype(np.float64)
    scores_UI = askers.users_UD.astype(np.float64) @ vectors_ID.T + biases_I
    scores_UI += askers.popularity_U.astype(np.float64)[:, None] * np.log(items.count_I + 0.5)
    for user in range(len(scores_UI)):
        its = slice(askers.starts_U[user], askers.starts_U[user + 1])
        np.add.at(
            scores_UI[user], askers.items_E[its], askers.weights_U[user] * askers.values_E[its].astype(np.float64)
        )
        if askers.hides_seen:
            start, length = askers.seen_start_U[user], askers.seen_length_U[user]
            scores_UI[user, askers.seen_pool[start : start + length]] = -np.inf
    scores_UI[:, ~items.known_I] = -np.inf
    if len(items.hidden_I):
        scores_UI[:, items.hidden_I] = -np.inf
    scores_UI[np.isnan(scores_UI)] = -np.inf
    return scores_UI


def right_lists(scores_UI, k):
    """Rows by falling score, then rising row, without those that are no candidates."""
    rows_I = np.arange(scores_UI.shape[1])
    return [[row for row in np.lexsort((rows_I, -row_I))[:k] if row_I[row] > -np.inf] for row_I in scores_UI]


def lists_of(best):
    return [rows[:length].tolist() for rows, length in zip(best.rows_UK, best.lengths_U, strict=True)]


def assert_best(best, scores_UI, k, tolerance=1e-4):
    """The lists are the right ones; where scores are within `tolerance` of each other, in either order."""
    for user, (mine, right) in enumerate(zip(lists_of(best), right_lists(scores_UI, k), strict=True)):
        assert len(mine) == len(right) == len(set(mine))
        np.testing.assert_allclose(scores_UI[user, mine], scores_UI[user, right], atol=tolerance, rtol=0)
        np.testing.assert_allclose(best.scores_UK[user, : len(mine)], scores_UI[user, mine], atol=tolerance, rtol=0)
