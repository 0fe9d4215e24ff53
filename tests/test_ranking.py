"""The ranking head: its two gradient steps against autograd in float64, and its ranks against a count of everybody."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_ranking import PlainScores, plain_loss, plain_rank
from ranked_batches import DOWNHILL, ITEMS, SAMPLED_RATES, WIDTH, WINDOW, make_batch, make_head

import model.ranking
from model.batches import RankedBatch
from model.cooccurrence import no_features
from model.live import LiveState
from model.negatives import Negatives
from model.ranking import RankingRates
from model.sampled import SampledSoftmax
from model.small import SmallParameters

SAMPLED = replace(DOWNHILL, full_softmax_items=0)


@pytest.fixture
def gathering(monkeypatch):
    """Small parameters stay, so that their gradients can be read after a step."""
    monkeypatch.setattr(SmallParameters, "step", lambda _: None)


def small_gradients(head):
    of_recency, of_layers = head.encoder.recency.small.gradients, head.encoder.layers.gradients
    return {"mix": head.mix.gradients, "recency": of_recency, "layers": of_layers}


def assert_gradients_are_those_of(traced, head, before):
    """The tables moved by minus the gradient that autograd has, and the small parameters gathered theirs."""
    torch.testing.assert_close(before.items - head.items.values, traced.items.grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(before.biases - head.biases.values[:, 0], traced.biases.grad, atol=1e-6, rtol=1e-5)
    found = small_gradients(head)
    for part, expected in (("mix", traced.mix), ("recency", traced.small), ("layers", traced.layers)):
        for name, value in expected.items():
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            torch.testing.assert_close(found[part][name], gradient, atol=1e-6, rtol=1e-5, msg=f"{part} {name}")


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("ranks", [False, True])
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_the_full_step_is_the_gradient_of_the_live_softmax_by_every_use_of_every_parameter(allow_repeats, ranks):
    given = make_batch(3, allow_repeats=allow_repeats)
    before, traced = PlainScores(given.head), PlainScores(given.head)
    losses = [
        plain_loss(traced.scores(event.window, event.counts, event.features, allow_repeats), event.own, weight)
        for event, weight in zip(given.words, given.weights, strict=True)
        if weight and event.counts[event.own] is not None
    ]
    total = torch.stack(losses).sum()
    total.backward()

    turn = given.head.rank_then_learn(given.batch, given.features, given.weights, 1, ranks=ranks)

    assert (turn.loss, turn.refused) == (pytest.approx(total.item(), rel=1e-6), None)
    assert_gradients_are_those_of(traced, given.head, before)
    assert traced.mix["together"].grad.any()
    assert traced.mix["repeat"].grad is None if not allow_repeats else traced.mix["repeat"].grad.any()


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("way", ["compiled", "torch"])
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_the_sampled_step_is_the_gradient_of_the_corrected_softmax_over_the_sample(monkeypatch, allow_repeats, way):
    if way == "torch":
        monkeypatch.setattr(SampledSoftmax, "_soften", SampledSoftmax._soften_anywhere)
    given = make_batch(4, allow_repeats=allow_repeats, rates=replace(SAMPLED, negatives=4))
    before, traced = PlainScores(given.head), PlainScores(given.head)
    known = np.flatnonzero(given.batch.found.known_I)
    sample, log_share = known[:9], -np.linspace(0.1, 2.0, 9)
    monkeypatch.setattr(Negatives, "draw", lambda *_: (sample.copy(), log_share.copy()))
    losses = []
    for place, (event, weight) in enumerate(zip(given.words, given.weights, strict=True)):
        if weight and event.counts[event.own] is not None:
            of_event = slice(0, 4) if place % 2 == 0 else slice(4, 8)  # the ninth drawn item is one too many
            shares = dict(zip(sample[of_event].tolist(), (log_share[of_event] + np.log(4 / 9)).tolist(), strict=True))
            counts = {item: n for item, n in event.counts.items() if item in shares or item == event.own}
            scores = traced.scores(event.window, counts, event.features, allow_repeats)
            corrected = {item: s - shares[item] if item != event.own else s for item, s in scores.items()}
            losses.append(plain_loss(corrected, event.own, weight))
    total = torch.stack(losses).sum()
    total.backward()

    # step 1 has its sample already
    turn = given.head.rank_then_learn(given.batch, given.features, given.weights, 2, ranks=False)

    assert (turn.loss, turn.refused) == (pytest.approx(total.item(), rel=1e-6), None)
    assert_gradients_are_those_of(traced, given.head, before)


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_a_sample_of_everything_with_certainty_is_the_full_softmax(monkeypatch, allow_repeats):
    full, sampled = (
        make_batch(5, only_known=True, allow_repeats=allow_repeats, rates=rates) for rates in (DOWNHILL, SAMPLED)
    )
    monkeypatch.setattr(
        Negatives, "draw", lambda _, __, known_I, *___: (np.flatnonzero(known_I), np.zeros(known_I.sum()))
    )

    turns = [one.head.rank_then_learn(*one[1:4], 2) for one in (full, sampled)]  # step 1 has its sample already

    assert turns[0].loss == pytest.approx(turns[1].loss)
    np.testing.assert_array_equal(turns[0].ranks_B, turns[1].ranks_B)
    torch.testing.assert_close(full.head.items.values, sampled.head.items.values)
    torch.testing.assert_close(full.head.biases.values, sampled.head.biases.values)
    torch.testing.assert_close(small_gradients(full.head), small_gradients(sampled.head), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
def test_an_item_that_the_user_has_is_no_negative(full_softmax_items):
    made = make_head(RankingRates(optimizer="sgd", rate=1.0, full_softmax_items=full_softmax_items, negatives=200))
    live = LiveState(depth=8, most_seen=100)
    live.grow(2, ITEMS)

    def batch(users, items):
        rows = [np.array(rows, dtype=np.int64) for rows in (users, items, [0] * len(users))]
        enters, kinds = np.ones(len(users), dtype=np.bool_), np.zeros(len(users), dtype=np.int8)
        found = live.pass_over(*rows, enters, kinds, window=WINDOW, strictly_before=False, allow_repeats=False)
        return RankedBatch(rows[1], enters, found, live.seen, False)

    batch([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5])
    before = made.biases.values.clone()

    made.rank_then_learn(batch([0], [4]), no_features(1), np.ones(1), 1)

    moved = ((made.biases.values - before).abs() > 1e-9)[:, 0]
    assert moved[:6].tolist() == [False, False, False, True, True, True]
    assert not moved[6:].any()


@pytest.mark.parametrize("rates", [DOWNHILL, SAMPLED], ids=["full", "sampled"])
@pytest.mark.parametrize("at_once", [1 << 24, ITEMS * 3])
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_ranks_count_the_better_candidates_and_half_the_ties_in_one_go_or_in_chunks(
    monkeypatch, at_once, allow_repeats, rates
):
    monkeypatch.setattr(model.ranking, "SCORES_AT_ONCE", at_once)
    given = make_batch(6, allow_repeats=allow_repeats, rates=rates)
    given.head.items.values[::3] = 0
    given.head.biases.values.zero_()
    given.head.mix.values["popularity"].zero_()
    given.head.mix.values["together"].zero_()  # a third of the items tie for everybody now
    plain = PlainScores(given.head)
    expected = []
    for window, own, counts, features in given.words:
        known = counts[own] is not None
        expected.append(
            plain_rank(plain.scores(window, counts, features, allow_repeats), own, 1e-9) if known else np.nan
        )

    turn = given.head.rank_then_learn(given.batch, given.features, given.weights, 1)

    assert np.isnan(expected).any()
    np.testing.assert_array_equal(turn.ranks_B, expected)


def test_in_larger_catalogues_who_is_not_ranked_is_learned_the_same_from_fewer_features():
    is_ranked = np.arange(25) % 4 == 0
    everybody, some = (make_batch(7, rates=SAMPLED_RATES, only_known=True, ranks=ranks) for ranks in (True, is_ranked))

    turn = everybody.head.rank_then_learn(everybody.batch, everybody.features, everybody.weights, 1)
    part = some.head.rank_then_learn(some.batch, some.features, some.weights, 1, ranks=is_ranked)

    assert len(some.features.items_E) < len(everybody.features.items_E)
    assert part.loss == pytest.approx(turn.loss, rel=1e-6)
    np.testing.assert_array_equal(part.ranks_B[is_ranked], turn.ranks_B[is_ranked])
    torch.testing.assert_close(some.head.items.values, everybody.head.items.values, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(some.head.mix["together"], everybody.head.mix["together"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("rates", [DOWNHILL, SAMPLED], ids=["full", "sampled"])
def test_an_item_whose_score_is_no_number_ranks_behind_every_candidate_and_improves_nobodys_rank(rates):
    given = make_batch(7, rates=rates)
    bad = int(given.batch.items_B[-1])
    nothing = np.zeros(len(given.words))
    before = given.head.rank_then_learn(given.batch, given.features, nothing, 1).ranks_B
    given.head.biases.values[bad] = torch.nan

    ranks = given.head.rank_then_learn(given.batch, given.features, nothing, 1).ranks_B

    for place, (_, own, counts, _) in enumerate(given.words):
        if counts[own] is None:
            assert np.isnan(ranks[place])
        elif own == bad:
            assert ranks[place] == len(counts) - 1
        else:
            assert before[place] - 1 <= ranks[place] <= before[place]


def test_the_sampled_step_touches_no_row_that_it_does_not_read():
    given = make_batch(11, rates=RankingRates(full_softmax_items=0, negatives=4))
    before = given.head.items.values.clone()
    given.head.items.values[ITEMS - 1] = torch.nan  # the item that no event ever names

    turn = given.head.rank_then_learn(given.batch, given.features, given.weights, 1, ranks=False)

    assert turn.refused is None
    assert given.head.items.values.shape == (ITEMS, WIDTH)
    assert (given.head.items.values[:-1] != before[:-1]).any()
