"""Content on top of vectors, and back: the kernels and their plain twins against plain numpy."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.content import add_bags, gather_back, number_features, pull_bags_back, put_on_top

WIDTHS = pytest.mark.parametrize("width", [1, 8, 11, 32, 45])
HALF = 4.0


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, interpreted(kernel)], ids=["compiled", "plain"])


def normal(draw, *shape):
    return draw.normal(size=shape).astype(np.float32)


def catalogue(seed, width, items=30, rows=12):
    """Vectors of a catalogue, the row that each item has there (-1: none), counts, and the weight of each."""
    draw = np.random.default_rng(seed)
    row_I = np.where(draw.random(items) < 0.6, draw.integers(rows, size=items), -1)
    count_I = draw.integers(9, size=items)
    weight_I = np.where(row_I < 0, 0, HALF / (HALF + count_I))
    return draw, normal(draw, rows, width), row_I, count_I, weight_I


@both(put_on_top)
@WIDTHS
def test_content_is_put_on_top_of_the_rows_that_are_asked_for(kernel, width):
    draw, vectors_XD, row_I, count_I, weight_I = catalogue(1, width)
    values_ID = normal(draw, 30, width)
    items_R = np.array([3, 29, 3, 0, 11, 12, 13, 14])
    summed_ID = np.full_like(values_ID, 7)

    kernel(items_R, items_R, values_ID, vectors_XD, row_I, count_I, HALF, summed_ID)

    expected_ID = np.full_like(values_ID, 7)
    expected_ID[items_R] = (values_ID + weight_I[:, None] * vectors_XD[row_I])[items_R]
    np.testing.assert_allclose(summed_ID, expected_ID, rtol=1e-5, atol=1e-6)
    assert (row_I[items_R] < 0).any()
    assert (row_I[items_R] >= 0).any()


@both(put_on_top)
def test_content_may_be_put_on_top_of_gathered_rows_where_they_lie(kernel):
    draw, vectors_XD, row_I, count_I, weight_I = catalogue(2, 11)
    items_R = draw.permutation(30)[:9]
    rows_RD = normal(draw, 9, 11)
    expected_RD = rows_RD + weight_I[items_R, None] * vectors_XD[row_I[items_R]]

    kernel(items_R, np.arange(9), rows_RD, vectors_XD, row_I, count_I, HALF, rows_RD)

    np.testing.assert_allclose(rows_RD, expected_RD, rtol=1e-5, atol=1e-6)


def test_a_sum_is_the_same_to_the_last_bit_whichever_rows_are_taken_with_it():
    draw, vectors_XD, row_I, count_I, _ = catalogue(3, 45)
    values_ID = normal(draw, 30, 45)
    whole_ID, one_by_one_ID = np.zeros_like(values_ID), np.zeros_like(values_ID)

    put_on_top(np.arange(30), np.arange(30), values_ID, vectors_XD, row_I, count_I, HALF, whole_ID)
    for item in range(30):
        put_on_top(np.array([item]), np.array([item]), values_ID, vectors_XD, row_I, count_I, HALF, one_by_one_ID)

    assert whole_ID.tobytes() == one_by_one_ID.tobytes()


@both(gather_back)
@WIDTHS
def test_gradients_are_gathered_by_the_weights_of_the_way_there(kernel, width):
    draw, _, row_I, count_I, weight_I = catalogue(4, width)
    items_R, gathered_ID = draw.permutation(30)[:20], normal(draw, 30, width)
    by_RD, expected_ID = normal(draw, 20, width), gathered_ID.copy()
    expected_ID[items_R] += weight_I[items_R, None] * by_RD

    kernel(items_R, by_RD, row_I, count_I, HALF, gathered_ID)

    np.testing.assert_allclose(gathered_ID, expected_ID, rtol=1e-5, atol=1e-6)


def bags(draw, number=7, features=9):
    """Bags of some of the features, one of them empty: starts, features, weights, and the dense matrix."""
    lengths_N = draw.integers(1, 5, size=number)
    lengths_N[2] = 0
    features_E = np.concatenate([draw.choice(features, size, replace=False) for size in lengths_N]).astype(np.int64)
    weights_E = normal(draw, len(features_E))
    matrix_NF = np.zeros((number, features))
    matrix_NF[np.repeat(np.arange(number), lengths_N), features_E] = weights_E
    return np.cumsum(lengths_N) - lengths_N, features_E, weights_E, matrix_NF


@both(add_bags)
@WIDTHS
def test_sums_of_bags_are_added_at_their_places(kernel, width):
    draw = np.random.default_rng(5)
    starts_N, features_E, weights_E, matrix_NF = bags(draw)
    places_N, values_FD, summed_BD = draw.permutation(10)[:7], normal(draw, 9, width), normal(draw, 10, width)
    expected_BD = summed_BD.copy()
    expected_BD[places_N] += matrix_NF @ values_FD

    kernel(places_N, starts_N, features_E, weights_E, values_FD, summed_BD)

    np.testing.assert_allclose(summed_BD, expected_BD, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "plain"])
@WIDTHS
def test_gradients_come_back_by_feature_and_bags_without_a_place_are_left_out(is_compiled, width):
    number, pull_back = (kernel if is_compiled else interpreted(kernel) for kernel in (number_features, pull_bags_back))
    draw = np.random.default_rng(6)
    starts_N, features_E, weights_E, matrix_NF = bags(draw)
    places_N, by_BD = draw.permutation(10)[:7], normal(draw, 10, width)
    places_N[[0, 6]] = -1
    number_F, features_M = np.full(9, -1, dtype=np.int64), np.empty(9, dtype=np.int64)

    mentioned = number(places_N, starts_N, features_E, number_F, features_M)
    by_MD = np.zeros((mentioned, width), dtype=np.float32)
    pull_back(places_N, starts_N, features_E, weights_E, by_BD, features_M[:mentioned], number_F, by_MD)

    some = np.flatnonzero(places_N >= 0)
    expected_FD = matrix_NF[some].T @ by_BD[places_N[some]]
    of_bags = [features_E[start:past] for start, past in zip(starts_N, [*starts_N[1:], len(features_E)], strict=True)]
    first_mentioned = list(dict.fromkeys(np.concatenate([of_bags[n] for n in some]).tolist()))
    assert features_M[:mentioned].tolist() == first_mentioned
    np.testing.assert_allclose(by_MD, expected_FD[first_mentioned], rtol=1e-4, atol=1e-5)
    assert (number_F == -1).all()
