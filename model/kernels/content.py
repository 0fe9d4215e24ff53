"""What is said of items and users, on top of their vectors, and the gradients back, on the CPU."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely
from model.kernels.vectors import EIGHT, fetch, load, plus_scaled, store

AHEAD = 4
"""Rows that are on their way while one is worked on."""
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


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
    width = values_ND.shape[1]
    for r in range(items_R.shape[0]):
        item, place, column = items_R[r], places_R[r], 0
        row = row_I[item]
        if r + AHEAD < items_R.shape[0] and row_I[items_R[r + AHEAD]] >= 0:
            fetch(vectors_XD, row_I[items_R[r + AHEAD]])
        if row < 0:
            while column + EIGHT <= width:
                store(summed_ND, place, column, load(values_ND, place, column))
                column += EIGHT
            while column < width:
                summed_ND[place, column] = values_ND[place, column]
                column += 1
            continue
        weight = half / (half + count_I[item])
        while column + EIGHT <= width:
            eight = plus_scaled(load(values_ND, place, column), load(vectors_XD, row, column), weight)
            store(summed_ND, place, column, eight)
            column += EIGHT
        while column < width:
            summed_ND[place, column] = values_ND[place, column] + weight * vectors_XD[row, column]
            column += 1


@compiled_loosely
def gather_back(items_R: Ints, by_RD: Floats, row_I: Ints, count_I: Ints, half: float, gathered_ID: Floats) -> None:
    """Back from `put_on_top`: gathered[i] += half / (half + count[i]) * by[r] for items i = items[r] with a row."""
    width = by_RD.shape[1]
    for r in range(items_R.shape[0]):
        item, column = items_R[r], 0
        if row_I[item] < 0:
            continue
        weight = half / (half + count_I[item])
        while column + EIGHT <= width:
            eight = plus_scaled(load(gathered_ID, item, column), load(by_RD, r, column), weight)
            store(gathered_ID, item, column, eight)
            column += EIGHT
        while column < width:
            gathered_ID[item, column] += weight * by_RD[r, column]
            column += 1


@compiled_loosely
def add_bags(
    places_N: Ints, starts_N: Ints, features_E: Ints, weights_E: Floats, values_FD: Floats, summed_BD: Floats
) -> None:
    """summed[places[n]] += the weighted sum of the rows of bag n, whose entries begin at `starts_N[n]`."""
    entries, width = features_E.shape[0], values_FD.shape[1]
    for bag in range(places_N.shape[0]):
        place, column, first = places_N[bag], 0, starts_N[bag]
        past = starts_N[bag + 1] if bag + 1 < starts_N.shape[0] else entries
        while column + 4 * EIGHT <= width:
            sums_0, sums_1 = load(summed_BD, place, column), load(summed_BD, place, column + EIGHT)
            sums_2, sums_3 = load(summed_BD, place, column + 2 * EIGHT), load(summed_BD, place, column + 3 * EIGHT)
            for entry in range(first, past):
                feature, weight = features_E[entry], weights_E[entry]
                if column == 0 and entry + AHEAD < entries:
                    fetch(values_FD, features_E[entry + AHEAD])
                sums_0 = plus_scaled(sums_0, load(values_FD, feature, column), weight)
                sums_1 = plus_scaled(sums_1, load(values_FD, feature, column + EIGHT), weight)
                sums_2 = plus_scaled(sums_2, load(values_FD, feature, column + 2 * EIGHT), weight)
                sums_3 = plus_scaled(sums_3, load(values_FD, feature, column + 3 * EIGHT), weight)
            store(summed_BD, place, column, sums_0)
            store(summed_BD, place, column + EIGHT, sums_1)
            store(summed_BD, place, column + 2 * EIGHT, sums_2)
            store(summed_BD, place, column + 3 * EIGHT, sums_3)
            column += 4 * EIGHT
        while column + EIGHT <= width:
            sums_0 = load(summed_BD, place, column)
            for entry in range(first, past):
                sums_0 = plus_scaled(sums_0, load(values_FD, features_E[entry], column), weights_E[entry])
            store(summed_BD, place, column, sums_0)
            column += EIGHT
        while column < width:
            for entry in range(first, past):
                summed_BD[place, column] += weights_E[entry] * values_FD[features_E[entry], column]
            column += 1


@compiled_loosely
def number_features(places_N: Ints, starts_N: Ints, features_E: Ints, number_F: Ints, features_M: Ints) -> int:
    """Number the distinct features of the bags whose place is not below 0 by first mention; how many there are.

    `number_F` is -1 everywhere before.
    """
    mentioned = 0
    for bag in range(places_N.shape[0]):
        past = starts_N[bag + 1] if bag + 1 < starts_N.shape[0] else features_E.shape[0]
        for entry in range(starts_N[bag], past if places_N[bag] >= 0 else starts_N[bag]):
            feature = features_E[entry]
            if number_F[feature] < 0:
                number_F[feature] = mentioned
                features_M[mentioned] = feature
                mentioned += 1
    return mentioned


@compiled_loosely
def pull_bags_back(
    places_N: Ints,
    starts_N: Ints,
    features_E: Ints,
    weights_E: Floats,
    by_BD: Floats,
    features_M: Ints,
    number_F: Ints,
    by_MD: Floats,
) -> None:
    """Back from `add_bags`: add the gradient by each feature, in the order of `number_features`, to `by_MD`.

    `number_F` is -1 everywhere at the end.
    """
    width, entries = by_BD.shape[1], features_E.shape[0]
    for bag in range(places_N.shape[0]):
        place = places_N[bag]
        past = starts_N[bag + 1] if bag + 1 < starts_N.shape[0] else entries
        for entry in range(starts_N[bag], past if place >= 0 else starts_N[bag]):
            to, weight, column = number_F[features_E[entry]], weights_E[entry], 0
            if entry + AHEAD < entries and number_F[features_E[entry + AHEAD]] >= 0:
                fetch(by_MD, number_F[features_E[entry + AHEAD]])
            while column + EIGHT <= width:
                store(by_MD, to, column, plus_scaled(load(by_MD, to, column), load(by_BD, place, column), weight))
                column += EIGHT
            while column < width:
                by_MD[to, column] += weight * by_BD[place, column]
                column += 1
    for number in range(features_M.shape[0]):
        number_F[features_M[number]] = -1
