"""Ranking a few events: compiled and interpreted as many are ranked at once, and nothing is left behind."""

import numpy as np
import pytest
import torch
from ranked_batches import WIDTHS, make_batch

import model.ranking
from model.kernels.compiled import interpreted
from model.kernels.rank import rank_few


@pytest.mark.parametrize("way", ["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("events", [[0, 3, 4, 11, 17, 24], [24], list(range(25))], ids=["some", "the last", "all"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_few_rank_as_they_do_by_one_product(monkeypatch, width, events, allow_repeats, dtype, way):
    if way == "interpreted":
        monkeypatch.setattr(model.ranking, "rank_few", interpreted(rank_few))
    given = make_batch(11, allow_repeats=allow_repeats, dtype=dtype, width=width)
    found = given.batch.found
    before = found.now.count_I.copy(), found.now.known_I.copy()

    few = given.head._rank(given.batch, given.features, np.array(events))
    monkeypatch.setattr(model.ranking, "FEW_EVENTS", 0)
    many = given.head._rank(given.batch, given.features, np.array(events))

    np.testing.assert_array_equal(few, many)
    assert np.isfinite(few[events]).any()
    np.testing.assert_array_equal(found.now.count_I, before[0])
    np.testing.assert_array_equal(found.now.known_I, before[1])


def test_an_item_that_comes_later_in_the_batch_is_no_candidate_before():
    given = make_batch(11)
    known_B, items_B = given.batch.found.known_B, given.batch.items_B
    given.head.biases.values[items_B[~known_B]] = 1000
    before = np.flatnonzero(known_B[: np.flatnonzero(~known_B)[0]])

    few = given.head._rank(given.batch, given.features, before)
    given.head.biases.values[items_B[~known_B]] = -1000

    np.testing.assert_array_equal(given.head._rank(given.batch, given.features, before), few)


@pytest.mark.parametrize("allow_repeats", [False, True])
def test_a_score_that_is_not_a_number_ranks_behind_every_candidate(monkeypatch, allow_repeats):
    given = make_batch(12, allow_repeats=allow_repeats)
    events = np.flatnonzero(given.batch.found.known_B)[-3:]
    given.head.biases.values[given.batch.items_B[events[-1]]] = torch.nan

    few = given.head._rank(given.batch, given.features, events)
    monkeypatch.setattr(model.ranking, "FEW_EVENTS", 0)
    many = given.head._rank(given.batch, given.features, events)

    np.testing.assert_array_equal(few, many)
    assert few[events[-1]] > 0


def test_items_without_anything_of_their_own_tie_by_count():
    given = make_batch(13)
    given.head.items.values.zero_()
    given.head.biases.values.zero_()
    given.head.mix["together"].zero_()
    events = np.flatnonzero(given.batch.found.known_B)

    ranks = given.head._rank(given.batch, given.features, events)

    for event in events.tolist():
        words = given.words[event]
        own = words.counts[words.own]
        others = [count for item, count in words.counts.items() if item != words.own]
        assert ranks[event] == sum(count > own for count in others) + sum(count == own for count in others) // 2
