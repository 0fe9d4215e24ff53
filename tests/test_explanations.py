"""Explanations say of a score what it is made of, and what it would be without an item of the history."""

import numpy as np
import pytest
import torch
from streams import click, random_stream, small_learner

from model.content import cold_code
from model.encoders.choice import ENCODERS
from model.entries import ItemContent
from model.explanations import explain
from model.interactions import Interaction
from model.topk import TopK

ROUNDED = {"rel": 1e-5, "abs": 1e-5}
"""Sums of float32, in two orders."""


def learned(*, events=240, described=None, said=None, batch=24, **settings):
    made = small_learner(**settings)
    if described:
        made.describe(described)
    if said:
        made.describe_users(said)
    stream = random_stream(3, events)
    for start in range(0, events, batch):
        made.test_then_learn(stream[start : start + batch])
    return made


def of_all(learner, user):
    """The explanations of all items with an event, by row."""
    return explain(learner, user, list(range(len(learner.items))))


def films(numbers):
    return {f"i{n}": ItemContent(title=f"film {n}", categories=["even" if n % 2 == 0 else "odd"]) for n in numbers}


# --- what a score is made of ---


@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_parts_add_up_to_the_score(encoder, allow_repeats):
    learner = learned(encoder=encoder, allow_repeats=allow_repeats)
    user = learner.users.row("u2")

    explained = of_all(learner, user)

    scores_I = learner.scores(np.array([user]))[0].tolist()
    candidates = [one for one in explained if one.excluded is None]
    assert len(candidates) > 5
    for one in candidates:
        assert sum(one.score) == pytest.approx(scores_I[one.code], **ROUNDED)
    assert {one.code for one in candidates} == set(np.flatnonzero(np.isfinite(scores_I)).tolist())
    assert any(one.score.together for one in explained) == ENCODERS[encoder].counts_pairs
    assert any(one.score.repeat for one in explained) == allow_repeats
    assert not any(one.score.content or one.score.said for one in explained)


def test_what_the_catalogue_and_the_users_topic_say_are_parts_of_their_own():
    said = {f"u{n}": ItemContent(categories=[f"kind {n % 2}"]) for n in range(12)}
    learner = learned(encoder="recency", events=1_200, described=films(range(40)), said=said)
    user = learner.users.row("u2")
    rows = list(range(len(learner.items)))
    cold = [cold_code(int(row)) for row in learner.ranking.content.cold_rows()]

    explained = {one.code: one for one in explain(learner, user, rows + cold)}

    scores_I = learner.scores(np.array([user]))[0].tolist()
    cold_scores_X = learner.cold_scores(np.array([user]), learner.ranking.content.cold_rows())[0].tolist()
    expected = dict(zip(rows + cold, scores_I + cold_scores_X, strict=True))
    candidates = [one for one in explained.values() if one.excluded is None]
    assert set(cold) < {one.code for one in candidates}
    for one in candidates:
        assert sum(one.score) == pytest.approx(expected[one.code], **ROUNDED)
        assert one.score.content
        assert one.score.said
        assert (one.score.history == 0) == (one.score.bias == 0) == (one.code < 0)
    # An item of the catalogue that had its first event since stands in lists under its old number.
    in_list = TopK(learner, 30, cold_items=True)(np.array([user])).codes_UK[0].tolist()
    born_cold = next(code for code in in_list if code < 0 <= learner.rows_of_list([code])[0])
    again = explain(learner, user, [born_cold])[0]
    before = explained[int(learner.rows_of_list([born_cold])[0])]
    assert again.code == born_cold
    assert (again.excluded, list(again.score)) == (before.excluded, pytest.approx(list(before.score)))


# --- what it would be without ---


