"""The scan's kernels: compiled and interpreted give the same lists and the same order of items."""

import numpy as np
import pytest
from item_worlds import all_scores, assert_best, lists_of, said_together, world

import model.item_index
import model.kernels.item_order
import model.kernels.scan
from model.item_index import ItemIndex
from model.kernels.compiled import interpreted

KERNELS = ["follow", "take_bounds", "scan", "sift"]
INNER = [
    "norm", "_sink", "_rise", "mark_user", "_bound", "_item_bounds", "_survivors", "_dense_scores", "_score_all",
    "_add_together", "_keep_best", "_slack_needed", "_empty_heap",
]  # fmt: skip
TOGETHER = [
    "mark_together", "list_together", "add_up", "add_up_and_list", "clear_sums", "features_of", "fetch_lists",
    "list_features", "most_added",
]  # fmt: skip


def use_interpreted(monkeypatch):
    for name in KERNELS:
        monkeypatch.setattr(model.item_index, name, interpreted(getattr(model.item_index, name)))
    for module, names in ((model.kernels.item_order, ["_put", "norm"]), (model.kernels.scan, INNER + TOGETHER)):
        for name in names:
            monkeypatch.setattr(module, name, interpreted(getattr(module, name)))


def results(made, askers, *, slack):
    index = ItemIndex()
    index.update(made, None)
    rows = np.random.default_rng(2).integers(0, len(made.count_I), 30)
    np.add.at(made.count_I, rows, made.known_I[rows])
    index.update(made, rows)
    return index.best(askers, 10, slack=slack, tells_needed=True), index.order()


@pytest.mark.parametrize("slack", [1.0, 0.3])
@pytest.mark.parametrize("case", ["sparse", "dense", "whole", "together"])
def test_compiled_and_interpreted_agree(case, slack, monkeypatch):
    def new():
        made, askers = world(1, users=6, items=260, width=5, whole=case == "whole")
        if case == "dense":
            made = made._replace(count_I=np.where(made.known_I, 3, 0))
            askers = askers._replace(users_UD=askers.users_UD * np.float32(5))
        if case == "together":
            askers = askers._replace(together=said_together(askers, made.count_I))
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
    if slack == 1 and case != "together":
        assert_best(plain, all_scores(made, askers), 10)
