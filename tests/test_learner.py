"""The whole step: ranks by the protocol, independent of how the stream is cut; and what a step says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_live import PlainLive
from plain_ranking import PlainPairs, PlainScores, plain_rank
from streams import OPTIMIZERS, STILL, click, joined, random_stream, run, small_learner, still, touched

from model.interactions import Forget
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK

RULES = pytest.mark.parametrize(
    "rules", [{}, {"allow_repeats": True}, {"strictly_before": True}], ids=["default", "repeats", "strictly-before"]
)
SAMPLED = RankingRates(full_softmax_items=10, negatives=8)


def kind_of(event):
    """0 for an action; a rating's fifth of the scale from 0.5 to 5 otherwise."""
    return 0 if event.rating is None else min(1 + int((event.rating - 0.5) / 0.9), 5)


def recomputed_ranks(learner, stream, batch_size):
    """Ranks and popularity ranks by the words of the protocol, from the weights that each batch found."""
    settings = learner.settings
    rules = {"allow_repeats": settings.allow_repeats, "strictly_before": settings.strictly_before}
    plain = PlainLive(depth=settings.depth, most_seen=settings.most_seen, window=settings.window, **rules)
    pairs = PlainPairs(settings.cooccurrence) if learner.ranking.cooccurrence is not None else None
    ranks, popularity_ranks = [], []
    for start in range(0, len(stream), batch_size):
        batch = stream[start : start + batch_size]
        rows = learner.items.rows([event.item_id for event in batch]).tolist()
        learner.ranking.parameters.grow(len(learner.items))  # so that new items have their first embeddings too
        parameters = PlainScores(learner.ranking)
        for event, own in zip(batch, rows, strict=True):
            enters = event.weight > 0 or event.rating is not None
            ranked = enters and own in plain.counts
            window = plain.window(event.user_id, event.timestamp)
            popularity_ranks.append(plain.popularity_rank(event.user_id, own) if ranked else np.nan)
            ranks.append(np.nan)
            if ranked:
                counts = {item: plain.counts[item] for item in plain.candidates(event.user_id, own)}
                features = {} if pairs is None else pairs.features(window.items, plain.counts)
                scores = parameters.scores(window, counts, features, settings.allow_repeats)
                ranks[-1] = plain_rank(scores, own, 1e-7)
            if enters and pairs is not None:
                pairs.count(plain.last_items(event.user_id), own)
            plain.learn(event.user_id, own, event.timestamp, enters, kind_of(event))
        plain.end_batch()
        learner.test_then_learn(batch)
    return ranks, popularity_ranks


@RULES
@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("rates", [RankingRates(), SAMPLED], ids=["full", "sampled"])
def test_ranks_are_those_of_the_protocol_at_every_batch_size(rules, batch_size, rates):
    stream = random_stream(1, events=160)
    rules = {**rules, "most_seen": 6, "smallest_piece": batch_size}
    learner, other = (small_learner(dtype=torch.float64, ranking=rates, **rules) for _ in range(2))

    steps = run(learner, stream, batch_size)

    expected, expected_by_popularity = recomputed_ranks(other, stream, batch_size)
    np.testing.assert_array_equal(joined(steps, "ranks_B"), expected)
    np.testing.assert_array_equal(joined(steps, "popularity_ranks_B"), expected_by_popularity)
    assert np.nanmax(expected) > 10


@pytest.mark.parametrize("encoder", ["recency", "cooccurrence", "dnn"])
def test_ranks_of_simpler_encoders_are_those_of_the_protocol_too(encoder):
    stream = random_stream(21, events=160)
    rates = RankingRates(optimizer="sgd", rate=0.05)  # Adagrad's first steps bring items too near to each other to tell
    learner, other = (
        small_learner(dtype=torch.float64, encoder=encoder, ranking=rates, smallest_piece=20) for _ in range(2)
    )

    steps = run(learner, stream, 20)

    np.testing.assert_array_equal(joined(steps, "ranks_B"), recomputed_ranks(other, stream, 20)[0])


