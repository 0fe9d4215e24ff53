"""Adagrad over the rows that have a gradient."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely
from model.kernels.vectors import EIGHT, fetch, load, plus_product, plus_scaled, store, total, zeros

AHEAD = 4
"""Rows that are on their way while one is worked on."""
Floats = NDArray[np.floating]


@compiled_loosely
def adagrad_rows(
    values_ID: Floats, squares_I1: Floats, rows_T: NDArray[np.int64], gradient_TD: Floats, rate: float, tiny: float
) -> None:
    """squares += mean of gradient^2; values -= rate * gradient / sqrt(squares + tiny), for distinct rows."""
    width = values_ID.shape[1]
    for place in range(rows_T.shape[0]):
        row, column, sums = rows_T[place], 0, zeros(gradient_TD)
        if place + AHEAD < rows_T.shape[0]:
            fetch(values_ID, rows_T[place + AHEAD])
            fetch(squares_I1, rows_T[place + AHEAD])
        while column + EIGHT <= width:
            eight = load(gradient_TD, place, column)
            sums = plus_product(sums, eight, eight)
            column += EIGHT
        square = total(sums)
        while column < width:
            square += gradient_TD[place, column] ** 2
            column += 1
        squares_I1[row, 0] += square / width
        factor = -rate / np.sqrt(squares_I1[row, 0] + tiny)
        column = 0
        while column + EIGHT <= width:
            moved = plus_scaled(load(values_ID, row, column), load(gradient_TD, place, column), factor)
            store(values_ID, row, column, moved)
            column += EIGHT
        while column < width:
            values_ID[row, column] += factor * gradient_TD[place, column]
            column += 1


@compiled_loosely
def adagrad_elements(values_N: Floats, squares_N: Floats, gradient_N: Floats, rate: float, tiny: float) -> None:
    """squares += gradient^2; values -= rate * gradient / sqrt(squares + tiny), number by number; gradient becomes 0."""
    for place in range(values_N.shape[0]):
        by = gradient_N[place]
        squares_N[place] += by * by
        values_N[place] -= rate * by / np.sqrt(squares_N[place] + tiny)
        gradient_N[place] = 0
