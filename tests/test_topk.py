"""Lists: by score, then by row, whoever else is asked for, whatever the scores are."""

import numpy as np
import pytest
import torch
from streams import click, random_stream, run, small_learner

import model.topk
from model.topk import TopK, best

NAN = float("nan")


def reference(scores_UI, k):
    """Columns by falling score, then rising column, in numpy."""
    columns = np.arange(scores_UI.shape[1])
    return np.array([np.lexsort((columns, -row))[:k] for row in scores_UI], dtype=np.int64)


def score_tables():
    draw = np.random.default_rng(1)
    few_values = draw.integers(3, size=(20, 50)).astype(np.float32)
    half_out = draw.normal(size=(20, 50)).astype(np.float32)
    half_out[draw.random((20, 50)) < 0.9] = -np.inf
    return {
        "random": draw.normal(size=(20, 50)).astype(np.float32),
        "tied": few_values,
        "all equal": np.zeros((3, 50), dtype=np.float32),
        "few candidates": half_out,
        "no candidates": np.full((2, 50), -np.inf, dtype=np.float32),
        "infinite": np.where(few_values == 2, np.inf, few_values),
        "one item": np.ones((4, 1), dtype=np.float32),
        "no users": np.zeros((0, 5), dtype=np.float32),
    }


@pytest.mark.parametrize("k", [1, 10, 50, 80])
@pytest.mark.parametrize("table", score_tables())
def test_the_best_are_by_score_and_then_by_column(table, k):
    scores = score_tables()[table]

    values, columns = best(torch.from_numpy(scores.copy()), k)

    expected = reference(scores, k)
    assert columns.shape == (len(scores), min(k, scores.shape[1]))
    assert columns.tolist() == expected.tolist()
    assert values.tolist() == [row[columns].tolist() for row, columns in zip(scores, expected, strict=True)]


def test_no_items_give_empty_lists():
    values, columns = best(torch.zeros((3, 0)), 5)

    assert values.shape == columns.shape == (3, 0)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_score_that_is_no_number_comes_behind_every_other(k):
    scores = torch.tensor([[NAN, 1.0, NAN, 3.0, 2.0], [5.0, 4.0, 3.0, 2.0, 1.0], [NAN] * 5])

    values, columns = best(scores, k)

    assert columns[0, :3].tolist() == [3, 4, 1][:k]
    assert columns[1].tolist() == [0, 1, 2, 3, 4][:k]
    assert not values.isnan().any()


@pytest.fixture
def learner():
    made = small_learner()
    run(made, random_stream(2), 16)
    return made


def seen_by(learner, user):
    return {learner.items.name(item) for item in learner.live.seen.items(learner.users.row(user)).tolist()}


def test_a_list_has_all_and_only_what_the_user_has_not_seen(learner):
    users = [f"u{n}" for n in range(12)]

    lists = TopK(learner, 1000).lists_of(users)

    everything = {learner.items.name(row) for row in range(len(learner.items))}
    assert [one.user_id for one in lists] == users
    for one in lists:
        assert set(one.item_ids) == everything - seen_by(learner, one.user_id)
        assert one.item_ids == [learner.items.name(row) for row in one.item_rows]
        assert one.scores == sorted(one.scores, reverse=True)


def test_with_repeats_allowed_what_was_seen_stays():
    learner = small_learner(allow_repeats=True)
    run(learner, random_stream(2), 16)

    lists = TopK(learner, 1000).lists_of(["u1"])

    assert len(lists[0].item_ids) == len(learner.items)


def test_a_list_is_the_beginning_of_a_longer_one(learner):
    longer, shorter = TopK(learner, 20).lists_of(["u3"])[0], TopK(learner, 4).lists_of(["u3"])[0]

    assert shorter.item_ids == longer.item_ids[:4]


def test_a_list_does_not_depend_on_who_else_is_asked_for_or_in_how_many_goes(learner, monkeypatch):
    users = [f"u{n}" for n in range(12)]
    together = TopK(learner, 7).lists_of(users)

    alone = [TopK(learner, 7).lists_of([user])[0] for user in users]
    monkeypatch.setattr(model.topk, "SCORES_AT_ONCE", 5 * len(learner.items))
    in_goes = TopK(learner, 7).lists_of(users)

    assert [one.item_ids for one in alone] == [one.item_ids for one in together]
    assert [one.item_ids for one in in_goes] == [one.item_ids for one in together]


def test_strangers_are_left_out(learner):
    lists = TopK(learner, 3).lists_of(["nobody", "u1", "no one"])

    assert [one.user_id for one in lists] == ["u1"]


def test_nobody_asked_gives_no_lists(learner):
    assert TopK(learner, 3).lists_of([]) == []
    assert TopK(small_learner(), 3).lists_of(["u1"]) == []


def test_a_user_who_has_everything_gets_an_empty_list():
    learner = small_learner()
    run(learner, [click("u", "a"), click("u", "b"), click("v", "a")], 1)

    lists = TopK(learner, 3).lists_of(["u", "v"])

    assert [one.item_ids for one in lists] == [[], ["b"]]


def test_an_item_without_an_event_is_not_listed(learner):
    learner.items.rows(["from the catalogue"])
    learner.live.grow(len(learner.users), len(learner.items))
    learner.ranking.grow(len(learner.items))

    lists = TopK(learner, 1000).lists_of(["u1"])

    assert "from the catalogue" not in lists[0].item_ids


def test_an_item_whose_score_is_no_number_is_not_listed(learner):
    before = TopK(learner, 1000).lists_of(["u1"])[0].item_ids
    learner.ranking.biases.values[learner.items.row(before[2])] = NAN

    lists = TopK(learner, 1000).lists_of(["u1"])

    assert lists[0].item_ids == before[:2] + before[3:]
