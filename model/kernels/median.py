"""The median of a rating's predicted distribution, read and then learned, event by event."""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_with_arrays
from model.kernels.vectors import fetch

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

START_COUNT = 2.0
START_WIDTH = 0.9
"""Before anything is counted, a rating is taken to lie around its prediction, this many levels to each side."""
LEAST_START = 0.001
AHEAD = 6
"""Users whose rows are on their way while one is read."""
TILT_PRIOR = 20.0
"""Ratings' worth of doubt that a user's habit differs from everybody's."""


@compiled_with_arrays
def read_at_median(
    users_B: Ints,
    predictions_B: Doubles,
    ratings_B: Doubles,
    lowest: float,
    highest: float,
    levels_L: Doubles,
    order_L: Ints,
    known: int,
    counts_NL: Doubles,
    start_NL: Doubles,
    seen_UL: Floats,
    expected_UL: Floats,
    medians_B: Doubles,
) -> int:
    """Fill `medians_B`, each before its own rating is counted; returns how many levels are known after the batch.

    Levels are the values that ratings have had, in the order in which they came; `order_L` sorts them. A rating of a
    new value is a new level while there is room, and is counted at the nearest level after that.

    `counts_NL[n] + start_NL[n]` is the distribution after predictions at node n, nodes even on the scale; between two
    nodes it is interpolated. The user's own habit tilts it: a level given more often than expected gains.
    """
    nodes = counts_NL.shape[0]
    usual_L, tilted_L = np.zeros(levels_L.shape[0]), np.zeros(levels_L.shape[0])
    for event in range(users_B.shape[0]):
        if event + AHEAD < users_B.shape[0]:
            fetch(seen_UL, users_B[event + AHEAD])
            fetch(expected_UL, users_B[event + AHEAD])
        user, rating = users_B[event], ratings_B[event]
        prediction = min(max(predictions_B[event], lowest), highest)
        place = (prediction - lowest) / (highest - lowest) * (nodes - 1)
        place = place if place > 0.0 else 0.0  # a NaN too, which would be a row of no table
        node = min(int(place), nodes - 2)
        above = place - node

        below_total, above_total, total = 0.0, 0.0, 0.0
        for level in range(known):
            below_total += counts_NL[node, level] + start_NL[node, level]
            above_total += counts_NL[node + 1, level] + start_NL[node + 1, level]
        share_below, share_above = 0.0, 0.0
        if known > 0:
            share_below, share_above = (1 - above) / below_total, above / above_total
        for level in range(known):
            usual_L[level] = share_below * (counts_NL[node, level] + start_NL[node, level])
            usual_L[level] += share_above * (counts_NL[node + 1, level] + start_NL[node + 1, level])
            habit = (float(seen_UL[user, level]) + TILT_PRIOR) / (float(expected_UL[user, level]) + TILT_PRIOR)
            tilted_L[level] = usual_L[level] * habit
            total += tilted_L[level]
        medians_B[event] = prediction if known == 0 else levels_L[order_L[known - 1]]
        reached = 0.0
        for position in range(known):
            reached += tilted_L[order_L[position]]
            if reached >= total / 2:
                medians_B[event] = levels_L[order_L[position]]
                break

        for level in range(known):
            expected_UL[user, level] = float(expected_UL[user, level]) + usual_L[level]
        own = nearest_level(levels_L, known, rating)
        if known < levels_L.shape[0] and (known == 0 or levels_L[own] != rating):
            own = known
            add_level(levels_L, order_L, known, rating)
            known += 1
            fill_start(levels_L, order_L, known, lowest, highest, start_NL)
        counts_NL[node, own] += 1 - above
        counts_NL[node + 1, own] += above
        seen_UL[user, own] += 1
    return known


@compiled
def new_levels(levels_L: Doubles, known: int, ratings_B: Doubles, new_B: Doubles) -> int:
    """How many distinct values of the batch are no level yet; it stops counting where `new_B` is full."""
    new = 0
    for event in range(ratings_B.shape[0]):
        rating, place = ratings_B[event], 0
        while place < known and levels_L[place] != rating:
            place += 1
        if place == known:
            place = 0
            while place < new and new_B[place] != rating:
                place += 1
            if place == new and new < new_B.shape[0]:
                new_B[new] = rating
                new += 1
    return new


@compiled
def nearest_level(levels_L: Doubles, known: int, rating: float) -> int:
    """The level nearest to the rating, the older of two equally near; 0 where none is known."""
    nearest = 0
    for level in range(1, known):
        if abs(levels_L[level] - rating) < abs(levels_L[nearest] - rating):
            nearest = level
    return nearest


@compiled
def add_level(levels_L: Doubles, order_L: Ints, known: int, rating: float) -> None:
    levels_L[known] = rating
    position = known
    while position > 0 and levels_L[order_L[position - 1]] > rating:
        order_L[position] = order_L[position - 1]
        position -= 1
    order_L[position] = known


@compiled
def fill_start(levels_L: Doubles, order_L: Ints, known: int, lowest: float, highest: float, start_NL: Doubles) -> None:
    """What is assumed before anything was counted: a bell around each node, as wide as the known levels are apart."""
    nodes = start_NL.shape[0]
    apart = highest - lowest
    if known > 1:
        apart = (levels_L[order_L[known - 1]] - levels_L[order_L[0]]) / (known - 1)
    for node in range(nodes):
        middle = lowest + (highest - lowest) * node / (nodes - 1)
        for level in range(known):
            away = (levels_L[level] - middle) / (START_WIDTH * apart)
            start_NL[node, level] = START_COUNT * math.exp(-0.5 * away * away) + LEAST_START
