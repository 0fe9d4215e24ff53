"""Predict a rating, then learn it: user state and running means event by event, item factors gathered for the batch."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@compiled
def predict_then_learn(
    users_B: Ints,
    items_B: Ints,
    ratings_B: Doubles,
    rates: Doubles,
    overall: Doubles,
    user_bias_U: Doubles,
    user_mood_U: Doubles,
    user_count_U: Ints,
    user_factors_UF: Floats,
    item_bias_I: Doubles,
    item_count_I: Ints,
    item_factors_IF: Floats,
    start_F: Floats,
    gradient_IF: Floats,
    predictions_B: Doubles,
) -> None:
    """Fill `predictions_B` (before learning each event) and the gradient of half the squared error by item factors.

    `overall` is (sum, count) of all ratings and the mean to assume before the first; `rates` the settings in the
    order in which they are unpacked here. The gradient is negative: it points to where the error falls.
    """
    user_prior, user_floor, item_prior, item_floor, mood_rate, mood_weight = rates[:6]
    factor_rate, factor_pull, slowdown, shrink = rates[6:]
    factors = item_factors_IF.shape[1]
    for event in range(users_B.shape[0]):
        rating = ratings_B[event]
        user = users_B[event]
        item = items_B[event]
        mean = overall[0] / overall[1] if overall[1] > 0 else overall[2]
        known = mean + user_bias_U[user] + item_bias_I[item]
        for f in range(factors):
            known += user_factors_UF[user, f] * item_factors_IF[item, f]
        prediction = known + mood_weight * user_mood_U[user]
        predictions_B[event] = prediction
        error = rating - prediction

        overall[0] += rating
        overall[1] += 1
        user_mood_U[user] += mood_rate * (rating - known - user_mood_U[user])
        user_bias_U[user] += max(user_floor, 1.0 / (user_count_U[user] + 1 + user_prior)) * error
        item_bias_I[item] += max(item_floor, 1.0 / (item_count_I[item] + 1 + item_prior)) * error
        rate = factor_rate / np.sqrt(1.0 + user_count_U[user] / slowdown)
        user_count_U[user] += 1
        item_count_I[item] += 1
        for f in range(factors):
            of_user = user_factors_UF[user, f]
            of_item = item_factors_IF[item, f]
            gradient_IF[item, f] += error * of_user - shrink * of_item
            user_factors_UF[user, f] = of_user + rate * (error * of_item - factor_pull * (of_user - start_F[f]))


@compiled
def read_at_median(
    predictions_B: Doubles, ratings_B: Doubles, lowest: float, highest: float, table: Doubles, medians_B: Doubles
) -> None:
    """The median of the ratings that followed similar predictions so far; then count each event's own rating.

    `table[p, r]` counts ratings at level r after predictions in bin p. The mean of a predicted distribution
    minimises the squared error, its median the absolute one.
    """
    bins, levels = table.shape
    for event in range(predictions_B.shape[0]):
        clipped = min(max(predictions_B[event], lowest), highest)
        place = (clipped - lowest) / (highest - lowest)
        bin = min(int(place * bins), bins - 1)
        total = 0.0
        for level in range(levels):
            total += table[bin, level]
        medians_B[event] = clipped
        if total >= 20.0:
            reached = 0.0
            for level in range(levels):
                reached += table[bin, level]
                if reached >= total / 2:
                    medians_B[event] = lowest + (highest - lowest) * level / (levels - 1)
                    break
        level = int(np.round((ratings_B[event] - lowest) / (highest - lowest) * (levels - 1)))
        table[bin, min(max(level, 0), levels - 1)] += 1.0
