"""The kernels of entries and their plain twins, against the rules in plain words."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.entries import (
    find_slots,
    learn_scale,
    let_later_find,
    read_bags,
    scale_values,
    weigh_slots,
    write_rows,
)


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, interpreted(kernel)], ids=["compiled", "plain"])


@both(write_rows)
def test_rows_are_written_in_order_and_features_counted_as_rows_have_them(kernel):
    draw = np.random.default_rng(1)
    rows_W, lengths_W = draw.integers(4, size=40), draw.integers(4, size=40)
    chosen = [draw.choice(9, length, replace=False) for length in lengths_W]
    feature_E = np.concatenate([np.zeros(3, dtype=np.int64), *chosen]).astype(np.int32)
    start_X, length_X = np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64)
    items_F, shared_F = np.zeros(9, dtype=np.int64), np.zeros(9, dtype=np.bool_)

    kernel(rows_W, lengths_W, 3, feature_E, start_X, length_X, items_F, shared_F)

    has, shared = [set() for _ in range(4)], set()
    for row, features in zip(rows_W, chosen, strict=True):
        has[row] = set(features.tolist())
        shared |= {feature for feature in range(9) if sum(feature in one for one in has) > 1}
    found = [set(feature_E[start : start + length].tolist()) for start, length in zip(start_X, length_X, strict=True)]
    assert found == has
    assert items_F.tolist() == [sum(feature in one for one in has) for feature in range(9)]
    assert set(np.flatnonzero(shared_F).tolist()) == shared


@both(let_later_find)
def test_each_event_finds_the_newest_write_of_its_row_before_it(kernel):
    draw = np.random.default_rng(2)
    events_N = np.flatnonzero(draw.random(50) < 0.8)
    rows_N = draw.integers(3, size=len(events_N))
    places_W = np.sort(draw.integers(50, size=25))
    slots_W, row_W = draw.integers(2, size=25), draw.integers(3, size=25)
    starts_W, lengths_W, at_W = (draw.integers(100, size=25) for _ in range(3))
    first = [np.full((len(events_N), 2), -1) for _ in range(3)]
    filled = [array.copy() for array in first]

    kernel(places_W, slots_W, starts_W, lengths_W, at_W, events_N, rows_N, row_W, *filled)

    for n, (event, row) in enumerate(zip(events_N, rows_N, strict=True)):
        for slot in (0, 1):
            before = np.flatnonzero((places_W < event) & (row_W == row) & (slots_W == slot))
            expected = [-1] * 3 if not len(before) else [each[before[-1]] for each in (starts_W, lengths_W, at_W)]
            assert [array[n, slot] for array in filled] == expected


@both(learn_scale)
def test_mean_and_squares_are_those_of_the_values(kernel):
    draw = np.random.default_rng(3)
    features_N, values_N = draw.integers(3, size=200), draw.standard_normal(200) * 10 + 100
    count_F, mean_F, squares_F = np.zeros(3), np.zeros(3), np.zeros(3)

    kernel(features_N, values_N, count_F, mean_F, squares_F)

    for feature in range(3):
        values = values_N[features_N == feature]
        assert count_F[feature] == len(values)
        assert mean_F[feature] == pytest.approx(values.mean())
        assert squares_F[feature] / len(values) == pytest.approx(values.var())


@both(find_slots)
def test_what_users_have_in_their_slots_is_found_for_those_that_have_a_row(kernel):
    draw = np.random.default_rng(4)
    start_X, length_X, at_XS = draw.integers(100, size=12), draw.integers(9, size=12), draw.integers(50, size=(4, 3))
    row_B = np.array([-1, 2, 0, -2, 2, 3])
    events_N, rows_N = np.empty(6, dtype=np.int64), np.empty(6, dtype=np.int64)
    slots = [np.empty((6, 3), dtype=np.int64) for _ in range(3)]

    found = kernel(row_B, start_X, length_X, at_XS, events_N, rows_N, *slots)

    assert events_N[:found].tolist() == [1, 2, 4, 5]
    assert rows_N[:found].tolist() == [2, 0, 2, 3]
    expected = [start_X.reshape(4, 3), length_X.reshape(4, 3), at_XS]
    assert [slot[:found].tolist() for slot in slots] == [array[[2, 0, 2, 3]].tolist() for array in expected]


@both(weigh_slots)
def test_features_weigh_by_all_events_texts_by_those_since_and_the_context_until_the_next_one(kernel):
    starts_M, weights_E = np.array([0, 2, 3, 3, 4, 4, 4, 5]), np.array([1, 2, 3, 4, 5, 6], dtype=np.float32)
    at_NS, had_N = np.array([[0, 4, 0, 9], [0, 0, 0, 9]]), np.array([10, 9])

    kernel(starts_M, weights_E, at_NS, had_N, 5.0, 3.0)

    np.testing.assert_allclose(weights_E, [5 / 15, 2 * 5 / 15, 3 * 3 / 9, 0, 5 * 3 / 12, 6], rtol=1e-6)


@both(read_bags)
def test_of_spans_the_entries_that_count_come_end_to_end(kernel):
    feature_E, value_E = np.array([0, 1, 2, 3, 1, 0], dtype=np.int32), np.arange(6.0)
    share_E, shared_F = np.linspace(0, 1, 6).astype(np.float32), np.array([True, False, True, True])
    starts_N, features_M = np.empty(4, dtype=np.int64), np.empty(8, dtype=np.int64)
    values_M, shares_M = np.empty(8), np.empty(8, dtype=np.float32)

    spans = np.array([3, 0, 1, 4]), np.array([3, 2, 0, 1])
    found = kernel(*spans, feature_E, value_E, share_E, shared_F, starts_N, features_M, values_M, shares_M)

    assert starts_N.tolist() == [0, 2, 3, 3]
    assert features_M[:found].tolist() == [3, 0, 0]
    assert values_M[:found].tolist() == [3, 5, 0]
    assert shares_M[:found].tolist() == share_E[[3, 5, 0]].tolist()


@both(scale_values)
def test_numbers_are_scaled_by_mean_and_deviation_and_what_has_no_share_stays(kernel):
    features_M, values_M = np.array([0, 0, 1, 2, 0, 0]), np.array([5.0, 9.0, 3.0, 1.0, 1e9, -1e300])
    shares_M = np.array([0, 0.5, 1, 1, 1, 1], dtype=np.float32)
    count_F, mean_F, squares_F = np.array([4.0, 3.0, 2.0]), np.array([5.0, 3.0, 0.0]), np.array([16.0, 0.0, 9.0])
    scaled_M = np.full(6, np.nan)

    kernel(features_M, values_M, shares_M, count_F, mean_F, squares_F, 2, 1e100, 7.0, scaled_M)

    assert scaled_M.tolist() == [5, 0.5 * (9 - 5) / 2, 0, 0, 7, -7]
