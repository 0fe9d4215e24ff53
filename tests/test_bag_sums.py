"""Sums of bags of features, and the way back: compiled and in plain torch, against autograd."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from model.bag_sums import NONE, _pulled_back_anywhere, pulled_back, sums
from model.entries import Entries, ItemContent, features_of


@pytest.fixture
def entries():
    """Twenty items of two kinds, of which the last says nothing."""
    made = Entries()
    made.grow(20)
    kinds = [ItemContent(categories=[f"kind {n % 2}"], features={"price": float(n)}) for n in range(19)]
    made.write(np.arange(20), [features_of(content) for content in [*kinds, None]])
    made.refresh()
    return made


def test_an_empty_bag_sums_to_nothing_and_the_others_to_their_weighted_rows(entries):
    rows = torch.randn((entries.features, 3), generator=torch.Generator().manual_seed(1))
    bags = entries.bags(np.arange(20))

    summed = sums(bags, rows)

    ends = [*bags.starts_N.tolist(), len(bags.features_E)]
    assert ends[-1] == ends[-2], "the last one is empty"
    for place, (first, past) in enumerate(pairwise(ends)):
        weights = torch.from_numpy(bags.weights_E[first:past]).to(rows)[:, None]
        expected = (rows[bags.features_E[first:past]] * weights).sum(0)
        torch.testing.assert_close(summed[place], expected)
    assert summed[0].abs().sum() > 0


def test_the_way_back_is_the_gradient_that_autograd_has_and_leaves_out_who_has_no_place(entries):
    rows = torch.randn((entries.features, 3), generator=torch.Generator().manual_seed(2)).requires_grad_()
    by_BD = torch.randn((12, 3), generator=torch.Generator().manual_seed(3))
    places_N = np.where(np.arange(20) % 2, NONE, np.arange(20) // 2)
    placed = np.flatnonzero(places_N != NONE)
    (sums(entries.bags(placed), rows) * by_BD[places_N[placed]]).sum().backward()

    bags = entries.bags(np.arange(20))
    ways = [pulled_back(entries, bags, places_N, by_BD), _pulled_back_anywhere(bags, places_N, by_BD)]

    for features, by_features in ways:
        found = torch.zeros_like(rows)
        found[features] = by_features
        torch.testing.assert_close(found, rows.grad)
    assert rows.grad.abs().sum() > 0