@pytest.mark.parametrize("encoder", ["blend", "transformer", "cooccurrence"])
def test_without_an_item_the_score_is_that_of_a_user_who_never_had_it(encoder):
    """By the scores themselves, the item taken out of the ring by hand; the history's length stays in its bucket."""
    learner = learned(encoder=encoder, allow_repeats=True, window=5, depth=12)
    history, user = learner.live.history, learner.users.row("u4")
    explained = of_all(learner, user)
    window = history.windows(np.array([user]), 5).items_BW[0].tolist()
    scores_I = learner.scores(np.array([user]))[0].double()
    items, times, kinds = history.items_UH[user], history.times_UH[user], history.kinds_UH[user]
    pushed = int(history.pushed_U[user])
    ring = [(pushed - 1 - age) % 12 for age in range(12)]
    whole = [(items[slot], times[slot], kinds[slot]) for slot in ring]
    assert pushed >= 12

    for item in set(window):
        kept = [entry for entry in whole if entry[0] != item]
        items[:] = -1
        for slot, entry in zip(ring, kept, strict=False):
            items[slot], times[slot], kinds[slot] = entry
        without_I = learner.scores(np.array([user]))[0].double()
        lower_I = torch.tensor([dict(one.because)[item] for one in explained])
        assert lower_I.tolist() == pytest.approx((scores_I - without_I).tolist(), rel=1e-4, abs=1e-5)
        assert lower_I.abs().max() > 0.01
    assert all(sorted(dict(one.because)) == sorted(set(window)) for one in explained)


def test_what_helped_most_comes_first():
    learner = learned(encoder="blend")

    for one in of_all(learner, learner.users.row("u1")):
        lowers = [lower for _, lower in one.because]
        assert lowers == sorted(lowers, reverse=True)


def test_an_item_that_goes_with_another_owes_its_place_to_it():
    learner = small_learner(encoder="blend", window=10, depth=20)
    for n in range(40):
        pair = [click(f"u{n}", f"film{n % 4}", 2 * n), click(f"u{n}", f"sequel{n % 4}", 2 * n + 1)]
        learner.test_then_learn(pair)
    learner.test_then_learn([click("ada", "film3", 1000), click("ada", "film1", 1001)])

    sequel = explain(learner, learner.users.row("ada"), [learner.items.row("sequel1")])[0]

    assert learner.items.name(sequel.because[0][0]) == "film1"
    assert sequel.because[0][1] > 3 * abs(sequel.because[1][1])


def test_a_user_without_history_has_a_score_and_nothing_behind_it():
    learner = learned(encoder="blend")
    learner.test_then_learn([Interaction("new", "i0", 10**6, -1.0)])
    user = learner.users.row("new")
    assert learner.live.history.pushed_U[user] == 0

    explained = of_all(learner, user)

    assert all(one.because == [] for one in explained)
    assert [sum(one.score) for one in explained if one.excluded is None]


def test_nothing_asked_is_nothing_explained():
    learner = learned(encoder="blend")

    assert explain(learner, 0, []) == []


# --- who is no candidate ---


def test_it_says_why_an_item_is_in_no_list():
    learner = learned(encoder="recency", described=films([0, 1, 2, 100, 101]))
    learner.test_then_learn([click("u1", "i5", 10**6)])
    learner.describe({"i2": None, "i100": ItemContent(title="film 100", available=False), "i103": ItemContent()})
    user, row = learner.users.row("u1"), learner.items.row
    catalogue = learner.ranking.content.ids.row
    asked = {
        "not available": row("i2"),
        "seen": row("i5"),
        "not described": cold_code(catalogue("i103")),
        None: cold_code(catalogue("i101")),
    }

    explained = explain(learner, user, list(asked.values()))

    assert [one.excluded for one in explained] == list(asked)
    assert explain(learner, user, [cold_code(catalogue("i100"))])[0].excluded == "not available"


def test_an_item_on_its_way_out_is_in_no_list():
    learner = small_learner(encoder="recency", max_items=10)
    for n in range(60):
        learner.test_then_learn([click(f"u{n % 3}", f"i{n % 30}", n)])
        leaving_I = learner.letting_go.leaving(len(learner.items))
        if leaving_I.any():
            break

    gone = int(np.flatnonzero(leaving_I)[0])
    strangers = learner.users.row("u0"), learner.users.row("u1"), learner.users.row("u2")
    excluded = {explain(learner, user, [gone])[0].excluded for user in strangers}

    assert excluded == {"leaving"}
