"""How rows move: SGD, Adagrad and Adam, each by row, over the rows that have a gradient.

One accumulator a row, not one an element: it costs a number of memory a row, and it normalises the *length* of a
row's step, so that an item met a hundred times in one batch of a skewed stream cannot diverge.
Adagrad: Duchi et al. 2011. Adam: Kingma and Ba 2015; by row and lazily, as for embeddings.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.kernels.optimizers import adagrad_rows
from model.tables import Rows, Table

TINY = 1e-10


class RowOptimizer(Protocol):
    rate: float

    def step(self, rows: Tensor | None, gradient: Tensor) -> None:
        """Move the given rows (each at most once; None: all) against a gradient of shape (rows, width).

        A row whose gradient is zero stays where it is.
        """

    def reset(self, row: int | Tensor) -> None:
        """Forget what was gathered of one row, or of several."""

    def fade(self, keep: float) -> None:
        """What was gathered so far counts `keep` of what it did: rows move more freely again, where it held them."""

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: dict[str, Tensor]) -> None: ...


class Sgd:
    """row -= rate * gradient. Nothing is kept; on skewed streams prefer Adagrad."""

    def __init__(self, table: Table, rate: float) -> None:
        self.table = table
        self.rate = rate

    def step(self, rows: Tensor | None, gradient: Tensor) -> None:
        move = gradient * -self.rate
        if rows is None:
            self.table.values.add_(move)
        else:
            self.table.values.index_add_(0, rows, move)

    def reset(self, row: int | Tensor) -> None:
        pass

    def fade(self, keep: float) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        pass


class _Gathered:
    """Optimizer state of some columns a row, as tall as its table."""

    def __init__(self, table: Table, columns: int) -> None:
        self.table = table
        self._rows = Rows(columns, device=table.values.device, dtype=table.values.dtype)

    @property
    def values(self) -> Tensor:
        return self._rows.first(self.table.rows)

    def load(self, values: Tensor) -> None:
        self._rows.load(values)


class Adagrad:
    """row -= rate * gradient / sqrt(sum of the mean squares of the row's gradients)."""

    def __init__(self, table: Table, rate: float) -> None:
        self.table = table
        self.rate = rate
        self._squares = _Gathered(table, 1)

    def step(self, rows: Tensor | None, gradient: Tensor) -> None:
        if gradient.device.type != "cpu":
            self._step_anywhere(rows, gradient)
            return
        rows_T = np.arange(len(gradient)) if rows is None else rows.numpy()
        values, squares = self.table.values.numpy(), self._squares.values.numpy()
        adagrad_rows(values, squares, rows_T, gradient.numpy(), self.rate, TINY)

    def _step_anywhere(self, rows: Tensor | None, gradient: Tensor) -> None:
        """The plain torch twin of the kernel, for GPUs."""
        squares = self._squares.values
        mean_square = gradient.square().mean(1, keepdim=True)
        if rows is None:
            squares.add_(mean_square)
            self.table.values.addcdiv_(gradient, (squares + TINY).sqrt_(), value=-self.rate)
        else:
            gathered = squares[rows] + mean_square
            squares[rows] = gathered
            self.table.values.index_add_(0, rows, gradient * (gathered + TINY).rsqrt_(), alpha=-self.rate)

    def reset(self, row: int | Tensor) -> None:
        self._squares.values[row] = 0

    def fade(self, keep: float) -> None:
        self._squares.values.mul_(keep)

    def state(self) -> dict[str, Tensor]:
        return {"squares": self._squares.values}

    def load(self, state: dict[str, Tensor]) -> None:
        self._squares.load(state["squares"])


class Adam:
    """Moments are kept a row and decay only when the row has a gradient; the second one is a number a row."""

    def __init__(self, table: Table, rate: float, decay_mean: float = 0.9, decay_square: float = 0.99) -> None:
        self.table = table
        self.rate = rate
        self.decay_mean = decay_mean
        self.decay_square = decay_square
        self._means = _Gathered(table, table.width)
        self._squares_and_steps = _Gathered(table, 2)

    def step(self, rows: Tensor | None, gradient: Tensor) -> None:
        rows = torch.arange(self.table.rows, device=gradient.device) if rows is None else rows
        moves = gradient.any(1)  # CPU-GPU sync point, at the next line
        rows, gradient = rows[moves], gradient[moves]
        means = torch.lerp(gradient, self._means.values[rows], self.decay_mean)
        squares, steps = self._squares_and_steps.values[rows].unbind(1)
        squares = torch.lerp(gradient.square().mean(1), squares, self.decay_square)
        steps = steps + 1
        self._means.values[rows] = means
        self._squares_and_steps.values[rows] = torch.stack((squares, steps), 1)
        square_now = squares / (1 - self.decay_square**steps)
        move = means / (1 - self.decay_mean**steps)[:, None] / (square_now.sqrt() + TINY)[:, None]
        self.table.values.index_add_(0, rows, move, alpha=-self.rate)

    def reset(self, row: int | Tensor) -> None:
        self._means.values[row] = 0
        self._squares_and_steps.values[row] = 0

    def fade(self, keep: float) -> None:
        pass  # its moments forget by themselves

    def state(self) -> dict[str, Tensor]:
        return {"means": self._means.values, "squares_and_steps": self._squares_and_steps.values}

    def load(self, state: dict[str, Tensor]) -> None:
        self._means.load(state["means"])
        self._squares_and_steps.load(state["squares_and_steps"])


OPTIMIZERS: dict[str, type[Sgd] | type[Adagrad] | type[Adam]] = {"sgd": Sgd, "adagrad": Adagrad, "adam": Adam}


def make_optimizer(name: str, table: Table, rate: float) -> RowOptimizer:
    """The optimizer of that name for a table; ValueError for a name that is none."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {name!r}")
    return OPTIMIZERS[name](table, rate)
