"""The same stream, the same state: however it is saved, loaded and gone on with, and wherever its rows lie."""

import numpy as np
import pytest
from streams import (
    OPTIMIZERS,
    assert_nothing_else_moved,
    click,
    grown_parts,
    joined,
    random_stream,
    run,
    small_learner,
)

from model import growth
from model.entries import ItemContent
from model.interactions import Forget, Interaction
from model.ragged import Ragged, copied
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK


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
    "name", ["settings", "ranking.items.squares", "ranking.pairs.strengths", "live.seen.items", "users.bytes"]
)
def test_a_state_that_lacks_a_part_is_refused(name):
    learner = small_learner()
    run(learner, random_stream(15, events=40), 16)
    state = learner.state()
    del state[name]

    with pytest.raises(ValueError, match=f"not a whole state of this model: missing or unknown are {name}$"):
        small_learner().load(state)


def test_what_grows_is_a_part_of_the_state_with_a_row_a_user_or_an_item():
    learner = small_learner(encoder="blend", ranking=RankingRates(optimizer="adam"))
    learner.test_then_learn([click("u", "a"), click("v", "b"), Interaction("u", "b", 2, 1.0, 4.0)])
    parts = learner.parts()

    assert parts.keys() == learner.state().keys()
    for kind, rows in (("user", len(learner.users)), ("item", len(learner.items))):
        growing = learner.growing_parts()[kind]
        assert len(growing) >= 12
        assert all(len(part) == rows for part in growing.values())
        for name, part in growing.items():
            np.testing.assert_array_equal(copied(part), copied(parts[name]), strict=True)
    large = {name for name, part in parts.items() if isinstance(part, Ragged) or len(part) > 1}
    large -= {name for name in parts if name.startswith(("settings", "drift.", "ranking.encoder.", "ranking.mix."))}
    large = {name for name in large if not name.startswith(("ratings.stack", "ratings.overall"))}
    assert large - {name for growing in learner.growing_parts().values() for name in growing} <= {
        "ratings.median_counts"
    }


def test_a_state_is_not_moved_by_what_is_learned_afterwards():
    learner = small_learner()
    learner.describe({"a": ItemContent(title="about rivers")})
    learner.describe_users({"u": ItemContent(title="likes rivers")})
    learner.test_then_learn([click("u", "a"), click("v", "b"), Interaction("u", "b", 2, 1.0, 4.0)])
    state = learner.state()
    digest = state_digest(state)

    learner.test_then_learn([click("u", "b"), Interaction("v", "a", 2, 1.0, 1.0)])

    assert state_digest(state) == digest != state_digest(learner.state())


@pytest.mark.parametrize("rating_model", ["neighbours", "factors"])
@pytest.mark.parametrize("full_softmax_items", [10, 4096], ids=["sampled", "full"])
def test_a_step_moves_no_row_but_those_that_it_names(full_softmax_items, rating_model):
    rates = RankingRates(full_softmax_items=full_softmax_items, negatives=2)
    learner = small_learner(ranking=rates, rating_model=rating_model)
    learner.test_then_learn([Interaction(f"u{n}", f"i{n}", n, 1.0, 3.0) for n in range(200)])
    stayed = 0
    for start in range(0, 90, 6):
        before = grown_parts(learner)
        step = learner.test_then_learn(
            [Interaction(f"u{n}", f"i{n * n % 31}", 200 + n, 1.0, n % 5 + 1.0) for n in range(start, start + 6)]
        )
        assert_nothing_else_moved(learner, before, learner.moved_rows(step))
        moved = learner.moved_rows(step)["item"]
        stayed += 0 if moved is None else len(np.setdiff1d(np.arange(200), moved))

    assert (stayed > 100) == (full_softmax_items == 10)


def test_only_rows_of_a_steps_users_move_in_what_users_have():
    learner = small_learner()
    learner.test_then_learn([Interaction(f"u{n}", f"i{n % 3}", n, 1.0, 3.0) for n in range(30)])
    before = grown_parts(learner)

    step = learner.test_then_learn(
        [
            click("u1", "i2"),
            Forget("u4"),
            Interaction("u7", "i0", 99, 1.0, 5.0),
            click("stranger", "i1"),
            Forget("nobody"),
        ]
    )

    moved = learner.moved_rows(step)["user"]
    assert sorted(moved.tolist()) == sorted([*learner.users.rows(["u1", "u7", "stranger"]).tolist(), 4])
    assert_nothing_else_moved(learner, before, learner.moved_rows(step))
