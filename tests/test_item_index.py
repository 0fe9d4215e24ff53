"""The index of all items: its lists are those of sorting all scores, whatever moved and by whatever way it came."""

import numpy as np
import pytest
import torch
from item_worlds import all_scores, assert_best, lists_of, right_lists, said_together, world

import model.item_index
import model.kernels.scan
from model.item_index import ItemIndex, Items
from model.kernels.compiled import IS_COMPILED
from model.kernels.item_order import BLOCK
from model.kernels.scan import FEW
from model.side_by_side import SideBySide

KS = [1, 7, 20, 1000]


def index_of(items):
    index = ItemIndex()
    index.update(items, None)
    return index


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("items", [1, 63, 64, 65, 400, 3000])
def test_lists_are_those_of_sorting_all_scores(items, k):
    made, askers = world(items, items=items, seen=min(items, 15))

    best = index_of(made).best(askers, k)

    assert_best(best, all_scores(made, askers), k)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("seed", range(5))
def test_of_equal_scores_the_lower_row_comes_first(seed, k):
    made, askers = world(seed, whole=True)

    best = index_of(made).best(askers, k)

    scores_UI = all_scores(made, askers)
    assert lists_of(best) == right_lists(scores_UI, k)
    for rows, scores, length, all_of_user in zip(best.rows_UK, best.scores_UK, best.lengths_U, scores_UI, strict=True):
        assert scores[:length].tolist() == all_of_user[rows[:length]].tolist()


@pytest.mark.parametrize("change", ["repeats", "no extras", "float64", "wide", "one column", "nothing hidden"])
def test_other_worlds(change):
    made, askers = world(
        3,
        hides_seen=change != "repeats",
        extras=0 if change == "no extras" else 12,
        dtype=np.float64 if change == "float64" else np.float32,
        width={"wide": 100, "one column": 1}.get(change, 8),
    )
    if change == "nothing hidden":
        made = made._replace(hidden_I=np.zeros(0, dtype=np.bool_))

    best = index_of(made).best(askers, 20)

    assert_best(best, all_scores(made, askers), 20)


def test_users_for_whom_bounds_say_little_get_the_same_lists_by_products(monkeypatch):
    made, askers = world(4, users=60, items=2000, width=32)
    made = made._replace(count_I=np.where(made.known_I, 3, 0))  # no help from popularity
    askers = askers._replace(users_UD=askers.users_UD * np.float32(5))
    asked = []
    by_products = ItemIndex._by_products

    def watched(self, askers, dense_U, found, bars_U):
        asked.append(len(dense_U))
        by_products(self, askers, dense_U, found, bars_U)

    monkeypatch.setattr(ItemIndex, "_by_products", watched)
    monkeypatch.setattr(model.item_index, "PRODUCTS_AT_ONCE", 40_000)
    monkeypatch.setattr(model.item_index, "ENTRIES_AT_ONCE", 700)
    index = index_of(made)
    best = index.best(askers, 20, tells_needed=True)

    assert sum(asked) > 20
    assert_best(best, all_scores(made, askers), 20)
    # a score is the same by whatever way its item was met
    size = made.vectors_ID.shape[0]
    whole = index.best(askers, size)
    for user, (length, whole_length) in enumerate(zip(best.lengths_U, whole.lengths_U, strict=True)):
        rows, scores = whole.rows_UK[user, :whole_length], whole.scores_UK[user, :whole_length]
        by_row = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        ours = best.rows_UK[user, :length].tolist()
        assert [by_row[row] for row in ours] == best.scores_UK[user, :length].tolist()


def test_warming_up_compiles_the_products_too(monkeypatch):
    asked = []
    by_products = ItemIndex._by_products
    monkeypatch.setattr(ItemIndex, "_by_products", lambda self, *given: asked.append(by_products(self, *given)))

    model.item_index.warm_up_products(torch.zeros((0, 8)))

    assert len(asked) == 1


