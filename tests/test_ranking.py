"""The ranking head: its two gradient steps against autograd in float64, and its ranks against a count of everybody."""

import numpy as np
import pytest
import torch

import model.ranking
from model.encoders.recency import RecencyEncoder
from model.live import LiveState
from model.ranking import RankedBatch, RankingHead, RankingRates

USERS, ITEMS, WIDTH, WINDOW, DECAY = 5, 14, 3, 4, 0.7
DOWNHILL = RankingRates(optimizer="sgd", rate=1.0, popularity_rate=1.0)
"""At rate 1 plain gradient descent moves each parameter by minus its gradient."""


def head(rates=DOWNHILL, items=ITEMS, dtype=torch.float64):
    made = RankingHead(WIDTH, RecencyEncoder(WINDOW, DECAY), rates, seed=1, device=torch.device("cpu"), dtype=dtype)
    made.grow(items)
    generator = torch.Generator().manual_seed(2)
    made.items.values.copy_(torch.randn((items, WIDTH), generator=generator))
    made.biases.values.copy_(torch.randn((items, 1), generator=generator))
    made.popularity.values.fill_(0.8)
    return made


def two_batches(seed, allow_repeats=False, only_known=False):
    """A batch that meets what an earlier one left: the batch, its weights, and each event in plain words."""
    draw = np.random.default_rng(seed)
    live = LiveState(depth=8, most_seen=100)
    live.grow(USERS, ITEMS)
    history, seen, counts = {}, {}, {}
    for size in (20, 25):
        users, items = draw.integers(USERS, size=size), draw.integers(ITEMS - 1, size=size)  # one is never met
        if only_known and counts:
            items = draw.choice(list(counts), size=size)
        weights = draw.choice([1.0, 2.0, -1.0, 0.0], p=[0.5, 0.2, 0.2, 0.1], size=size)
        enters = weights > 0
        found = live.pass_over(
            users, items, np.zeros(size, np.int64), enters, window=WINDOW, strictly_before=False,
            allow_repeats=allow_repeats,
        )  # fmt: skip
        in_words = []
        for user, item, enter in zip(users.tolist(), items.tolist(), enters.tolist(), strict=True):
            rivals = {other: n for other, n in counts.items() if allow_repeats or other not in seen.get(user, ())}
            in_words.append((history.get(user, [])[::-1][:WINDOW], item, {**rivals, item: counts.get(item)}))
            counts.setdefault(item, 0)
            if enter:
                counts[item] += 1
                history.setdefault(user, []).append(item)
                seen.setdefault(user, set()).add(item)
    return RankedBatch(items, enters, found, live.seen, allow_repeats), weights, in_words


class Traced:
    """Copies of a head's parameters that autograd watches, and scores as the docstring of model.ranking has them."""

    def __init__(self, of):
        self.items = of.items.values.clone().requires_grad_()
        self.biases = of.biases.values[:, 0].clone().requires_grad_()
        self.popularity = of.popularity.values[0, 0].clone().requires_grad_()

    def scores(self, window, counts):
        user = torch.zeros(WIDTH, dtype=torch.float64)
        for age, item in enumerate(window):
            user = user + DECAY**age * self.items[item]
        return torch.stack(
            [user @ self.items[i] + self.biases[i] + self.popularity * np.log(n + 0.5) for i, n in counts.items()]
        )

    def assert_gradients_are_the_moves(self, before, after):
        for name in ("items", "biases", "popularity"):
            moved = (getattr(before, name) - getattr(after, name)).detach()
            torch.testing.assert_close(moved, getattr(self, name).grad, atol=1e-10, rtol=1e-8)


def loss_of(scores, place, weight):
    log_p = torch.log_softmax(scores, 0)[place]
    return -weight * log_p if weight >= 0 else weight * torch.log1p(-log_p.exp())


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_the_full_step_is_the_gradient_of_the_live_softmax_by_every_use_of_every_parameter(allow_repeats, ranked):
    made = head()
    before, traced = Traced(made), Traced(made)
    batch, weights, in_words = two_batches(3, allow_repeats)
    losses = [
        loss_of(traced.scores(window, counts), list(counts).index(own), weight)
        for (window, own, counts), weight in zip(in_words, weights, strict=True)
        if weight and counts[own] is not None
    ]
    total = torch.stack(losses).sum()
    total.backward()

    loss = made.rank_then_learn(batch, weights, 1)[1] if ranked else made.learn(batch, weights, 1)

    assert loss == pytest.approx(total.item())
    traced.assert_gradients_are_the_moves(before, Traced(made))


def test_the_sampled_step_is_the_gradient_of_the_corrected_softmax_over_the_sample(monkeypatch):
    made = head(RankingRates(optimizer="sgd", rate=1.0, popularity_rate=1.0, full_softmax_items=0))
    before, traced = Traced(made), Traced(made)
    batch, weights, in_words = two_batches(4)
    known = np.flatnonzero(batch.found.known_I)
    sample, log_share = known[::2], -np.linspace(0.1, 2.0, len(known[::2]))
    monkeypatch.setattr(model.ranking, "draw_negatives", lambda *_: (sample, log_share))
    losses = []
    for (window, own, counts), weight in zip(in_words, weights, strict=True):
        if not weight or counts[own] is None:
            continue
        others = {item: counts[item] for item in sample.tolist() if item in counts and item != own}
        scores = traced.scores(window, {own: counts[own], **others})
        shares = dict(zip(sample.tolist(), log_share.tolist(), strict=True))
        correction = torch.tensor([0.0, *(shares[item] for item in others)], dtype=torch.float64)
        losses.append(loss_of(scores - correction, 0, weight))
    total = torch.stack(losses).sum()
    total.backward()

    loss = made.learn(batch, weights, 1)

    assert loss == pytest.approx(total.item())
    traced.assert_gradients_are_the_moves(before, Traced(made))


