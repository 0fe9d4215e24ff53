"""The softmax kernels against their plain torch twin: the same ranks, losses and gradients for every batch."""

import numpy as np
import pytest
import torch
from ranked_batches import ITEMS, make_batch

import model.ranking
from model.kernels.compiled import interpreted
from model.kernels.softmax import combine_and_rank, soften

REPEATS = pytest.mark.parametrize("allow_repeats", [False, True])


def both(given, learns=True):
    """(ranks, losses, gradient by the scores, gradients by the mix) by the kernels, and by the twin."""
    head, found = given.head, []
    for turn in (head._on_cpu, head._anywhere):
        head.mix.drop_gradients()
        users_BD = head.encoder.encode(given.batch.found.windows, head.items.values)
        scores_BI = users_BD @ head.items.values.T
        ranks_B, losses_B = turn(given.batch, given.features, scores_BI, given.weights_of_known(), learns=learns)
        mix = {name: gradient.clone() for name, gradient in head.mix.gradients.items()}
        found.append((ranks_B, losses_B, scores_BI, mix))
    return found


class Case:
    """A made batch whose unknown items have no weight, as the head hands it on."""

    def __init__(self, *args, **kwargs):
        self.head, self.batch, self.features, self.weights, self.words = make_batch(*args, **kwargs)

    def weights_of_known(self):
        return np.where(self.batch.found.known_B, self.weights, 0.0)


def assert_twins(kernels, twin, *, atol=1e-9):
    np.testing.assert_array_equal(kernels[0], twin[0])
    torch.testing.assert_close(kernels[1].to(twin[1]), twin[1], atol=atol, rtol=1e-5, equal_nan=True)
    torch.testing.assert_close(kernels[2], twin[2], atol=atol, rtol=1e-5, equal_nan=True)
    torch.testing.assert_close(kernels[3], twin[3], atol=atol, rtol=1e-5, equal_nan=True)


@REPEATS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(6))
def test_ranks_losses_and_gradients_are_those_of_the_twin(seed, dtype, allow_repeats):
    case = Case(seed, allow_repeats=allow_repeats, dtype=dtype, size=40)

    kernels, twin = both(case)

    assert_twins(kernels, twin, atol=1e-9 if dtype == torch.float64 else 1e-4)
    assert (case.weights_of_known() < 0).any()
    assert not case.batch.found.known_B.all()


@REPEATS
@pytest.mark.parametrize("at_once", [1 << 24, ITEMS * 2])
@pytest.mark.parametrize("way", ["kernels", "twin"])
@pytest.mark.parametrize("seed", [11, 17, 18, 19])
def test_some_events_rank_as_they_do_among_all(monkeypatch, seed, way, at_once, allow_repeats):
    monkeypatch.setattr(model.ranking, "SCORES_AT_ONCE", at_once)
    case = Case(seed, allow_repeats=allow_repeats)
    case.head.mix.values["popularity"].fill_(3.0)  # so that a count which did not follow shows
    if way == "twin":
        case.head.device = torch.device("meta")  # not the CPU's way; and no tensor is made by this name
        monkeypatch.setattr(case.head, "_on_device", lambda array: torch.from_numpy(np.ascontiguousarray(array)))
        monkeypatch.setattr(case.head, "_rows", lambda rows: torch.from_numpy(np.asarray(rows, dtype=np.int64)))
    whole, _ = both(case, learns=False)
    events = np.array([0, 3, 4, 11, 17, 24])

    ranks = case.head._rank(case.batch, case.features, events)

    np.testing.assert_array_equal(ranks[events], whole[0][events])
    assert np.isnan(np.delete(ranks, events)).all()
    assert not np.isnan(ranks[events]).all()


@REPEATS
def test_items_without_anything_of_their_own_tie_by_count(allow_repeats):
    case = Case(12, allow_repeats=allow_repeats)
    for value in (case.head.items.values, case.head.biases.values, case.head.mix.values["together"]):
        value.zero_()
    case.head.mix.values["repeat"].zero_()
    case.head.mix.values["popularity"].fill_(1.0)

    kernels, twin = both(case)

    assert_twins(kernels, twin)
    known = case.batch.found.known_B
    np.testing.assert_array_equal(kernels[0][known], case.batch.found.popularity_rank_B[known])


@REPEATS
@pytest.mark.parametrize("places", [[0], [3, 7], [ITEMS - 1], list(range(ITEMS))])
def test_scores_that_are_no_numbers_are_ranked_alike(places, allow_repeats):
    case = Case(13, allow_repeats=allow_repeats)
    case.head.biases.values[places] = torch.nan

    kernels, twin = both(case)

    np.testing.assert_array_equal(kernels[0], twin[0])
    spoiled = np.isnan(kernels[1].numpy()) & (case.weights_of_known() != 0)
    assert spoiled.any() == (places != [ITEMS - 1])  # nobody has met the last item


def test_an_infinite_score_makes_the_loss_no_number_rather_than_a_lie():
    case = Case(14)
    case.head.biases.values[:] = torch.inf

    kernels, _ = both(case)

    learned = case.weights_of_known() != 0
    assert not np.isfinite(kernels[1].numpy()[learned]).any()


def test_a_score_far_below_the_best_has_the_same_pull_and_a_loss_that_is_cut():
    case = Case(15)
    case.weights[:] = 1.0
    case.head.biases.values[int(case.batch.items_B[-1])] = -80.0

    kernels, twin = both(case)

    torch.testing.assert_close(kernels[2], twin[2], atol=1e-9, rtol=1e-5)
    hopeless = twin[1] > 31
    assert hopeless.any()
    assert ((kernels[1][hopeless] >= 29) & (kernels[1][hopeless] < 40)).all()


def test_scores_that_are_all_far_below_zero_are_told_apart():
    case = Case(15)
    case.head.biases.values.sub_(100.0)

    kernels, twin = both(case)

    assert_twins(kernels, twin)


@pytest.mark.parametrize("weight", [-1.0, -3.0, 2.0])
def test_an_only_candidate_has_no_pull_whatever_its_weight(weight):
    scores_BI, one, nothing = np.zeros((1, 1), dtype=np.float32), np.ones(1, dtype=np.float32), np.zeros(1, np.int64)
    mix = [np.zeros(1, dtype=np.float32) for _ in range(3)]
    bits_I = np.zeros(1, dtype=np.int32)

    soften(
        scores_BI,
        nothing,
        np.array([weight], dtype=np.float32),
        np.array([True]),
        np.zeros(1, dtype=np.int8),
        one.copy(),
        one,
        np.zeros(2, dtype=np.int64),
        np.zeros(0, dtype=np.int32),
        np.zeros(0, dtype=np.float32),
        np.full((1, 1), -1, dtype=np.int32),
        bits_I,
        bits_I.view(np.float32),
        np.zeros(1),
        *mix,
    )

    assert scores_BI[0, 0] == 0


@REPEATS
def test_compiled_and_interpreted_agree(monkeypatch, allow_repeats):
    case = Case(16, allow_repeats=allow_repeats)
    compiled = both(case)[0]
    monkeypatch.setattr(model.ranking, "combine_and_rank", interpreted(combine_and_rank))
    monkeypatch.setattr(model.ranking, "soften", interpreted(soften))

    by_python = both(case)[0]

    assert_twins(compiled, by_python)