@RULES
@pytest.mark.parametrize("spread", [0.1, 0.0], ids=["embeddings", "popularity-alone"])
@pytest.mark.parametrize("batch_size", [7, 64, 300])
def test_where_only_live_state_moves_the_batch_size_changes_no_rank(rules, spread, batch_size):
    stream = random_stream(2)
    rates = replace(STILL, spread=spread)

    one_by_one = run(still(small_learner(dtype=torch.float64, ranking=rates, **rules)), stream, 1)
    batched = run(still(small_learner(dtype=torch.float64, ranking=rates, **rules)), stream, batch_size)

    np.testing.assert_array_equal(joined(batched, "ranks_B"), joined(one_by_one, "ranks_B"))
    np.testing.assert_array_equal(joined(batched, "popularity_ranks_B"), joined(one_by_one, "popularity_ranks_B"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_that_knows_popularity_alone_ranks_as_popularity_does_ties_included(dtype):
    learner = small_learner(dtype=dtype, encoder="recency", ranking=replace(STILL, spread=0.0))

    steps = run(learner, random_stream(3), 32)

    np.testing.assert_array_equal(joined(steps, "ranks_B"), joined(steps, "popularity_ranks_B"))


def test_ratings_and_positive_weights_are_ranked_and_nothing_else():
    learner = small_learner()
    run(learner, [click("u", "a"), click("u", "b")], 2)

    step = learner.test_then_learn(
        [
            click("v", "a"),
            click("v", "b", weight=-1.0),
            click("v", "b", weight=0.0),
            click("v", "b", weight=0.0, rating=4.0),
            click("v", "new"),
        ]
    )

    assert step.ranked_B.tolist() == [True, False, False, True, True]
    assert np.isnan(step.ranks_B).tolist() == [False, True, True, False, True]
    assert np.isnan(step.predictions_B).tolist() == [True, True, True, False, True]
    assert step.ratings_B[3] == 4.0


def test_an_event_without_weight_makes_its_item_known_and_says_nothing_of_the_user():
    learner = small_learner()
    run(learner, random_stream(4, events=50), 10)
    before = {name: value for name, value in learner.state().items() if name.startswith("ranking.")}

    learner.test_then_learn([click("quiet", "fresh", weight=0.0)])
    lists = TopK(learner, 100).lists_of(["quiet"])

    assert "fresh" in lists[0].item_ids
    grown = learner.state()
    assert all(torch.equal(grown[name][: len(value)], value) for name, value in before.items())


def test_only_the_share_of_users_that_is_asked_for_is_ranked_and_a_user_always_or_never():
    stream = [click(f"u{number % 400}", f"i{number % 7}") for number in range(1200)]

    step = small_learner(ranked_share=0.25).test_then_learn(stream)

    of_user = step.ranked_B.reshape(3, 400)
    assert (of_user == of_user[0]).all()
    assert 0.15 < of_user[0].mean() < 0.35


def test_by_itself_it_ranks_everybody_where_that_is_free_and_few_where_the_catalogue_is_large():
    stream = [click(f"u{n}", f"i{n % 40}") for n in range(4000)]

    def ranked(full_softmax_items, items_at_once, monkeypatch):
        monkeypatch.setattr("model.learner.RANKED_ITEMS", items_at_once)
        rates = RankingRates(full_softmax_items=full_softmax_items, negatives=4)
        learner = small_learner(ranked_share=None, ranking=rates)
        return learner.test_then_learn(stream).ranked_B.mean()

    with pytest.MonkeyPatch.context() as monkeypatch:
        assert ranked(40, 10, monkeypatch) == 1
        assert 0.2 < ranked(39, 10, monkeypatch) < 0.3
        assert ranked(39, 1000, monkeypatch) == 1


@OPTIMIZERS
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_what_is_learned_does_not_depend_on_who_is_ranked(optimizer, share):
    stream = random_stream(5)
    rates = RankingRates(optimizer=optimizer)
    all_ranked, some_ranked = small_learner(ranking=rates), small_learner(ranking=rates, ranked_share=share)

    run(all_ranked, stream, 16)
    run(some_ranked, stream, 16)

    assert state_digest(all_ranked.state()) == state_digest(some_ranked.state())


def test_the_reported_loss_is_the_mean_over_the_events_that_had_one():
    learner = small_learner(encoder="recency", ranking=replace(STILL, spread=0.0))
    run(learner, [click("u", "a"), click("u", "b")], 1)

    step = learner.test_then_learn([click("v", "a"), click("w", "new"), click("x", "a", weight=0.0)])

    assert step.ranking_loss == pytest.approx(np.log(2))


# --- what a step says ---


def test_an_empty_batch_changes_nothing():
    learner = small_learner()
    run(learner, random_stream(16), 16)
    before = state_digest(learner.state())

    step = learner.test_then_learn([])

    assert state_digest(learner.state()) == before
    assert (step.version, step.ranks_B.tolist(), step.touched_users().tolist()) == (learner.version, [], [])


def test_a_young_learner_takes_a_large_batch_in_pieces_that_grow_with_what_it_has_learned():
    stream = random_stream(12, events=400)
    whole, cut = (small_learner(smallest_piece=size) for size in (16, 1000))
    sizes = []

    step = whole.test_then_learn(stream, 7)

    at = entered = 0
    while at < len(stream):
        sizes.append(max(16, entered // 10))
        piece = stream[at : at + sizes[-1]]
        cut.test_then_learn(piece, 7)
        entered += sum(event.weight > 0 or event.rating is not None for event in piece)
        at += sizes[-1]
    assert sizes[0] == 16 < sizes[-1]
    assert len(step.ranks_B) == len(stream)
    assert state_digest(whole.state()) == state_digest(cut.state())


def test_steps_are_numbered_from_one_or_as_they_are_told():
    learner = small_learner()

    versions = [learner.test_then_learn([click("u", "a")], step).version for step in (None, None, 40, None)]

    assert versions == [1, 2, 40, 41]


def test_a_step_tells_whose_interactions_it_learned_and_who_was_forgotten():
    learner = small_learner()

    step = learner.test_then_learn(
        [
            *(click("u", "a"), click("v", "a"), Forget("stranger"), click("u", "b"), Forget("v"), click("w", "a")),
            *(click("x", "a"), Forget("u"), click("v", "a"), click("y", "a"), Forget("y"), Forget("u")),
        ]
    )

    assert touched(learner, step) == {"v", "w", "x"}
    assert step.users_B.tolist() == [-1, -1, -1, 2, 3, learner.users.row("v"), -1]
    assert learner.users.row("v") in (0, 1)  # the rows of u and v were given back before v came back
    assert [user_id for user_id, _ in step.forgotten] == ["stranger", "v", "u", "y", "u"]
    assert [row for _, row in step.forgotten][:3] == [-1, 1, 0]
    assert step.forgotten[4] == ("u", -1)
    assert len(step.ranks_B) == 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@OPTIMIZERS
@pytest.mark.parametrize("full_softmax_items", [10, 4096], ids=["sampled", "full"])
def test_on_a_gpu_it_learns_what_it_learns_on_a_cpu(optimizer, full_softmax_items):
    rates = RankingRates(optimizer=optimizer, full_softmax_items=full_softmax_items, negatives=8)
    stream = random_stream(22, forgets=0.02)
    on_cpu = small_learner(dtype=torch.float64, ranking=rates)
    on_gpu = small_learner(dtype=torch.float64, ranking=rates, device="cuda")

    expected, found = run(on_cpu, stream, 16), run(on_gpu, stream, 16)
    moved = small_learner(dtype=torch.float64, ranking=rates)
    moved.load(on_gpu.state())

    np.testing.assert_array_equal(joined(found, "ranks_B"), joined(expected, "ranks_B"))
    for name, value in on_cpu.state().items():
        torch.testing.assert_close(moved.state()[name], value, rtol=1e-8, atol=1e-10)
    users = [f"u{n}" for n in range(12)]
    assert [one.item_ids for one in TopK(on_gpu, 5).lists_of(users)] == [
        one.item_ids for one in TopK(on_cpu, 5).lists_of(users)
    ]
