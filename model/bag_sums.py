"""Weighted sums of the rows of a table, one for each bag of features, and the way back of their gradients.

What the catalogue says of items (`model.content`) and what is said of users (`model.user_content`) become vectors here.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.entries import Bags, Entries
from model.kernels.content import number_features, pull_bags_back

NONE = -1
"""In place of a row: there is none."""


def sums(bags: Bags, rows: Tensor) -> Tensor:
    """Weighted sums of rows, one for each bag; an empty bag gives zeros."""
    device = rows.device
    weights = torch.from_numpy(bags.weights_E).to(rows)
    summed: Tensor = functional.embedding_bag(
        torch.from_numpy(bags.features_E).to(device),
        rows,
        torch.from_numpy(bags.starts_N).to(device),
        mode="sum",
        per_sample_weights=weights,
    )
    return summed


def pulled_back(entries: Entries, bags: Bags, places_N: NDArray[np.int64], by_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Back from `sums` put at `places_N` of B rows: the distinct features (F,) of the bags and the gradient by each.

    Bags whose place is NONE are left out. `entries`: the matrix whose rows the bags are.
    """
    if by_BD.device.type != "cpu":
        return _pulled_back_anywhere(bags, places_N, by_BD)
    features_F = np.empty(min(len(bags.features_E), entries.features), dtype=np.int64)
    number_F = entries.no_numbers()
    features_F = features_F[: number_features(places_N, bags.starts_N, bags.features_E, number_F, features_F)]
    by_FD = by_BD.new_zeros((len(features_F), by_BD.shape[1]))
    pull_bags_back(
        places_N,
        bags.starts_N,
        bags.features_E,
        bags.weights_E,
        by_BD.numpy(),
        features_F,
        number_F,
        by_FD.numpy(),
    )
    return torch.from_numpy(features_F), by_FD


def _pulled_back_anywhere(bags: Bags, places_N: NDArray[np.int64], by_BD: Tensor) -> tuple[Tensor, Tensor]:
    """The plain torch twin, for GPUs: features by number instead of by first mention."""
    some = bags.some(np.flatnonzero(places_N != NONE))
    places_N = places_N[places_N != NONE]
    order_E = np.argsort(some.features_E, kind="stable")
    features_F, starts_F = np.unique(some.features_E[order_E], return_index=True)
    turned = Bags(starts_F, places_N[some.rows_E[order_E]], some.weights_E[order_E])
    return torch.from_numpy(features_F).to(by_BD.device), sums(turned, by_BD)
