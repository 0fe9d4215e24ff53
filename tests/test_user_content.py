"""What is said of users: it speaks at once for who is new, gives way to events, and costs nothing where it is not."""

import numpy as np
import pytest
import torch
from streams import click, joined, random_stream, run, small_learner

from model.encoders.interface import Encoded
from model.entries import ItemContent
from model.interactions import Forget
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK
from model.user_content import UserContent, UserContentSettings
from model.vocabulary import Vocabulary

CPU = torch.device("cpu")


def kind(n):
    return ItemContent(categories=[f"kind {n % 2}"])


def people(numbers):
    """Users of two kinds, which their categories tell."""
    return {f"u{n}": kind(n) for n in numbers}


def two_tastes(events, items=20, users=30, seed=0, first_user=0):
    """Users who only choose items of their own kind."""
    draw = np.random.default_rng(seed)
    stream = []
    for number in range(events):
        user = first_user + int(draw.integers(users))
        item = 2 * int(draw.integers(items // 2)) + user % 2
        stream.append(click(f"u{user}", f"i{item}", number * 1000))
    return stream


def learner(*, described=None, **settings):
    made = small_learner(**{"encoder": "recency", "width": 8, "allow_repeats": True, **settings})
    if described is not None:
        made.describe_users(described)
    return made


def content_of(settings=None, width=3, **described):
    """Content of these users, whose rows in the vocabulary are in this order."""
    made = UserContent(width, settings or UserContentSettings(), device=CPU, dtype=torch.float64)
    users = Vocabulary()
    users.rows(list(described))
    made.describe(described, users)
    return made, users


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


# --- new users ---


@pytest.mark.parametrize("settings", [{}, {"ranking": RankingRates(full_softmax_items=0, negatives=8)}])
def test_the_first_event_of_a_new_user_ranks_better_where_it_is_said_of_what_kind_the_user_is(settings):
    first = [click(f"u{n}", f"i{2 * (n % 7) + n % 2}", 4_000_000 + n) for n in range(100, 160)]
    ranks = {}
    for name, said in (("with", people(range(160))), ("without", None)):
        made = learner(described=said, **settings)
        run(made, two_tastes(3000), 50)
        ranks[name] = joined(run(made, first, 10), "ranks_B").mean()

    assert ranks["with"] < 0.8 * ranks["without"]


def test_the_list_of_a_user_without_history_follows_what_is_said_now():
    made = learner(described=people(range(30)))
    run(made, two_tastes(3000), 50)
    run(made, [click("new", "i0", 3_000_000, weight=0.0)], 1)

    lists = {}
    for n in (0, 1):
        made.describe_users({"new": kind(n)})
        lists[n] = TopK(made, 10)(["new"])[0].item_ids

    for n, items in lists.items():
        assert np.mean([int(item[1:]) % 2 == n for item in items]) >= 0.7


def test_what_is_said_of_users_changes_the_scores_of_cold_items_too():
    made = learner(described=people(range(30)))
    made.describe({f"i{n}": kind(n) for n in range(24)})
    run(made, two_tastes(3000), 50)
    run(made, [click("new", "i0", 3_000_000, weight=0.0)], 1)
    row, cold = np.array([made.users.row("new")]), made.ranking.content.cold_rows()

    before = made.cold_scores(row, cold)
    made.describe_users({"new": kind(1)})

    assert not torch.equal(made.cold_scores(row, cold), before)


# --- what it is made of ---


def test_the_weight_of_features_falls_as_events_come():
    made, users = content_of(UserContentSettings(half=4), a=kind(0), b=kind(0))
    made.table.values[:] = 1

    added = made.read(rows(0, 0, 0), np.array([0, 4, 12]), users).on_top(torch.zeros((3, 3), dtype=torch.float64))

    torch.testing.assert_close(added, torch.tensor([[1.0], [1 / 2], [1 / 4]], dtype=torch.float64).expand(3, 3))


def test_only_those_of_whom_something_is_said_are_moved():
    made, users = content_of(a=kind(0), b=None, c=kind(0))
    made.table.values[:] = 1

    added = made.read(rows(0, 1, 2), np.zeros(3, dtype=np.int64), users).on_top(torch.zeros((3, 3)).double())

    assert added.sum(1).tolist() == [3, 0, 3]


def test_the_gradient_reaches_each_feature_by_the_weights_of_the_events_that_have_it():
    made, users = content_of(
        UserContentSettings(half=2, rate=0.5),
        a=ItemContent(categories=["x"]),
        b=ItemContent(categories=["x", "y"]),
        c=ItemContent(categories=["y"]),
    )
    nobody = Encoded(torch.zeros((3, 3), dtype=torch.float64), lambda *_: None)
    said = made.read(rows(1, 0, 2), np.array([0, 2, 0]), users)

    said.trace(nobody).pull_back(torch.eye(3, dtype=torch.float64), torch.zeros((1, 3)))
    said.step()

    by_x, by_y = torch.tensor([0.5, 0.5, 0]).double(), torch.tensor([0.5, 0, 1]).double()
    expected = torch.stack([-0.5 * by / by.square().mean().sqrt() for by in (by_x, by_y)])
    torch.testing.assert_close(made.table.values, expected)
    [gradient] = said.gradients()
    torch.testing.assert_close(gradient, torch.stack([by_x, by_y]))


def test_the_way_back_of_the_encoder_is_still_gone():
    made, users = content_of(a=kind(0), b=kind(0))
    calls = []
    encoded = Encoded(torch.ones((1, 3)).double(), lambda *gradients: calls.append(gradients))
    gradient_BD, gradient_ID = torch.ones((1, 3)).double(), torch.zeros((4, 3)).double()

    made.read(rows(0), rows(0), users).trace(encoded).pull_back(gradient_BD, gradient_ID)

    assert calls == [(gradient_BD, gradient_ID)]


def test_a_feature_of_one_user_alone_says_nothing():
    made, users = content_of(a=ItemContent(categories=["only a"]))
    made.table.values[:] = 1

    assert made.read(rows(0), rows(0), users).on_top(torch.zeros((1, 3)).double()).sum() == 0


# --- changes ---


def test_features_that_are_removed_say_nothing_any_more_and_the_user_stays():
    made = learner(described=people(range(30)))
    run(made, two_tastes(500), 50)

    made.describe_users({"u1": None, "never met": None})

    assert made.user_content.ids.row("u1") is None
    assert made.users.row("u1") is not None
    users = rows(made.users.row("u1"))
    vector = made._said_of(users).on_top(torch.zeros((1, 8)))
    assert vector.abs().sum() == 0


def test_a_row_that_was_given_back_serves_the_next_user_and_says_nothing_of_the_last():
    made, users = content_of(a=kind(0), b=kind(1), c=kind(0), d=kind(1))
    made.table.values[:] = torch.tensor([[1.0], [2.0]])
    made.read(rows(0, 1), rows(0, 0), users)

    made.describe({"a": None}, users)
    made.describe({"e": kind(1)}, users)
    users.rows(["e"])

    added = made.read(rows(0, 1, 4), rows(0, 0, 0), users).on_top(torch.zeros((3, 3)).double())
    assert added[:, 0].tolist() == [0, 2, 2]


def test_what_is_said_before_the_first_event_counts_from_it_on():
    made, users = content_of(a=kind(0), b=kind(0))
    made.table.values[:] = 1
    users.rows(["new"])
    before = made.read(rows(2), rows(0), users).on_top(torch.zeros((1, 3)).double())

    made.describe({"new": kind(0)}, users)

    assert before.sum() == 0
    assert made.read(rows(2), rows(0), users).on_top(torch.zeros((1, 3)).double()).sum() == 3


# --- forgetting ---


def test_a_forget_erases_what_is_said_also_of_users_without_an_event():
    made = learner(described={**people(range(30)), "silent": ItemContent(categories=["kind 0"], features={"n": 7.0})})
    run(made, two_tastes(300), 50)

    run(made, [Forget("u1"), Forget("silent"), Forget("nobody")], 3)

    assert made.user_content.ids.row("u1") is None
    assert made.user_content.ids.row("silent") is None
    assert b"silent" not in made.state()["user content.ids.bytes"].numpy().tobytes()
    assert not (made.state()["user content.entries.values"] == 7.0).any()
    assert not (made.user_content.entries._value_E == 7.0).any(), "nor in memory"


def test_who_comes_back_after_a_forget_is_a_stranger():
    made = learner(described=people(range(30)))
    run(made, two_tastes(1000), 50)

    run(made, [Forget("u1"), click("u1", "i0", 5_000_000, weight=0.0)], 2)

    assert made._said_of(rows(made.users.row("u1"))).on_top(torch.zeros((1, 8))).abs().sum() == 0


def test_whoever_gets_the_row_of_a_forgotten_user_gets_their_own_features():
    made = learner(described={**people(range(30)), "next": kind(0)})
    run(made, two_tastes(1000), 50)
    old = made.users.row("u1")

    run(made, [Forget("u1"), click("next", "i0", 5_000_000, weight=0.0)], 2)

    assert made.users.row("next") == old
    said = made._said_of(rows(old)).on_top(torch.zeros((1, 8)))
    other = made._said_of(rows(made.users.row("u0"))).on_top(torch.zeros((1, 8)))
    half = made.settings.user_content.half
    events = made.live.history.pushed_U[made.users.row("u0")]
    torch.testing.assert_close(said * half / (half + events), other)
    assert said.abs().sum() > 0


# --- keeping ---


@pytest.mark.parametrize(
    "settings", [{}, {"ranking": RankingRates(full_softmax_items=0, negatives=8)}, {"encoder": "blend"}]
)
def test_a_saved_learner_goes_on_as_if_never_stopped(settings):
    stream, more = random_stream(5, forgets=0.02), random_stream(6, forgets=0.02)
    described = {**people(range(12)), "u3": ItemContent(categories=["kind 1", "odd"], features={"age": 30.0})}
    changes = {"u3": None, "u4": ItemContent(features={"age": 50.0}), "late": kind(0)}
    made, loaded = learner(described=described, **settings), learner(**settings)
    run(made, stream, 16)

    loaded.load(made.state())
    for one in (made, loaded):
        run(one, more[:150], 16)
        one.describe_users(changes)
        run(one, more[150:], 16)

    assert state_digest(loaded.state()) == state_digest(made.state())
    users = [f"u{n}" for n in range(12)]
    assert TopK(loaded, 5)(users) == TopK(made, 5)(users)


def test_where_nothing_is_said_a_learner_and_its_state_are_what_they_were():
    stream = random_stream(7)
    plain, nothing, of_others = learner(), learner(described={}), learner(described={"x": kind(0), "y": kind(0)})

    steps = [run(made, stream, 16) for made in (plain, nothing, of_others)]

    assert plain.user_content is None
    assert not [name for name in plain.state() if name.startswith("user content.")]
    assert state_digest(plain.state()) == state_digest(nothing.state())
    np.testing.assert_array_equal(joined(steps[2], "ranks_B"), joined(steps[0], "ranks_B"))
    theirs = {name: value for name, value in of_others.state().items() if not name.startswith("user content.")}
    assert state_digest(theirs) == state_digest(plain.state())


def test_a_state_in_which_nothing_is_said_clears_what_a_learner_was_told():
    described, plain = learner(described=people(range(3))), learner()
    run(plain, random_stream(8), 16)

    described.load(plain.state())

    assert state_digest(described.state()) == state_digest(plain.state())


def test_a_state_with_another_number_of_texts_is_refused():
    made, _ = content_of(a=kind(0))
    other = UserContent(3, UserContentSettings(texts=1), device=CPU, dtype=torch.float64)

    with pytest.raises(ValueError, match="keeps 3 texts a user, the settings ask for 1"):
        other.load(made.state())


def test_a_step_that_is_refused_leaves_what_was_learned_of_features():
    made = learner(described=people(range(30)))
    run(made, two_tastes(200), 50)
    before = made.user_content.table.values.clone()

    [step] = run(made, [click("u0", "i0", 1, weight=float("inf"))], 1)

    assert step.refused is not None
    torch.testing.assert_close(made.user_content.table.values, before)
    assert before.abs().sum() > 0
