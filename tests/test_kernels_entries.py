"""The kernels of entries and their plain twins, against the rules in plain words."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.entries import learn_scale, let_later_find, write_rows


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
