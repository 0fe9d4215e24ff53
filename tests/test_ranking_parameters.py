"""The parameters of the ranking head: a step is taken whole or refused, and neither leaves anything behind."""

import numpy as np
import pytest
import torch
from ranked_batches import ITEMS, make_batch

from model.optimizers import OPTIMIZERS
from model.ragged import copied
from model.ranking import RankingRates


def everything(head):
    """Parameters and optimisers; co-occurrence counts whatever the step does."""
    parts = head.parameters.parts().items()
    return {name: torch.from_numpy(copied(part)) for name, part in parts if not name.startswith("pairs.")}


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
@pytest.mark.parametrize("weight", [1e300, np.inf, np.nan, 1e25, -np.inf])
def test_a_step_that_is_not_finite_is_refused_with_a_way_out_and_leaves_no_trace(optimizer, full_softmax_items, weight):
    rates = RankingRates(optimizer=optimizer, rate=0.05, full_softmax_items=full_softmax_items)
    given = make_batch(8, rates=rates, dtype=torch.float32)
    head, (batch, features, weights) = given.head, given[1:4]
    twin = make_batch(8, rates=rates, dtype=torch.float32).head
    for one in (head, twin):
        one.rank_then_learn(batch, features, weights, 1)
    before = everything(head)

    with np.errstate(over="ignore", invalid="ignore"):
        turn = head.rank_then_learn(batch, features, np.where(batch.found.known_B, weight, 1.0), 912)

    assert turn.refused.startswith("step 912: the ranking loss is ")
    assert "no weight was changed. Lower the learning rate (now 0.05) or the weights of actions" in turn.refused
    assert (np.isnan(turn.ranks_B) == ~batch.found.known_B).all()
    assert all(torch.equal(everything(head)[name], value) for name, value in before.items())
    for one in (head, twin):  # nothing gathered is left over for the next step either
        one.rank_then_learn(batch, features, weights, 913)
    assert all(torch.equal(everything(twin)[name], value) for name, value in everything(head).items())


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
def test_a_batch_without_weight_changes_nothing(optimizer, full_softmax_items):
    given = make_batch(9, rates=RankingRates(optimizer=optimizer, full_softmax_items=full_softmax_items))
    given.head.rank_then_learn(*given[1:4], 1)
    before = everything(given.head)

    turns = [
        given.head.rank_then_learn(given.batch, given.features, given.weights * 0, 2, ranks=ranks)
        for ranks in (False, True)
    ]

    assert [(turn.loss, turn.refused) for turn in turns] == [(0, None), (0, None)]
    assert all(torch.equal(everything(given.head)[name], value) for name, value in before.items())


@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
def test_large_weights_of_either_sign_stay_finite_under_adagrad(full_softmax_items):
    given = make_batch(10, rates=RankingRates(full_softmax_items=full_softmax_items), dtype=torch.float32)

    turns = [
        given.head.rank_then_learn(given.batch, given.features, given.weights * 1e6, step, ranks=False)
        for step in range(20)
    ]

    assert [turn.refused for turn in turns] == [None] * 20
    assert all(value.isfinite().all() for value in everything(given.head).values())
    assert given.head.items.values.abs().max() < 100
