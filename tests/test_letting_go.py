"""Users who go, forgotten or idle: nothing is left of them, and their rows serve the next. Items: test_leaving.py."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from streams import (
    STILL,
    assert_nothing_else_moved,
    click,
    grown_parts,
    joined,
    random_stream,
    run,
    small_learner,
    still,
    touched,
)

from model.interactions import Forget, Interaction
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK


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


@pytest.mark.parametrize("rating_model", ["neighbours", "factors"])
def test_forgets_of_strangers_are_as_if_they_were_not_there(rating_model):
    learner, twin = (small_learner(rating_model=rating_model) for _ in range(2))
    stream = random_stream(21, events=160)
    for start in range(0, len(stream), 16):
        batch = stream[start : start + 16]
        with_forgets = [one for event in batch for one in (Forget(f"stranger {event.item_id}"), event)]

        step, plain = learner.test_then_learn(with_forgets), twin.test_then_learn(batch)

        assert step.users_B.tolist() == plain.users_B.tolist()
        assert [row for _, row in step.forgotten] == [-1] * 16

    assert state_digest(learner.state()) == state_digest(twin.state())


def of_each_user(learner):
    """What has a row a user, by the user's id."""
    parts = grown_parts(learner)["user"]
    ids = {row: learner.users.name(row) for row in range(len(learner.users)) if learner.users.length_R[row] >= 0}
    return {name: {part: np.array(array[row]).tolist() for part, array in parts.items()} for row, name in ids.items()}


@pytest.mark.parametrize("batch_size", [7, 64])
def test_users_end_up_as_where_each_forget_ends_a_step(batch_size):
    stream = random_stream(22, events=400, forgets=0.2)
    learner, cut = (small_learner(rating_model="factors", smallest_piece=1000) for _ in range(2))

    steps = run(learner, stream, batch_size)

    ends = [place + 1 for place, one in enumerate(stream) if isinstance(one, Forget)]
    one_by_one = [cut.test_then_learn(stream[at:end]) for at, end in pairwise([0, *ends, len(stream)])]
    assert of_each_user(learner) == of_each_user(cut)
    for name in ("earlier_events_B", "user_means_B", "predictions_B", "medians_B", "popularity_ranks_B"):
        np.testing.assert_array_equal(joined(steps, name), joined(one_by_one, name), err_msg=name)
    forgotten = [[user_id for step in some for user_id, _ in step.forgotten] for some in (steps, one_by_one)]
    assert forgotten[0] == forgotten[1]
    assert len(learner.users) <= 12 + batch_size


def test_nothing_is_left_of_users_who_were_forgotten_in_the_midst_of_a_step():
    learner = small_learner()
    run(learner, random_stream(18), 16)
    secret = [click(f"hidden-user {n % 3}", f"only theirs {n}", 987_654_321_000 + n, rating=1.5) for n in range(20)]
    others = random_stream(19, events=20)
    forgets = [Forget(f"hidden-user {n % 3}") for n in range(4)]

    learner.test_then_learn([*(one for two in zip(secret, others, strict=True) for one in two), *forgets, *others])

    state = learner.state()
    assert b"hidden-user" not in b"".join(value.numpy().tobytes() for value in state.values())
    assert not any((value.double() >= 987_654_321_000).any() for value in state.values())
    theirs = learner.items.rows([event.item_id for event in secret])
    assert not np.isin(learner.live.history.items_UH, theirs).any()
    assert not np.isin(learner.live.seen.pool, theirs).any()
    pairs = state["ratings.pair_keys"].numpy()
    assert not np.isin(pairs >> 32, theirs).any()
    assert not np.isin(pairs & 0xFFFFFFFF, theirs).any()


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
    before = grown_parts(learner)

    step = learner.test_then_learn([click("u7", "i2", 9)])

    assert len(step.evicted_U) == 1
    assert_nothing_else_moved(learner, before, learner.moved_rows(step))


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
