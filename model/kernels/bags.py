"""Weighted sums of item embeddings over windows, and their gradients, on the CPU."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely, compiled_loosely_with_arrays
from model.kernels.vectors import EIGHT, load, plus_product, plus_scaled, store, total, zeros

Rows = NDArray[np.int32]
Small = NDArray[np.int8]
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@compiled_loosely_with_arrays
def sum_bags(
    items_BW: Rows,
    gaps_BW: Small,
    kinds_BW: Small,
    starts_G: Ints,
    widths_G: Ints,
    lag_GW: Floats,
    gap_GZ: Floats,
    kind_GK: Floats,
    items_ID: Floats,
    weights_BGW: Floats,
    users_BD: Floats,
) -> None:
    """users[b, columns of g] = sum over ages w < widths[g] of weights[b, g, w] * items[item of w, columns of g].

    weights = exp(lag[g, w]) * exp(gap[g, bucket of w]) * exp(kind[g, kind of w]); group g's columns begin at
    `starts_G[g]`. Weights beyond the end of a window are not written.
    """
    lag_GW, gap_GZ, kind_GK = np.exp(lag_GW), np.exp(gap_GZ), np.exp(kind_GK)  # few, and each is used often
    for event in range(items_BW.shape[0]):
        filled = 0
        while filled < items_BW.shape[1] and items_BW[event, filled] >= 0:
            filled += 1
        for group in range(widths_G.shape[0]):
            ages = min(filled, widths_G[group])
            for age in range(ages):
                weights_BGW[event, group, age] = (
                    lag_GW[group, age] * gap_GZ[group, gaps_BW[event, age]] * kind_GK[group, kinds_BW[event, age]]
                )
            column, past = starts_G[group], starts_G[group + 1]
            while column + 2 * EIGHT <= past:
                sums, next_sums = zeros(items_ID), zeros(items_ID)
                for age in range(ages):
                    item, weight = items_BW[event, age], weights_BGW[event, group, age]
                    sums = plus_scaled(sums, load(items_ID, item, column), weight)
                    next_sums = plus_scaled(next_sums, load(items_ID, item, column + EIGHT), weight)
                store(users_BD, event, column, sums)
                store(users_BD, event, column + EIGHT, next_sums)
                column += 2 * EIGHT
            while column + EIGHT <= past:
                sums = zeros(items_ID)
                for age in range(ages):
                    weight = weights_BGW[event, group, age]
                    sums = plus_scaled(sums, load(items_ID, items_BW[event, age], column), weight)
                store(users_BD, event, column, sums)
                column += EIGHT
            while column < past:
                users_BD[event, column] = 0
                for age in range(ages):
                    users_BD[event, column] += weights_BGW[event, group, age] * items_ID[items_BW[event, age], column]
                column += 1


@compiled_loosely
def pull_bags_back(
    items_BW: Rows,
    gaps_BW: Small,
    kinds_BW: Small,
    starts_G: Ints,
    widths_G: Ints,
    items_ID: Floats,
    weights_BGW: Floats,
    by_users_BD: Floats,
    by_items_ID: Floats,
    by_lag_GW: Floats,
    by_gap_GZ: Floats,
    by_kind_GK: Floats,
) -> None:
    """Add the gradients by items, lags, gaps and kinds that `by_users_BD` means; weights as `sum_bags` left them."""
    for event in range(items_BW.shape[0]):
        filled = 0
        while filled < items_BW.shape[1] and items_BW[event, filled] >= 0:
            filled += 1
        for group in range(widths_G.shape[0]):
            past = starts_G[group + 1]
            for age in range(min(filled, widths_G[group])):
                item, weight = items_BW[event, age], weights_BGW[event, group, age]
                column = starts_G[group]
                products = zeros(items_ID)
                while column + EIGHT <= past:
                    by_user = load(by_users_BD, event, column)
                    products = plus_product(products, by_user, load(items_ID, item, column))
                    by_item = load(by_items_ID, item, column)
                    store(by_items_ID, item, column, plus_scaled(by_item, by_user, weight))
                    column += EIGHT
                product = total(products)
                while column < past:
                    product += items_ID[item, column] * by_users_BD[event, column]
                    by_items_ID[item, column] += weight * by_users_BD[event, column]
                    column += 1
                product *= weight
                by_lag_GW[group, age] += product
                by_gap_GZ[group, gaps_BW[event, age]] += product
                by_kind_GK[group, kinds_BW[event, age]] += product
