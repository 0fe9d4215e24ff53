"""Adagrad by rows: compiled and interpreted are the same, and both are the formula."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.optimizers import adagrad_elements, adagrad_rows


@pytest.mark.parametrize("kernel", [adagrad_rows, interpreted(adagrad_rows)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("width", [1, 8, 19])
def test_rows_move_by_the_formula_and_others_stay(kernel, width):
    draw = np.random.default_rng(width)
    values, squares, gradient = draw.normal(size=(9, width)), draw.random((9, 1)), draw.normal(size=(3, width))
    rows, expected, gathered = np.array([7, 0, 4]), values.copy(), squares.copy()
    gathered[rows] += (gradient**2).mean(1, keepdims=True)
    expected[rows] -= 0.1 * gradient / np.sqrt(gathered[rows] + 1e-10)

    kernel(values, squares, rows, gradient, 0.1, 1e-10)

    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(squares, gathered)


@pytest.mark.parametrize("kernel", [adagrad_elements, interpreted(adagrad_elements)], ids=["compiled", "interpreted"])
def test_numbers_move_by_the_formula_and_their_gradient_is_gone(kernel):
    draw = np.random.default_rng(5)
    values, squares, gradient = draw.normal(size=11), draw.random(11), draw.normal(size=11)
    gathered = squares + gradient**2
    expected = values - 0.1 * gradient / np.sqrt(gathered + 1e-10)

    kernel(values, squares, gradient, 0.1, 1e-10)

    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(squares, gathered)
    assert not gradient.any()
