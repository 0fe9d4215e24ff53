"""Numbers of any scale come out in deviations from their running mean, as River's scaler has them."""

import numpy as np
import pytest
from river.preprocessing import StandardScaler

from model.numbers import FAR, RunningScaler


def scaler_of(columns):
    """A scaler that learned these values, and River's that learned the same, event by event."""
    ours, rivers = RunningScaler(), StandardScaler()
    for row in zip(*columns, strict=True):
        ours.learn(np.arange(len(row)), np.array(row, dtype=np.float64))
        rivers.learn_one(dict(enumerate(row)))
    return ours, rivers


def scaled(scaler, features, values):
    """Numbers that are all of what is said."""
    return scaler.scaled(np.array(features), np.array(values), np.ones(len(values), dtype=np.float32))


def test_it_scales_as_rivers_scaler_does():
    draw = np.random.default_rng(1)
    columns = [draw.normal(1995, 8, 200), draw.exponential(1e6, 200), draw.normal(0, 1e-9, 200)]
    ours, rivers = scaler_of(columns)
    values = np.array([1999.0, 2.5e6, -3e-10])

    found = scaled(ours, [0, 1, 2], values)

    expected = rivers.transform_one(dict(enumerate(values.tolist())))
    np.testing.assert_allclose(found, [expected[n] for n in range(3)], rtol=1e-9)


def test_a_number_that_never_varied_or_was_never_met_says_nothing():
    ours, _ = scaler_of([[7.0, 7.0, 7.0]])

    assert scaled(ours, [0, 0, 5], [7.0, 9.0, 1.0]).tolist() == [0, 0, 0]
    assert scaled(RunningScaler(), [0], [3.0]).tolist() == [0]


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_a_share_of_it_counts_and_what_has_none_is_left_as_it_is(share):
    ours, _ = scaler_of([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])

    found = ours.scaled(np.array([0, 1]), np.array([3.0, 3.0]), np.array([share, 1.0], dtype=np.float32))

    assert found[0] == (found[1] * 0.5 if share else 3.0)


@pytest.mark.parametrize(("value", "expected"), [(1e9, FAR), (-1e9, -FAR), (1.7e308, FAR)])
def test_an_outlier_is_cut(value, expected):
    ours, _ = scaler_of([[1.0, 2.0, 3.0]])

    assert scaled(ours, [0], [value]).tolist() == [expected]


def test_the_largest_numbers_there_are_leave_it_finite():
    ours = RunningScaler()

    ours.learn(np.zeros(3, dtype=np.int64), np.array([1.7e308, -1.7e308, 1.0]))

    assert np.isfinite([*ours.mean_F, *ours.squares_F]).all()


def test_it_goes_on_from_a_saved_state_as_if_never_stopped():
    whole, _ = scaler_of([[1.0, 5.0, 2.0, 8.0], [4.0, 4.5, 3.0, 1.0]])
    first, _ = scaler_of([[1.0, 5.0], [4.0, 4.5]])
    second = RunningScaler()

    second.load({name: np.array(value) for name, value in first.state().items()})
    for row in ([2.0, 3.0], [8.0, 1.0]):
        second.learn(np.arange(2), np.array(row))

    for name, value in whole.state().items():
        np.testing.assert_array_equal(second.state()[name], value)
