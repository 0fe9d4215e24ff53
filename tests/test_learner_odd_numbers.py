"""Odd numbers: steps that are refused because a gradient is not finite, and times and users beyond the usual."""

import numpy as np
import pytest
import torch
from streams import OPTIMIZERS, SMALL, click, joined, random_stream, run, small_learner

from model.interactions import Forget
from model.learner import Learner
from model.ragged import copied
from model.ranking import RankingRates
from model.ratings import RatingRates
from model.settings import LearnerSettings
from model.state import state_digest
from model.topk import TopK

POISON = click("u1", "i3", weight=1e300)
"""No gradient of this is finite in single precision."""


def weights(learner):
    """Shared parameters and what their optimisers gathered."""
    ranking = learner.ranking.parameters.parts().items()
    return {name: torch.from_numpy(copied(part)) for name, part in ranking if not name.startswith("pairs.")}


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


def test_ratings_that_are_refused_are_told_apart_and_the_ranking_learns_from_the_step_all_the_same():
    learner = small_learner(ratings=RatingRates(item_rate=1e300))
    with np.errstate(over="ignore", invalid="ignore"):
        run(learner, random_stream(26), 16)
        before = weights(learner)
        step = learner.test_then_learn([click("u2", "i1", rating=4.0), click("u3", "i2", rating=1.0)], step=78)

    assert step.refused is None
    assert step.ratings_refused == "step 78: the rating head has diverged: a number is not finite; lower its rates"
    assert not all(torch.equal(weights(learner)[name], value) for name, value in before.items())


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
