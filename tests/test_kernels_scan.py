"""The scan's kernels: compiled and interpreted give the same lists and the same order of items."""

import numpy as np
import pytest
from item_worlds import all_scores, assert_best, lists_of, world

import model.item_index
import model.kernels.scan
from model.item_index import ItemIndex
from model.kernels.compiled import interpreted
from model.kernels.scan import HIGHEST_COUNT, norm

KERNELS = ["follow", "take_bounds", "scan", "sift"]
INNER = ["_put", "norm", "_sink", "_rise", "mark_user", "_bound", "_item_bounds", "_survivors", "_dense_scores"]


def use_interpreted(monkeypatch):
    for name in INNER:
        monkeypatch.setattr(model.kernels.scan, name, interpreted(getattr(model.kernels.scan, name)))
    for name in KERNELS:
        monkeypatch.setattr(model.item_index, name, interpreted(getattr(model.kernels.scan, name)))


def results(made, askers, *, slack):
    index = ItemIndex()
    index.update(made, None)
    rows = np.random.default_rng(2).integers(0, len(made.count_I), 30)
    np.add.at(made.count_I, rows, made.known_I[rows])
    index.update(made, rows)
    return index.best(askers, 10, slack=slack, tells_needed=True), index.order()


@pytest.mark.parametrize("slack", [1.0, 0.3])
@pytest.mark.parametrize("case", ["sparse", "dense", "whole"])
def test_compiled_and_interpreted_agree(case, slack, monkeypatch):
    def new():
        made, askers = world(1, users=6, items=260, width=5, whole=case == "whole")
        if case == "dense":
            made = made._replace(count_I=np.where(made.known_I, 3, 0))
            askers = askers._replace(users_UD=askers.users_UD * np.float32(5))
        return made, askers

    compiled, order = results(*new(), slack=slack)
    use_interpreted(monkeypatch)
    made, askers = new()
    plain, plain_order = results(made, askers, slack=slack)

    assert plain_order.tolist() == order.tolist()
    assert lists_of(plain) == lists_of(compiled)
    listed_UK = np.arange(10) < compiled.lengths_U[:, None]
    np.testing.assert_allclose(plain.scores_UK[listed_UK], compiled.scores_UK[listed_UK], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(plain.needed_UK[listed_UK], compiled.needed_UK[listed_UK], rtol=1e-3, atol=1e-4)
    if slack == 1:
        assert_best(plain, all_scores(made, askers), 10)


def test_the_norm_of_a_vector():
    assert norm(np.array([3.0, 4.0], dtype=np.float32)) == 5
    assert norm(np.zeros(0, dtype=np.float32)) == 0
    assert np.isnan(norm(np.array([1.0, np.nan], dtype=np.float32)))


def test_counts_beyond_the_highest_are_in_order_with_all_others_and_harm_nothing():
    made, askers = world(3, users=20, items=200)
    made.count_I[5], made.count_I[9], made.known_I[[5, 9]] = HIGHEST_COUNT + 5, 10 * HIGHEST_COUNT, True
    index = ItemIndex()
    index.update(made, None)
    made.count_I[5] += 3 * HIGHEST_COUNT
    index.update(made, np.array([5]))

    assert set(index.order()[:2].tolist()) == {5, 9}
    assert_best(index.best(askers, 20), all_scores(made, askers), 20, tolerance=1e-3)
