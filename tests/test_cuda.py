"""On a GPU: the lists of plain torch, and no waiting for the device but where it is written down.

Skipped where there is none. No machine that these were written on had one.
"""

import warnings

import numpy as np
import pytest
import torch
from streams import random_stream, run, small_learner

from model.grouped import best_by_groups, kernels_for
from model.kernels.groups import available
from model.ranking import RankingRates
from model.topk import by_torch, on_device

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not tested here")
WAITS_OF_A_STEP = {"full softmax": 2, "sampled": 2}
"""Ranks come back, and then losses with what decides whether to move; `docs/speed.md` has them by name."""


def learner_on(device, encoder="recency", full_softmax_items=4096, events=1500, items=600):
    rates = RankingRates(full_softmax_items=full_softmax_items, negatives=8)
    learner = small_learner(encoder=encoder, ranking=rates, device=device)
    run(learner, random_stream(3, events, users=20, items=items), 64)
    return learner


def waits(work):
    """Where the work waited for the device, as CUDA's sync-debug mode tells it."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{one.filename}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]


@pytest.mark.parametrize("k", [1, 20, 64])
@pytest.mark.parametrize("encoder", ["recency", "blend"])
def test_lists_by_groups_are_those_of_all_scores(encoder, k):
    assert available(torch.device("cuda"), 64), "Triton is missing beside a CUDA build of torch"
    learner = learner_on("cuda", encoder, events=4000, items=20_000)
    rows_U = np.arange(len(learner.users), dtype=np.int64)

    lists, right = on_device(learner, rows_U, k), by_torch(learner, rows_U, k)

    assert lists.lengths_U.tolist() == right.lengths_U.tolist()
    np.testing.assert_allclose(lists.scores_UK, right.scores_UK, rtol=1e-4, atol=1e-4)


def test_lists_wait_for_the_device_once():
    learner = learner_on("cuda")
    rows_U = np.arange(len(learner.users), dtype=np.int64)
    kernels = kernels_for(learner.device, learner.settings.width)
    best_by_groups(learner.parts_on_device(rows_U), 20, kernels)  # compiles

    waited = waits(lambda: best_by_groups(learner.parts_on_device(rows_U), 20, kernels))

    assert len(waited) == 1, waited


@pytest.mark.parametrize("way", WAITS_OF_A_STEP)
def test_a_step_waits_for_the_device_where_it_is_written_down(way):
    learner = learner_on("cuda", full_softmax_items=4096 if way == "full softmax" else 0)
    batch = random_stream(4, 64, users=20, items=600)
    learner.test_then_learn(batch)

    waited = waits(lambda: learner.test_then_learn(batch))

    assert len(waited) <= WAITS_OF_A_STEP[way], waited
