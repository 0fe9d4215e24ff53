"""Eight numbers at once: compiled and interpreted, what the words say."""

import numpy as np
import pytest

from model.kernels.compiled import compiled_loosely, interpreted
from model.kernels.vectors import (
    filled,
    highest,
    load,
    plus_product,
    plus_scaled,
    powers,
    scaled,
    store,
    total,
    turn,
    zeros,
)


@compiled_loosely
def everything(values_ND, factor, out_ND):
    one, other = load(values_ND, 0, 1), load(values_ND, 1, 3)
    store(out_ND, 0, 2, plus_scaled(one, other, factor))
    store(out_ND, 1, 0, plus_product(zeros(values_ND), one, other))
    store(out_ND, 2, 4, scaled(one, factor))
    return total(other)


@pytest.mark.parametrize("kernel", [everything, interpreted(everything)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loads_stores_and_sums(kernel, dtype):
    values, out = np.random.default_rng(1).normal(size=(2, 12)).astype(dtype), np.full((3, 12), 7, dtype)
    expected = out.copy()
    expected[0, 2:10] = values[0, 1:9] + values[1, 3:11] * dtype(0.3)
    expected[1, :8] = values[0, 1:9] * values[1, 3:11]
    expected[2, 4:] = values[0, 1:9] * dtype(0.3)

    whole = kernel(values, dtype(0.3), out)

    np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert whole == pytest.approx(values[1, 3:11].sum(), rel=1e-5)


@compiled_loosely
def soften_eight(values_ND, lowest, out_ND):
    eight = load(values_ND, 0, 0)
    store(out_ND, 0, 0, powers(eight, highest(eight), lowest))
    store(out_ND, 1, 0, powers(filled(values_ND, values_ND[0, 0]), values_ND[0, 0], lowest))
    return highest(eight)


@pytest.mark.parametrize("kernel", [soften_eight, interpreted(soften_eight)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 5e-6), (np.float64, 1e-8)])
def test_powers_are_the_librarys_down_to_the_lowest(kernel, dtype, near):
    for values in ([3, 2.9, -1, -9.5, -26.99, 0.1, 2.65, 2.66], [-5, -5, -5.3, -20, -21.7, -34.9, -5.5, -6]):
        values, out = np.array([values], dtype=dtype), np.empty((2, 8), dtype)

        assert kernel(values, dtype(-30), out) == values.max()

        np.testing.assert_allclose(out[0], np.exp(values[0].astype(float) - float(values.max())), rtol=near)
        assert out[0].max() == 1
        assert (out[1] == 1).all()


@pytest.mark.parametrize("kernel", [soften_eight, interpreted(soften_eight)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_below_the_lowest_are_nothing_and_nan_stays(kernel, dtype):
    values, out = np.array([[1, -29, -29.01, -1e30, -np.inf, 1, 1, 1]], dtype=dtype), np.empty((2, 8), dtype)
    kernel(values, dtype(-30), out)
    assert out[0].tolist() == [1, 0, 0, 0, 0, 1, 1, 1]

    values[:] = np.nan
    kernel(values, dtype(-30), out)
    assert np.isnan(out).all()


@compiled_loosely
def turn_some(values_ND, out_DN):
    turn(values_ND, 1, 8, out_DN, 3)


@pytest.mark.parametrize("kernel", [turn_some, interpreted(turn_some)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_turned_to_columns(kernel, dtype):
    values, out = np.arange(180).reshape(10, 18).astype(dtype), np.full((17, 12), -1, dtype)
    expected = out.copy()
    expected[8:16, 3:11] = values[1:9, 8:16].T

    kernel(values, out)

    assert out.tolist() == expected.tolist()
