"""The order of items and its bounds; compiled and interpreted are held together in test_kernels_scan."""

import numpy as np
from item_worlds import all_scores, assert_best, world

from model.item_index import ItemIndex
from model.kernels.item_order import HIGHEST_COUNT, norm


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