def test_who_has_seen_everything_gets_an_empty_list_and_no_items_give_empty_lists():
    made, askers = world(5, users=2, items=30, seen=0, extras=0)
    everything = np.arange(30, dtype=np.int32)
    askers = askers._replace(
        seen_pool=everything, seen_start_U=np.zeros(2, np.int64), seen_length_U=np.array([30, 0], np.int64)
    )

    assert index_of(made).best(askers, 5).lengths_U.tolist() == [0, 5]
    none = Items(torch.zeros((0, 8)), torch.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, bool))
    assert index_of(none).best(askers, 5).lengths_U.tolist() == [0, 0]
    assert index_of(made).best(askers, 0).rows_UK.shape == (2, 0)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", ["vector", "bias", "user", "extra"])
def test_a_score_that_is_no_number_is_no_candidate_and_harms_no_other(where, odd):
    made, askers = world(6, items=300)
    if where == "vector":
        made.vectors_ID[::7, 2] = odd
    elif where == "bias":
        made.biases_I[::7] = odd
    elif where == "user":
        askers.users_UD[::3, 1] = odd
    else:
        askers.values_E[::3] = odd
    with np.errstate(all="ignore"):
        scores_UI = all_scores(made, askers)
        finite_UI = np.where(np.abs(scores_UI) < 3e38, scores_UI, -np.inf)

        best = index_of(made).best(askers, 20)

    for user in range(len(askers.users_UD)):
        mine = best.rows_UK[user, : best.lengths_U[user]].tolist()
        scores = best.scores_UK[user, : len(mine)]
        assert not np.isnan(scores).any()
        numbers = [row for row in mine if abs(scores_UI[user, row]) < 1e30]
        right = right_lists(finite_UI[user : user + 1], 20)[0][: len(numbers)]
        if odd != 3e38 and where != "user":
            np.testing.assert_allclose(scores_UI[user, numbers], scores_UI[user, right], atol=1e-4)


def test_items_that_moved_are_followed_and_others_need_not_be_told():
    made, askers = world(7, items=700)
    index = index_of(made)
    draw = np.random.default_rng(8)
    for _ in range(30):
        rows = draw.integers(0, 700, 25)
        made.vectors_ID[torch.from_numpy(rows)] = torch.from_numpy(draw.normal(size=(25, 8)).astype(np.float32))
        made.biases_I[torch.from_numpy(rows)] += 0.5
        np.add.at(made.count_I, rows, 1)
        made.known_I[rows] = True
        index.update(made, rows)

        assert_best(index.best(askers, 20), all_scores(made, askers), 20)
    counts_P = made.count_I[index.order()]
    assert (np.diff(counts_P) <= 0).all()
    assert sorted(index.order().tolist()) == np.flatnonzero(made.known_I).tolist()


