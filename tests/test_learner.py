"""The whole step: ranks by the protocol, independent of how the stream is cut; states, forgetting, and odd input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_live import PlainLive
from plain_ranking import PlainPairs, PlainScores, plain_rank
from streams import SMALL, STILL, click, joined, random_stream, run, small_learner, still

from model import growth
from model.interactions import Forget, Interaction
from model.learner import Learner, LearnerSettings
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK

RULES = pytest.mark.parametrize(
    "rules", [{}, {"allow_repeats": True}, {"strictly_before": True}], ids=["default", "repeats", "strictly-before"]
)
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
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


# --- the same stream, the same state ---


@OPTIMIZERS
@pytest.mark.parametrize("full_softmax_items", [10, 4096], ids=["sampled", "full"])
def test_the_same_seed_and_stream_give_the_same_digest_and_another_seed_another(optimizer, full_softmax_items):
    rates = RankingRates(optimizer=optimizer, full_softmax_items=full_softmax_items, negatives=8)
    stream = random_stream(6, forgets=0.03)

    def digest(seed):
        learner = small_learner(ranking=rates, seed=seed)
        run(learner, stream, 16)
        return state_digest(learner.state())

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


@OPTIMIZERS
@pytest.mark.parametrize("cut", [16, 304])
@pytest.mark.parametrize("full_softmax_items", [10, 4096], ids=["sampled", "full"])
def test_saved_loaded_and_gone_on_equals_never_stopped(optimizer, cut, full_softmax_items):
    rates = RankingRates(optimizer=optimizer, full_softmax_items=full_softmax_items, negatives=8)
    stream = random_stream(7, events=600, users=200, items=150, forgets=0.05)  # tables grow past 64 rows on the way
    never_stopped = small_learner(ranking=rates, most_seen=4)
    stopped = small_learner(ranking=rates, most_seen=4)
    expected = run(never_stopped, stream, 16)[cut // 16 :]
    run(stopped, stream[:cut], 16)

    gone_on = small_learner(ranking=rates, most_seen=4)
    gone_on.load(stopped.state())
    steps = run(gone_on, stream[cut:], 16)

    assert state_digest(gone_on.state()) == state_digest(never_stopped.state())
    assert [step.version for step in steps] == [step.version for step in expected]
    np.testing.assert_array_equal(joined(steps, "ranks_B"), joined(expected, "ranks_B"))
    np.testing.assert_array_equal(joined(steps, "medians_B"), joined(expected, "medians_B"))


def lists_and_digest(stream):
    learner = small_learner(encoder="blend")
    top_k, listed = TopK(learner, 5), []
    for start in range(0, len(stream), 7):
        step = learner.test_then_learn(stream[start : start + 7])
        lists = top_k(step.touched_users())
        listed += [lists.codes_UK[n, : lists.lengths_U[n]].tolist() for n in range(len(lists.users_U))]
    return listed, state_digest(learner.state())


def test_where_rows_lie_in_memory_changes_nothing(monkeypatch):
    stream = [
        click(f"u{n // 3}", f"i{(n * n + n) // 4 % (n + 2)}", n, rating=n % 9 / 2 + 0.5 if n % 4 else None)
        for n in range(900)
    ]
    copied = lists_and_digest(stream)

    for large, portion in ((64, 64), (640, 16), (2048, 1024)):
        monkeypatch.setattr(growth, "LARGE_BYTES", large)
        monkeypatch.setattr(growth, "PORTION_BYTES", portion)

        assert lists_and_digest(stream) == copied


def test_loading_replaces_whatever_was_learned_before():
    saved, other = small_learner(), small_learner()
    run(saved, random_stream(8), 16)
    run(other, random_stream(9, users=40, items=80), 16)

    other.load(saved.state())

    assert state_digest(other.state()) == state_digest(saved.state())


def test_a_state_stays_what_it_was_whatever_is_learned_after_saving_or_loading_it():
    learner, loaded = small_learner(), small_learner()
    run(learner, random_stream(10), 16)
    state = learner.state()
    digest = state_digest(state)

    loaded.load(state)
    for one in (learner, loaded):
        run(one, random_stream(11), 16)
        one.forget("u1")

    assert state_digest(state) == digest
    assert state_digest(learner.state()) == state_digest(loaded.state()) != digest


def test_a_fresh_learner_has_a_state_that_can_be_loaded():
    loaded = small_learner()

    loaded.load(small_learner().state())

    assert state_digest(loaded.state()) == state_digest(small_learner().state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 16}, r"width \(saved 8, now 16\)"),
        ({"rating_model": "factors"}, r"rating_model \(saved neighbours, now factors\)"),
        ({"rating_width": 2}, r"rating_width \(saved 4, now 2\)"),
        ({"window": 4}, r"window \(saved 5, now 4\)"),
        ({"hidden": 9}, r"hidden \(saved 64, now 9\)"),
        ({"depth": 9}, r"depth \(saved 8, now 9\)"),
        ({"seed": 5}, r"seed \(saved 0, now 5\)"),
        ({"rating_min": 1.0}, r"rating_min \(saved 0.5, now 1.0\)"),
        ({"rating_max": 10}, r"rating_max \(saved 5.0, now 10.0\)"),
        ({"ranking": RankingRates(optimizer="sgd")}, r"optimizer \(saved adagrad, now sgd\)"),
        ({"width": 16, "depth": 9}, r"depth \(saved 8, now 9\), width \(saved 8, now 16\)"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_state_of_other_settings_is_refused_by_name_and_nothing_of_it_is_taken(change, message):
    saved, other = small_learner(), small_learner(**change)
    run(saved, random_stream(12, events=40), 16)
    run(other, random_stream(13, events=40), 16)
    before = state_digest(other.state())

    with pytest.raises(ValueError, match=f"made with other settings: {message}$"):
        other.load(saved.state())

    assert state_digest(other.state()) == before


def test_a_state_may_go_on_under_other_rates():
    saved, other = small_learner(), small_learner(ranking=RankingRates(rate=0.01), most_seen=3)
    run(saved, random_stream(14), 16)

    other.load(saved.state())

    assert torch.equal(other.ranking.items.values, saved.ranking.items.values)


@pytest.mark.parametrize(
    "name", ["settings", "ranking.items.squares", "ranking.pairs.strengths", "live.seen.items", "users.bytes"]
)
def test_a_state_that_lacks_a_part_is_refused(name):
    learner = small_learner()
    run(learner, random_stream(15, events=40), 16)
    state = learner.state()
    del state[name]

    with pytest.raises(ValueError, match=f"not a whole state of this model: missing or unknown are {name}$"):
        small_learner().load(state)


def test_an_encoder_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"encoder: expected one of blend, recency.*, got 'oracle'"):
        Learner(LearnerSettings(encoder="oracle"))


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


def test_a_state_with_copies_of_what_users_have_is_the_state():
    learner = small_learner()
    learner.test_then_learn([click("u", "a"), click("v", "b"), Interaction("u", "b", 2, 1.0, 4.0)])
    copies = {name: array.copy() for name, array in learner.user_arrays().items()}

    state = learner.state(copies)

    assert state_digest(state) == state_digest(learner.state())
    assert len(copies) >= 8
    assert all(len(array) == len(learner.users) for array in copies.values())
    assert all(state[name].data_ptr() == array.ctypes.data for name, array in copies.items())


def test_only_rows_of_a_steps_users_move_in_what_users_have():
    learner = small_learner()
    learner.test_then_learn([Interaction(f"u{n}", f"i{n % 3}", n, 1.0, 3.0) for n in range(30)])
    before = {name: array.copy() for name, array in learner.user_arrays().items()}

    step = learner.test_then_learn(
        [
            click("u1", "i2"),
            Forget("u4"),
            Interaction("u7", "i0", 99, 1.0, 5.0),
            click("stranger", "i1"),
            Forget("nobody"),
        ]
    )

    moved = learner.moved_rows(step)
    assert sorted(moved.tolist()) == sorted([*learner.users.rows(["u1", "u7", "stranger"]).tolist(), 4])
    still = np.setdiff1d(np.arange(30), moved)
    for name, array in learner.user_arrays().items():
        np.testing.assert_array_equal(array[still], before[name][still], err_msg=name)


def touched(learner, step):
    """The ids of the users that a step touched."""
    return {learner.users.name(row) for row in step.touched_users().tolist()}


def test_a_step_tells_whose_interactions_it_learned_and_who_was_forgotten():
    learner = small_learner()

    step = learner.test_then_learn(
        [click("u", "a"), click("v", "a"), Forget("stranger"), click("u", "b"), Forget("v"), click("w", "a")]
    )

    assert touched(learner, step) == {"u", "w"}
    assert step.users_B.tolist() == [0, -1, 0, 1]  # w got the row that v gave back
    assert step.forgotten == [("stranger", -1), ("v", 1)]
    assert len(step.ranks_B) == 4


def test_a_user_who_comes_back_after_being_forgotten_in_one_batch_is_a_stranger():
    learner, twin = still(small_learner(ranking=STILL)), still(small_learner(ranking=STILL))
    for one in (learner, twin):
        run(one, random_stream(17), 16)

    back = learner.test_then_learn([click("u1", "i3"), Forget("u1"), click("u1", "i5", rating=3.0)])
    twin.test_then_learn([click("u1", "i3")])
    stranger = twin.test_then_learn([click("never seen", "i5", rating=3.0)])

    assert touched(learner, back) == {"u1"}
    assert back.users_B.tolist() == [-1, learner.users.row("u1")]
    assert back.ranks_B[1] == stranger.ranks_B[0]
    assert back.predictions_B[1] == stranger.predictions_B[0]


# --- forgetting ---


def test_forgetting_leaves_nothing_of_the_user_in_any_saved_array():
    learner = small_learner(most_seen=3)
    run(learner, random_stream(18), 16)
    secret = [Interaction("hidden-user", f"only theirs {n}", 987_654_321_000 + n, 1.0, 1.5) for n in range(20)]
    run(learner, secret, 8)
    row = learner.users.row("hidden-user")
    items = learner.items.rows([event.item_id for event in secret])
    assert learner.state()["live.history.times"].max() > 987_654_321_000

    known = learner.forget("hidden-user")

    state = learner.state()
    assert known
    assert b"hidden-user" not in b"".join(value.numpy().tobytes() for value in state.values())
    assert not any((value.double() >= 987_654_321_000).any() for value in state.values())
    assert (state["live.history.items"][row] == -1).all()
    assert state["live.seen.lengths"][row] == 0
    assert not np.isin(learner.live.history.items_UH, items).any()
    assert not np.isin(learner.live.seen.pool, items).any()  # in memory too, moved and cut lists included
    untouched = small_learner()
    untouched.test_then_learn([click("somebody", "i0", weight=0.0)])
    for name in ("user_mean", "user_covariance", "user_time", "user_count", "user_items", "user_residuals"):
        assert torch.equal(state[f"ratings.{name}"][row], untouched.state()[f"ratings.{name}"][0])
    assert not state["ratings.median_seen"][row].any()
    assert not state["ratings.median_expected"][row].any()


def test_the_next_user_of_a_row_is_served_like_the_first_of_a_new_row():
    reused, fresh = small_learner(), small_learner()
    for learner in (reused, fresh):
        run(learner, random_stream(19), 16)
        learner.forget("u2")
    reused.test_then_learn([click("u1", "i0", weight=0.0)])
    fresh.test_then_learn([click("placeholder", "i0", weight=0.0)])  # takes the row of u2
    stay = [click("newcomer", f"i{n}", rating=1.0 + n % 4) for n in (1, 4, 2, 1, 9)]

    steps = [run(learner, stay, 2) for learner in (reused, fresh)]
    lists = [TopK(learner, 10).lists_of(["newcomer"]) for learner in (reused, fresh)]

    assert reused.users.row("newcomer") != fresh.users.row("newcomer")
    for name in ("ranks_B", "predictions_B", "medians_B"):
        np.testing.assert_array_equal(joined(steps[0], name), joined(steps[1], name))
    assert lists[0] == lists[1]


# --- idle users ---


def few_users(events=300):
    """Users who come now and then, of whom most are kept, and who may rate, skip and be forgotten."""
    return random_stream(24, events=events, users=40, forgets=0.02)


@pytest.mark.parametrize("full_softmax_items", [4096, 4])
def test_idle_users_are_given_back_and_saved_anywhere_it_goes_on_alike(full_softmax_items):
    rates = RankingRates(full_softmax_items=full_softmax_items)
    stream, never_stopped, gone = few_users(), small_learner(ranking=rates, max_users=10), 0
    stopped = small_learner(ranking=rates, max_users=10)
    for start in range(0, len(stream), 8):
        step = never_stopped.test_then_learn(stream[start : start + 8])
        again = stopped.test_then_learn(stream[start : start + 8])
        assert again.evicted_U.tolist() == step.evicted_U.tolist()
        assert not np.isin(step.evicted_U, step.touched_users()).any()
        gone += len(step.evicted_U)
        assert never_stopped.users.in_use <= 10 + 8
        state = stopped.state()
        stopped = small_learner(ranking=rates, max_users=10)
        stopped.load(state)

    assert gone > 60
    assert len(never_stopped.users) < 20
    assert state_digest(stopped.state()) == state_digest(never_stopped.state())


def test_nothing_is_left_of_an_idle_user_and_who_comes_back_is_served_like_a_stranger():
    learner = still(small_learner(ranking=STILL, max_users=6))
    learner.test_then_learn([click("idle", f"i{n}", 987_654_321_000, rating=2.0) for n in range(6)])
    row = learner.users.row("idle")
    run(learner, [click(f"u{n}", f"i{n % 6}", n, rating=3.0) for n in range(12)], 2)
    assert learner.users.row("idle") is None
    state = learner.state()
    assert b"idle" not in b"".join(value.numpy().tobytes() for value in state.values())
    assert not any((value.double() >= 987_654_321_000).any() for value in state.values())
    assert row < len(learner.users)

    back, stranger = (learner.scores(rows_of(learner, name)) for name in ("idle", "never seen"))

    assert torch.equal(back, stranger)


def rows_of(learner, name):
    """The rows of one user, who only shows up."""
    learner.test_then_learn([click(name, "i0", weight=0.0)])
    return learner.users.rows([name])


def test_a_limit_that_is_lowered_is_reached_step_by_step_and_one_that_is_taken_away_keeps_everybody():
    learner = small_learner()
    run(learner, [click(f"u{n}", "i1", n) for n in range(60)], 10)
    lowered, lifted = small_learner(max_users=5), small_learner()

    lowered.load(learner.state())
    run(lowered, [click("u59", "i2", n) for n in range(2)], 1)
    lifted.load(lowered.state())
    steps = run(lifted, [click(f"v{n}", "i1", n) for n in range(60)], 10)

    assert lowered.users.in_use == 5
    assert lifted.users.in_use == 65
    assert not any(len(step.evicted_U) for step in steps)


def test_rows_that_were_given_back_are_among_those_that_moved():
    learner = small_learner(max_users=3)
    run(learner, [click(f"u{n}", "i1", n) for n in range(3)], 1)
    before = {name: np.array(array) for name, array in learner.user_arrays().items()}

    step = learner.test_then_learn([click("u7", "i2", 9)])

    assert len(step.evicted_U) == 1
    moved = set(learner.moved_rows(step).tolist())
    for name, array in learner.user_arrays().items():
        stayed = [row for row in range(3) if row not in moved]
        np.testing.assert_array_equal(array[stayed], before[name][stayed])


def test_forgetting_a_stranger_is_no_error_and_changes_nothing():
    learner = small_learner()
    run(learner, random_stream(20), 16)
    before = state_digest(learner.state())

    known = learner.forget("nobody")

    assert not known
    assert state_digest(learner.state()) == before


def test_users_who_come_and_go_do_not_make_the_tables_grow():
    learner = small_learner()

    for visit in range(100):
        learner.test_then_learn([click(f"guest-{visit}", "a"), click(f"guest-{visit}", "b"), Forget(f"guest-{visit}")])

    assert len(learner.users) == 1
    assert learner.users.in_use == 0


# --- odd numbers ---


POISON = click("u1", "i3", weight=1e300)
"""No gradient of this is finite in single precision."""


def weights(learner):
    """Shared parameters and what their optimisers gathered."""
    ranking = learner.ranking.parameters.state().items()
    return {name: value.clone() for name, value in ranking if not name.startswith("pairs.")}


@OPTIMIZERS
@pytest.mark.parametrize("full_softmax_items", [10, 4096], ids=["sampled", "full"])
def test_a_step_that_is_not_finite_is_refused_by_number_and_leaves_the_weights(optimizer, full_softmax_items):
    learner = small_learner(ranking=RankingRates(optimizer=optimizer, full_softmax_items=full_softmax_items))
    run(learner, random_stream(21), 16)
    before = weights(learner)

    with np.errstate(over="ignore"):
        step = learner.test_then_learn([click("u2", "i1"), POISON], step=77)

    assert step.refused.startswith("step 77: the ranking loss is ")
    assert step.refused.endswith("Lower the learning rate (now 0.1) or the weights of actions")
    assert all(torch.equal(weights(learner)[name], value) for name, value in before.items())
    assert step.version == learner.version == 77
    assert not np.isinf(step.losses_B).any()  # means of losses outlive the step


def test_events_of_a_refused_step_are_ranked_and_counted_as_if_they_had_been_learned():
    learner, twin = small_learner(), small_learner()
    for one in (learner, twin):
        run(one, random_stream(22), 16)
    batch = [click("u2", "i1"), click("u3", "i2", rating=4.0), POISON, click("newcomer", "i3")]

    with np.errstate(over="ignore"):
        step = learner.test_then_learn(batch)
    other = twin.test_then_learn([*batch[:2], POISON._replace(weight=1.0), batch[3]])

    for name in ("ranks_B", "popularity_ranks_B", "predictions_B"):
        np.testing.assert_array_equal(getattr(step, name), getattr(other, name))
    assert (step.users_B.tolist(), other.refused) == (other.users_B.tolist(), None)
    state, expected = learner.state(), twin.state()
    counted = [name for name in state if name.startswith(("live.", "users.", "items.", "ratings.", "ranking.pairs."))]
    assert len(counted) > 20
    assert all(torch.equal(state[name], expected[name]) for name in counted)


def test_after_a_refused_step_learning_goes_on_and_a_state_saved_then_goes_on_alike():
    learner = small_learner()
    run(learner, random_stream(23), 16)
    with np.errstate(over="ignore"):
        learner.test_then_learn([POISON])
    before = weights(learner)

    loaded = small_learner()
    loaded.load(learner.state())
    steps = [run(one, random_stream(24), 16) for one in (learner, loaded)]

    assert [step.refused for step in steps[0]] == [None] * len(steps[0])
    assert any(not torch.equal(weights(learner)[name][: len(value)], value) for name, value in before.items())
    assert all(value.isfinite().all() for value in weights(learner).values())
    assert state_digest(loaded.state()) == state_digest(learner.state())


def test_a_step_cut_by_a_forget_tells_of_the_part_that_was_refused():
    learner = small_learner()
    run(learner, random_stream(25), 16)

    with np.errstate(over="ignore"):
        step = learner.test_then_learn([POISON, Forget("u5"), click("u2", "i1")], step=9)

    assert step.refused.startswith("step 9: ")
    assert [user_id for user_id, _ in step.forgotten] == ["u5"]


def test_times_at_the_ends_of_the_range_and_out_of_order_are_learned():
    learner = small_learner(strictly_before=True)
    times = [2**62, 0, 2**63 - 1, 1, 2**62]

    steps = run(learner, [click("u", f"i{n % 3}", time) for n, time in enumerate(times)], 2)

    assert joined(steps, "ranked_B").all()
    assert learner.state()["live.history.times"][0, :5].tolist() == times


def test_a_user_with_five_thousand_items_keeps_the_newest_4096_as_seen():
    items = 5_000
    learner = Learner(LearnerSettings(**SMALL))

    steps = run(learner, [click("collector", f"i{n}") for n in range(items)], 1000)
    user_list = TopK(learner, 2 * items).lists_of(["collector"])[0]

    assert np.isnan(joined(steps, "ranks_B")).all()
    assert {int(name[1:]) for name in user_list.item_ids} == set(range(items - 4096))


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
