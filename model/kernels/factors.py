"""Predict a rating, then learn it: biased matrix factorisation, event by event, a user and an item a packed row each.

Inside, ratings lie between 0 and 1 and errors are in standard deviations of all ratings so far. All state of one user
(or item) is one row of float32, so that an event reads two stretches of memory and writes them back.
"""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely
from model.kernels.running import (
    COUNT,
    HIGHEST,
    LEAST_DEVIATION_OF_RANGE,
    LOG_COUNT,
    LOWEST,
    MEAN,
    deviation_of,
    observe,
)
from model.kernels.vectors import EIGHT, copy_row, load, plus_product, plus_scaled, scaled, store, total, zeros

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BIAS, RATED, SESSION, SLOPE, POPULARITY, USER_FACTORS = range(6)
"""Columns of a user's row; the factors go on from theirs to the end."""

ITEM_RATED, ITEM_LOG_COUNT, ITEM_FACTORS = 1, 2, 3
"""Columns of an item's row, the bias as the user's."""

LARGEST_ERROR = 5.0
SLOWEST_MEAN = 0.001
MOST_COUNTED = float(2**23)
"""Counts stop here, where float32 still tells one from the next."""


@compiled_loosely
def predict_then_learn(
    users_B: Ints,
    items_B: Ints,
    times_B: Ints,
    ratings_B: Doubles,
    rates: Doubles,
    overall: Doubles,
    user_time_U: Ints,
    user_rows_UX: Floats,
    item_rows_IY: Floats,
    predictions_B: Doubles,
    times_before_B: Ints,
    users_before_BX: Floats,
    items_before_BY: Floats,
) -> int:
    """Fill `predictions_B`, each within the range of the ratings before it; how many events were learned.

    It stops before an event whose numbers are not finite. The arrays of what was before get the rows of each event as
    it found them. `rates` are unpacked here in the order of `FactorRates.live`.
    """
    factor_floor, factor_rise, factor_fall, shrink = rates[0], rates[1], rates[2], rates[3]
    user_prior, user_floor, item_prior, item_floor = rates[4], rates[5], rates[6], rates[7]
    session_rate, slope_rate, popularity_rate, bias_shrink = rates[8], rates[9], rates[10], rates[11]
    factors = user_rows_UX.shape[1] - USER_FACTORS
    for event in range(users_B.shape[0]):
        user, item, rating = users_B[event], items_B[event], ratings_B[event]
        earlier = overall[COUNT]
        mean = overall[MEAN] if earlier > 0 else 0.5
        deviation = deviation_of(overall)
        times_before_B[event] = user_time_U[user]
        copy_row(user_rows_UX, user, users_before_BX, event)
        copy_row(item_rows_IY, item, items_before_BY, event)

        # prediction
        user_rated, item_rated = user_rows_UX[user, RATED], item_rows_IY[item, ITEM_RATED]
        session = user_rows_UX[user, SESSION]
        if user_rated > 0:
            gap_minutes = max(float(times_B[event]) - float(user_time_U[user]), 0.0) / 60_000.0
            keep = 1.0 / (1.0 + gap_minutes)
            session *= keep * keep * keep
        log_count = item_rows_IY[item, ITEM_LOG_COUNT]
        usual_log_count = overall[LOG_COUNT]
        usual_log_count += max(SLOWEST_MEAN, 1.0 / (earlier + 1.0)) * (log_count - usual_log_count)
        fame = log_count - usual_log_count
        user_bias, item_bias = user_rows_UX[user, BIAS], item_rows_IY[item, BIAS]
        slope, popularity = user_rows_UX[user, SLOPE], user_rows_UX[user, POPULARITY]
        expected = user_bias + session + (1.0 + slope) * item_bias + popularity * fame
        sums, user_squares, item_squares, factor = zeros(user_rows_UX), zeros(user_rows_UX), zeros(user_rows_UX), 0
        while factor + EIGHT <= factors:
            of_user = load(user_rows_UX, user, USER_FACTORS + factor)
            of_item = load(item_rows_IY, item, ITEM_FACTORS + factor)
            sums = plus_product(sums, of_user, of_item)
            user_squares = plus_product(user_squares, of_user, of_user)
            item_squares = plus_product(item_squares, of_item, of_item)
            factor += EIGHT
        expected += total(sums)
        user_square, item_square = total(user_squares), total(item_squares)
        while factor < factors:
            one, other = user_rows_UX[user, USER_FACTORS + factor], item_rows_IY[item, ITEM_FACTORS + factor]
            expected += one * other
            user_square += one * one
            item_square += other * other
            factor += 1
        if not math.isfinite(expected):
            return event
        predictions_B[event] = mean
        if earlier > 0:  # nobody has been known to give less than the lowest so far, or more than the highest
            predictions_B[event] = min(max(mean + deviation * expected, overall[LOWEST]), overall[HIGHEST])

        # learning
        observe(overall, rating, usual_log_count)
        error = 0.0
        if earlier > 0:
            target = (rating - mean) / max(deviation, LEAST_DEVIATION_OF_RANGE * (overall[HIGHEST] - overall[LOWEST]))
            error = min(max(target - expected, -LARGEST_ERROR), LARGEST_ERROR)
        user_rate = max(factor_floor, factor_rise / (1.0 + user_rated * factor_fall))
        item_rate = max(factor_floor, factor_rise / (1.0 + item_rated * factor_fall))
        user_keep, item_keep = max(1.0 - user_rate * shrink, 0.0), max(1.0 - item_rate * shrink, 0.0)
        pull = error / (1.0 + user_rate * item_square + item_rate * user_square)  # a step that cannot overshoot
        user_pull, item_pull = user_rate * pull, item_rate * pull
        squares, factor = zeros(user_rows_UX), 0
        while factor + EIGHT <= factors:
            of_user = load(user_rows_UX, user, USER_FACTORS + factor)
            of_item = load(item_rows_IY, item, ITEM_FACTORS + factor)
            moved_user = plus_scaled(scaled(of_user, user_keep), of_item, user_pull)
            moved_item = plus_scaled(scaled(of_item, item_keep), of_user, item_pull)
            store(user_rows_UX, user, USER_FACTORS + factor, moved_user)
            store(item_rows_IY, item, ITEM_FACTORS + factor, moved_item)
            squares = plus_product(plus_product(squares, moved_user, moved_user), moved_item, moved_item)
            factor += EIGHT
        length = total(squares)
        while factor < factors:
            one, other = user_rows_UX[user, USER_FACTORS + factor], item_rows_IY[item, ITEM_FACTORS + factor]
            moved_one, moved_other = user_keep * one + user_pull * other, item_keep * other + item_pull * one
            user_rows_UX[user, USER_FACTORS + factor] = moved_one
            item_rows_IY[item, ITEM_FACTORS + factor] = moved_other
            length += moved_one * moved_one + moved_other * moved_other
            factor += 1
        user_bias += max(user_floor, 1.0 / (user_rated + 1.0 + user_prior)) * error - bias_shrink * user_bias
        session += session_rate * error
        slope += slope_rate * error * item_bias
        popularity += popularity_rate * error * fame
        item_bias += max(item_floor, 1.0 / (item_rated + 1.0 + item_prior)) * error
        length += user_bias * user_bias + session * session + slope * slope + popularity * popularity
        length += item_bias * item_bias
        user_rows_UX[user, BIAS], item_rows_IY[item, BIAS] = user_bias, item_bias
        user_rows_UX[user, SESSION], user_rows_UX[user, SLOPE] = session, slope
        user_rows_UX[user, POPULARITY] = popularity
        user_rows_UX[user, RATED] = min(user_rated + 1.0, MOST_COUNTED)
        item_rows_IY[item, ITEM_RATED] = min(item_rated + 1.0, MOST_COUNTED)
        item_rows_IY[item, ITEM_LOG_COUNT] = math.log1p(item_rows_IY[item, ITEM_RATED])
        user_time_U[user] = times_B[event]
        if not math.isfinite(np.float32(length)):
            put_back(
                users_B[event : event + 1],
                items_B[event : event + 1],
                user_time_U,
                user_rows_UX,
                item_rows_IY,
                times_before_B[event : event + 1],
                users_before_BX[event : event + 1],
                items_before_BY[event : event + 1],
            )
            return event
    return len(users_B)


@compiled
def put_back(
    users_B: Ints,
    items_B: Ints,
    user_time_U: Ints,
    user_rows_UX: Floats,
    item_rows_IY: Floats,
    times_before_B: Ints,
    users_before_BX: Floats,
    items_before_BY: Floats,
) -> None:
    """Undo these events, the last one first."""
    for back in range(users_B.shape[0]):
        event = users_B.shape[0] - 1 - back
        user_time_U[users_B[event]] = times_before_B[event]
        copy_row(users_before_BX, event, user_rows_UX, users_B[event])
        copy_row(items_before_BY, event, item_rows_IY, items_B[event])