def test_bounds_are_never_below_what_they_bound_and_need_no_rest():
    made, _ = world(9, items=3000)
    index = index_of(made)
    draw = np.random.default_rng(9)
    for _ in range(10):
        rows = draw.integers(0, 3000, 100)
        made.vectors_ID[torch.from_numpy(rows)] *= 0.5  # shrinking must reach the bounds too
        np.add.at(made.count_I, rows, made.known_I[rows])
        index.update(made, rows)
    fresh = index_of(made)

    order = index._order
    for block in range(-(-index.size // 64)):
        its = slice(block * 64, min(block * 64 + 64, index.size))
        assert index._blocks.norm_Q[block] == order.norm_P[its].max()
        assert index._blocks.start_Q[block] == (order.bias_P[its] + order.log_count_P[its]).max()
    assert fresh.size == index.size


def test_the_longest_vector_is_that_of_a_candidate():
    made, _ = world(9, items=3000)
    made.vectors_ID[17] = torch.nan
    made.vectors_ID[np.flatnonzero(made.hidden_I)[0]] *= 1000
    candidates = made.known_I & ~made.hidden_I
    candidates[17] = False

    longest = index_of(made).longest()

    assert longest == pytest.approx(float(made.vectors_ID[torch.from_numpy(candidates)].norm(dim=1).max()))
    assert ItemIndex().longest() == 0


def test_good_items_are_found_behind_blocks_that_are_passed_over():
    made, askers = world(18, items=3000)
    made = made._replace(biases_I=made.biases_I * 0.1, hidden_I=np.zeros(0, dtype=np.bool_))
    askers = askers._replace(users_UD=askers.users_UD * np.float32(0.1))  # popularity says nearly all, bounds are tight
    good = index_of(made).order()[np.array([20, 22, 25, 27]) * BLOCK]
    made.biases_I[torch.from_numpy(good)] += 100

    best = index_of(made).best(askers, 20)

    assert np.isin(good, best.rows_UK).all()
    assert_best(best, all_scores(made, askers), 20)


def test_a_catalogue_that_grows_is_met_as_it_grows():
    made, askers = world(10, items=900, extras=0, seen=0)
    index = ItemIndex()
    for items in (10, 100, 101, 500, 900):
        now = Items(made.vectors_ID[:items], made.biases_I[:items], *(part[:items] for part in made[2:]))
        index.update(now, np.arange(items))

        assert_best(index.best(askers, 20), all_scores(now, askers), 20)


def test_other_items_altogether_are_taken_for_what_they_are():
    first, askers = world(11)
    second, _ = world(12)
    index = index_of(first)

    index.update(second, None)

    assert_best(index.best(askers, 20), all_scores(second, askers), 20)


def test_a_list_does_not_depend_on_who_else_is_asked_for():
    made, askers = world(13, users=60, items=1500)
    assert FEW < 60 * 1500, "together they may be taken by products, alone they are not"
    index = index_of(made)
    together = index.best(askers, 20)

    for user in range(60):
        alone = index.best(model.item_index.of_users(askers, np.array([user])), 20)
        assert alone.rows_UK[0].tolist() == together.rows_UK[user].tolist()
        assert alone.scores_UK[0].tobytes() == together.scores_UK[user].tobytes()


@pytest.mark.parametrize("tells_needed", [False, True])
@pytest.mark.parametrize("slack", [1.0, 0.3])
@pytest.mark.parametrize("case", ["by bounds", "by products", "with co-occurrence"])
def test_lists_do_not_depend_on_how_many_threads_make_them(case, slack, tells_needed, monkeypatch):
    monkeypatch.setattr(model.item_index, "PRODUCTS_AT_ONCE", 40_000)  # several products
    monkeypatch.setattr(model.item_index, "WORTH", 32)
    made, askers = world(17, users=500, items=2000, width=16)
    if case == "by products":
        made = made._replace(count_I=np.where(made.known_I, 3, 0))
        askers = askers._replace(users_UD=askers.users_UD * np.float32(5))
    if case == "with co-occurrence":
        askers = askers._replace(together=said_together(askers, made.count_I))
    alone, threads = ItemIndex(), ItemIndex(SideBySide(4))
    for index in (alone, threads):
        index.update(made, None)
    users_of = {thread: [] for thread in range(4)}
    scan = ItemIndex._scan

    def watched(self, thread, *others):
        scan(self, thread, *others)
        users_of[thread].append(len(others[0].users_UD))

    right = alone.best(askers, 20, slack=slack, tells_needed=tells_needed)
    monkeypatch.setattr(ItemIndex, "_scan", watched)

    for _ in range(5):
        found = threads.best(askers, 20, slack=slack, tells_needed=tells_needed)

        assert found.lengths_U.tobytes() == right.lengths_U.tobytes()
        assert found.lengths_U.min() == 20  # so that no place is unspecified
        assert found.rows_UK.tobytes() == right.rows_UK.tobytes()
        assert found.scores_UK.tobytes() == right.scores_UK.tobytes()
        assert found.needed_UK.tobytes() == right.needed_UK.tobytes()
    if IS_COMPILED:
        assert sum(len(calls) > 0 for calls in users_of.values()) > 1


@pytest.mark.parametrize(
    ("users", "items", "is_together", "threads"), [(500, 2000, False, 1), (500, 2000, True, 3), (40, 2000, True, 1)]
)
def test_only_where_lists_are_work_enough_threads_share_it(users, items, is_together, threads):
    made, askers = world(17, users=users, items=items)
    if is_together:
        askers = askers._replace(together=said_together(askers, made.count_I))

    assert max(index_of(made)._shares(askers), 1) == threads


@pytest.mark.parametrize("users", [20, 60], ids=["few", "by products"])
def test_items_below_what_lists_have_to_score_at_least_are_left_out_and_no_others(users):
    made, askers = world(13, users=users, items=2000, whole=users == 20)
    index = index_of(made)
    whole = index.best(askers, 30)
    least_U = np.where(np.arange(users) % 4, whole.scores_UK[:, 10], -np.inf).astype(np.float32)
    kept = least_U.copy()

    best = index.best(askers, 30, least_U=least_U)

    assert least_U.tolist() == kept.tolist(), "what was passed in is left alone"
    for user in range(users):
        passing = (whole.scores_UK[user] >= least_U[user]).sum()
        assert best.lengths_U[user] == passing
        assert best.rows_UK[user, :passing].tolist() == whole.rows_UK[user, :passing].tolist()
        assert best.scores_UK[user, :passing].tobytes() == whole.scores_UK[user, :passing].tobytes()


def test_the_slack_that_an_item_needed_would_have_kept_it_and_a_smaller_one_loses_items():
    made, askers = world(14, users=200, items=3000, extras=0)
    index = index_of(made)
    exact = index.best(askers, 20, tells_needed=True)
    needed = np.sort(exact.needed_UK, axis=None)

    def recall(slack):
        loose = index.best(askers, 20, slack=slack)
        return np.mean([np.isin(a, b).mean() for a, b in zip(exact.rows_UK, loose.rows_UK, strict=True)])

    assert ((needed >= 0) & (needed <= 1.0001)).all()
    recalls = {slack: recall(slack) for slack in (0.0, 0.3, 0.6, 1.0)}
    for slack, found in recalls.items():
        assert found >= (needed <= slack).mean() - 1e-6
    assert recalls[1.0] == 1
    assert recalls[0.0] < 0.9


def test_an_order_taken_up_again_is_the_same_order():
    made, askers = world(15, items=500)
    index = index_of(made)
    draw = np.random.default_rng(1)
    for _ in range(10):
        rows = draw.integers(0, 500, 40)
        np.add.at(made.count_I, rows, made.known_I[rows])
        index.update(made, rows)
    again = ItemIndex()

    again.set_order(index.order(), made)

    assert again.order().tolist() == index.order().tolist()
    assert again.order().tolist() != index_of(made).order().tolist()
    assert lists_of(again.best(askers, 20, slack=0.2)) == lists_of(index.best(askers, 20, slack=0.2))


@pytest.mark.parametrize("wrong", ["short", "twice", "rising"])
def test_an_order_of_other_items_is_refused(wrong):
    made, _ = world(16)
    order_P = index_of(made).order()
    order_P = {"short": order_P[:-1], "twice": np.r_[order_P[:-1], order_P[0]], "rising": order_P[::-1]}[wrong]

    with pytest.raises(ValueError, match="is not one of the"):
        ItemIndex().set_order(order_P, made)


@pytest.mark.parametrize("seed", range(6))
def test_items_that_go_and_rows_that_go_to_others_are_followed(seed):
    made, askers = world(seed, items=700)
    index, draw = index_of(made), np.random.default_rng(seed)
    for turn in range(30):
        gone = draw.permutation(np.flatnonzero(made.known_I))[: draw.integers(60)]
        made.known_I[gone], made.count_I[gone] = False, 0
        if turn % 3:  # the index hears of it only when others have the rows
            index.update(made, gone)
        new = draw.permutation(np.flatnonzero(~made.known_I))[: draw.integers(60)]
        made.known_I[new], made.count_I[new] = True, draw.integers(0, 9, len(new))
        made.biases_I.numpy()[new] += 0.25
        moved = draw.permutation(np.concatenate((gone, new)))

        index.update(made, moved)

        order = index.order()
        assert sorted(order.tolist()) == np.flatnonzero(made.known_I).tolist()
        assert (np.diff(made.count_I[order]) <= 0).all()
        assert_best(index.best(askers, 20), all_scores(made, askers), 20)
        index.set_order(order, made)
