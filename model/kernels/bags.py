"""Weighted sums of item embeddings over windows, and their gradients, on the CPU."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely

Rows = NDArray[np.int32]
Small = NDArray[np.int8]
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@compiled_loosely
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

    weights = exp(lag[g, w] + gap[g, bucket of w] + kind[g, kind of w]); group g's columns begin at `starts_G[g]`.
    """
    for event in range(items_BW.shape[0]):
        for group in range(widths_G.shape[0]):
            first, past = starts_G[group], starts_G[group + 1]
            for column in range(first, past):
                users_BD[event, column] = 0
            for age in range(widths_G[group]):
                item = items_BW[event, age]
                if item < 0:
                    break
                weight = np.exp(
                    lag_GW[group, age] + gap_GZ[group, gaps_BW[event, age]] + kind_GK[group, kinds_BW[event, age]]
                )
                weights_BGW[event, group, age] = weight
                for column in range(first, past):
                    users_BD[event, column] += weight * items_ID[item, column]


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
        for group in range(widths_G.shape[0]):
            first, past = starts_G[group], starts_G[group + 1]
            for age in range(widths_G[group]):
                item = items_BW[event, age]
                if item < 0:
                    break
                weight = weights_BGW[event, group, age]
                product = by_users_BD[event, first] - by_users_BD[event, first]
                for column in range(first, past):
                    product += items_ID[item, column] * by_users_BD[event, column]
                    by_items_ID[item, column] += weight * by_users_BD[event, column]
                product *= weight
                by_lag_GW[group, age] += product
                by_gap_GZ[group, gaps_BW[event, age]] += product
                by_kind_GK[group, kinds_BW[event, age]] += product