def test_a_sample_of_everything_with_certainty_is_the_full_softmax(monkeypatch):
    full, sampled = head(), head(RankingRates(optimizer="sgd", rate=1.0, popularity_rate=1.0, full_softmax_items=0))
    batch, weights, _ = two_batches(5, only_known=True)
    monkeypatch.setattr(
        model.ranking, "draw_negatives", lambda known_I, *_: (np.flatnonzero(known_I), np.zeros(known_I.sum()))
    )

    losses = [made.learn(batch, weights, 1) for made in (full, sampled)]

    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(full.items.values, sampled.items.values)
    torch.testing.assert_close(full.biases.values, sampled.biases.values)
    torch.testing.assert_close(full.popularity.values, sampled.popularity.values)


@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
def test_an_item_that_the_user_has_is_no_negative(full_softmax_items):
    made = head(RankingRates(optimizer="sgd", rate=1.0, full_softmax_items=full_softmax_items, negatives=200))
    live = LiveState(depth=8, most_seen=100)
    live.grow(2, ITEMS)

    def batch(users, items):
        rows = [np.array(rows, dtype=np.int64) for rows in (users, items, [0] * len(users))]
        enters = np.ones(len(users), dtype=np.bool_)
        found = live.pass_over(*rows, enters, window=WINDOW, strictly_before=False, allow_repeats=False)
        return RankedBatch(rows[1], enters, found, live.seen, False)

    batch([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5])
    before = made.biases.values.clone()

    made.learn(batch([0], [4]), np.ones(1), 1)

    moved = (made.biases.values != before)[:, 0]
    assert moved[:6].tolist() == [False, False, False, True, True, True]
    assert not moved[6:].any()


@pytest.mark.parametrize("at_once", [1 << 24, ITEMS * 3])
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_ranks_count_the_better_candidates_and_half_the_ties_in_one_go_or_in_chunks(
    monkeypatch, at_once, allow_repeats
):
    monkeypatch.setattr(model.ranking, "SCORES_AT_ONCE", at_once)
    made = head()
    made.items.values[::3] = 0  # where their counts are equal, these tie for everybody
    made.biases.values.zero_()
    batch, weights, in_words = two_batches(6, allow_repeats)
    plain = Traced(made)
    expected = []
    for window, own, counts in in_words:
        if counts[own] is None:
            expected.append(np.nan)
            continue
        scores = dict(zip(counts, plain.scores(window, counts).tolist(), strict=True))
        rivals = [score for item, score in scores.items() if item != own]
        ties = sum(abs(score - scores[own]) < 1e-12 for score in rivals)
        better = sum(score > scores[own] + 1e-12 for score in rivals)
        expected.append(better + ties // 2)

    ranks = made.rank(batch)
    ranks_while_learning, _ = made.rank_then_learn(batch, weights, 1)

    assert np.isnan(expected).any()
    np.testing.assert_array_equal(ranks, expected)
    np.testing.assert_array_equal(ranks_while_learning, expected)


def test_an_item_whose_score_is_no_number_ranks_behind_every_candidate_and_improves_nobodys_rank():
    made = head()
    batch, _, in_words = two_batches(7)
    before = made.rank(batch)
    bad = int(batch.items_B[-1])
    made.biases.values[bad] = torch.nan

    ranks = made.rank(batch)

    for place, (_, own, counts) in enumerate(in_words):
        if counts[own] is None:
            assert np.isnan(ranks[place])
        elif own == bad:
            assert ranks[place] == len(counts) - 1
        else:
            assert before[place] - 1 <= ranks[place] <= before[place]


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
@pytest.mark.parametrize("weight", [1e300, np.inf, np.nan, 1e25])
def test_a_loss_or_gradient_that_is_not_finite_raises_with_a_way_out_and_changes_nothing(
    optimizer, full_softmax_items, weight
):
    rates = RankingRates(optimizer=optimizer, rate=0.5, full_softmax_items=full_softmax_items)
    made = head(rates, dtype=torch.float32)
    batch, weights, _ = two_batches(8)
    made.learn(batch, weights, 1)
    before = {name: value.clone() for name, value in made.state().items()}

    with pytest.raises(FloatingPointError, match=r"step 912: .* weights were not changed. Lower the learning rate"):
        made.learn(batch, np.where(batch.found.known_B, weight, 1.0), 912)

    assert all(torch.equal(made.state()[name], value) for name, value in before.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
def test_a_batch_without_weight_changes_nothing(optimizer, full_softmax_items):
    made = head(RankingRates(optimizer=optimizer, full_softmax_items=full_softmax_items))
    batch, weights, _ = two_batches(9)
    made.learn(batch, weights, 1)
    before = {name: value.clone() for name, value in made.state().items()}

    loss = made.learn(batch, weights * 0, 2)
    loss_when_ranked = made.rank_then_learn(batch, weights * 0, 3)[1]

    assert loss == loss_when_ranked == 0
    assert all(torch.equal(made.state()[name], value) for name, value in before.items())


@pytest.mark.parametrize("full_softmax_items", [0, ITEMS])
def test_large_weights_of_either_sign_stay_finite_under_adagrad(full_softmax_items):
    made = head(RankingRates(full_softmax_items=full_softmax_items), dtype=torch.float32)
    batch, weights, _ = two_batches(10)

    losses = [made.learn(batch, weights * 1e6, step) for step in range(20)]

    assert np.isfinite(losses).all()
    assert made.items.values.isfinite().all()
    assert made.items.values.abs().max() < 100
