"""What is said of items and users, on top of their vectors, and the gradients back, on the CPU."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely
from model.kernels.vectors import EIGHT, fetch, load, plus_scaled, store

AHEAD = 4
"""Rows that are on their way while one is worked on."""
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Whole = int | np.integer
Number = float | np.floating


@compiled_loosely
def _add_row(from_ND: Floats, row: Whole, weight: Number, to_ND: Floats, to_row: Whole) -> None:
    """to[to_row] += weight * from[row]."""
    column, width = 0, from_ND.shape[1]
    while column + EIGHT <= width:
        store(to_ND, to_row, column, plus_scaled(load(to_ND, to_row, column), load(from_ND, row, column), weight))
        column += EIGHT
    while column < width:
        to_ND[to_row, column] += weight * from_ND[row, column]
        column += 1


@compiled_loosely
def put_on_top(
    items_R: Ints,
    places_R: Ints,
    values_ND: Floats,
    vectors_XD: Floats,
    row_I: Ints,
    count_I: Ints,
    half: float,
    summed_ND: Floats,
) -> None:
    """summed[n] = values[n] + half / (half + count[i]) * vectors[row[i]] for items i at places n.

    Where `row_I` is below 0 there is no vector, and nothing is added. `summed_ND` may be `values_ND`.
    """
    for r in range(items_R.shape[0]):
        item, place = items_R[r], places_R[r]
        if r + AHEAD < items_R.shape[0] and row_I[items_R[r + AHEAD]] >= 0:
            fetch(vectors_XD, row_I[items_R[r + AHEAD]])
        for column in range(values_ND.shape[1]):
            summed_ND[place, column] = values_ND[place, column]
        if row_I[item] >= 0:
            _add_row(vectors_XD, row_I[item], half / (half + count_I[item]), summed_ND, place)


@compiled_loosely
def gather_back(items_R: Ints, by_RD: Floats, row_I: Ints, count_I: Ints, half: float, gathered_ID: Floats) -> None:
    """gathered[i] += half / (half + count[i]) * by[r] for items i = items[r] that have a row: back from `put_on_top`."""
    for r in range(items_R.shape[0]):
        item = items_R[r]
        if row_I[item] >= 0:
            _add_row(by_RD, r, half / (half + count_I[item]), gathered_ID, item)


@compiled_loosely
def add_bags(
    places_N: Ints, starts_N: Ints, features_E: Ints, weights_E: Floats, values_FD: Floats, summed_BD: Floats
) -> None:
    """summed[places[n]] += the weighted sum of the rows of bag n, whose entries begin at `starts_N[n]`."""
    for bag in range(places_N.shape[0]):
        past = starts_N[bag + 1] if bag + 1 < starts_N.shape[0] else features_E.shape[0]
        for entry in range(starts_N[bag], past):
            _add_row(values_FD, features_E[entry], weights_E[entry], summed_BD, places_N[bag])


@compiled_loosely
def pull_bags_back(
    places_N: Ints,
    starts_N: Ints,
    features_E: Ints,
    weights_E: Floats,
    by_BD: Floats,
    place_F: Ints,
    features_M: Ints,
    by_MD: Floats,
) -> int:
    """Back from `add_bags`: the distinct features by first mention, their gradients, and how many there are.

    `by_MD` is zeros with room for all entries; `place_F` is -1 everywhere, and again at the end.
    """
    mentioned = 0
    for bag in range(places_N.shape[0]):
        past = starts_N[bag + 1] if bag + 1 < starts_N.shape[0] else features_E.shape[0]
        for entry in range(starts_N[bag], past):
            feature = features_E[entry]
            if place_F[feature] < 0:
                place_F[feature] = mentioned
                features_M[mentioned] = feature
                mentioned += 1
            _add_row(by_BD, places_N[bag], weights_E[entry], by_MD, place_F[feature])
    for place in range(mentioned):
        place_F[features_M[place]] = -1
    return mentioned
