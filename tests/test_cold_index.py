"""The index of items without an event: the lists are those of a new one, whatever changed in the catalogue."""

import numpy as np
import pytest
import torch
from item_worlds import world
from streams import random_stream, run, small_learner

from model.cold_index import ColdIndex
from model.content import ContentSettings
from model.entries import ItemContent
from model.item_index import Best


@pytest.fixture
def learner():
    """A learner whose table of content moves at each step, with cold items i30 to i59."""
    made = small_learner(encoder="recency", content=ContentSettings(every_events=1))
    made.describe({f"i{n}": kinds(n) for n in range(60)})
    run(made, random_stream(1), 16)
    return made


def kinds(n, **more):
    return ItemContent(categories=[f"kind {n % 3}", f"size {n % 5}"], **more)


def askers(users=5):
    """Users of width 8 with popularity, extras and seen items, none of which may count here."""
    return world(2, users=users, width=8)[1]


def no_lists(users, k):
    """Lists that every item may get into."""
    rows_UK = np.zeros((users, k), dtype=np.int32)
    return Best(
        rows_UK, rows_UK.astype(np.float32), rows_UK[:, :0].sum(1, dtype=np.int32), np.zeros((0, k), np.float32)
    )


def by_scores(content, users, k):
    """The right lists: scores of all cold rows, sorted, ties to the lower row."""
    rows_X = content.cold_rows()
    scores_UX = users.users_UD.astype(np.float64) @ content.vectors(rows_X).double().numpy().T
    scores_UX += users.popularity_U.astype(np.float64)[:, None] * np.log(0.5)
    order_UX = np.argsort(-scores_UX, axis=1, kind="stable")[:, :k]
    return rows_X, scores_UX, order_UX


def assert_right(index, content, k=7):
    users = askers()
    best, fresh = (one.best(content, users, no_lists(5, k)) for one in (index, ColdIndex()))
    rows_X, scores_UX, order_UX = by_scores(content, users, k)
    for user, order_X in enumerate(order_UX):
        length = len(order_X)
        assert best.lengths_U[user] == length
        np.testing.assert_allclose(best.scores_UK[user, :length], scores_UX[user, order_X], rtol=1e-4, atol=1e-5)
        assert set(best.rows_UK[user, :length]) <= set(rows_X)
    assert best.rows_UK.tolist() == fresh.rows_UK.tolist()
    assert best.scores_UK.tobytes() == fresh.scores_UK.tobytes()


def test_lists_are_those_of_sorting_all_scores(learner):
    assert len(learner.ranking.content.cold_rows()) >= 30
    assert_right(ColdIndex(), learner.ranking.content)


def test_it_follows_items_that_are_described_removed_or_have_their_first_event_and_a_table_that_moves(learner):
    index, content = ColdIndex(), learner.ranking.content
    draw = np.random.default_rng(3)
    for turn in range(40):
        item = int(draw.integers(30, 90))
        change = draw.integers(4)
        if change == 0:
            learner.describe({f"i{item}": kinds(item + turn, available=bool(draw.integers(2)))})
        elif change == 1:
            learner.describe({f"i{item}": None})
        elif change == 2:
            run(learner, random_stream(turn, events=3, items=60), 3)
        else:
            learner.describe({f"new {turn}": kinds(turn)})

        assert_right(index, content)


def test_items_that_come_and_go_while_the_table_stays_are_followed():
    learner = small_learner(encoder="recency", content=ContentSettings(every_events=10**9))
    learner.describe({f"i{n}": kinds(n) for n in range(60)})
    content, index = learner.ranking.content, ColdIndex()
    run(learner, random_stream(1), 16)
    content.table.values.normal_(generator=torch.Generator().manual_seed(1))
    content._compute_all()
    for turn in range(10):
        run(learner, random_stream(turn, events=5, items=60), 1)
        learner.describe({f"i{turn + 30}": kinds(1, available=turn % 2 == 0), f"new {turn}": kinds(turn)})

        assert_right(index, content)


def test_items_that_cannot_get_into_a_list_are_left_out_and_where_none_can_nothing_is_looked_at(learner):
    content, users = learner.ranking.content, askers()
    index = ColdIndex()
    whole = index.best(content, users, no_lists(5, 9))
    full = no_lists(5, 9)._replace(lengths_U=np.array([9, 9, 8, 9, 9], dtype=np.int32))
    full.scores_UK[:, 8] = whole.scores_UK[:, 4]
    low_U = whole.scores_UK[:, 0] + 1

    some = index.best(content, users, full)
    full.scores_UK[:, 8] = low_U + 100
    of_one = index.best(content, users, full)
    full.lengths_U[:] = 9

    assert [length for user, length in enumerate(some.lengths_U) if user != 2] == [
        (whole.scores_UK[user] >= whole.scores_UK[user, 4]).sum() for user in (0, 1, 3, 4)
    ]
    for ours, theirs, length in zip(some.rows_UK, whole.rows_UK, some.lengths_U, strict=True):
        assert ours[:length].tolist() == theirs[:length].tolist()
    assert of_one.lengths_U.tolist() == [0, 0, 9, 0, 0]
    assert of_one.rows_UK[2].tolist() == whole.rows_UK[2].tolist()
    assert index.best(content, users, full) is None


def test_where_nothing_is_cold_there_are_no_lists_and_later_there_are_again(learner):
    content, index = learner.ranking.content, ColdIndex()
    cold = [content.ids.name(row) for row in content.cold_rows()]
    learner.describe(dict.fromkeys(cold))
    nothing = index.best(content, askers(), no_lists(5, 3))

    learner.describe({cold[0]: kinds(1)})

    assert nothing is None
    assert index.best(content, askers(), no_lists(5, 3)).lengths_U.tolist() == [1] * 5


def test_another_catalogue_is_taken_for_what_it_is(learner):
    index, other = ColdIndex(), small_learner(encoder="recency")
    other.describe({f"other {n}": kinds(n) for n in range(20)})
    index.best(learner.ranking.content, askers(), no_lists(5, 3))

    assert_right(index, other.ranking.content)
    assert_right(index, learner.ranking.content)
