"""Small parameters: a handful of numbers that everything shares, each with an accumulator of its own.

Adagrad at rate r moves a number by at most about 2 r sqrt(steps): these need a rate that lets them leave their start,
or the mix they steer stays what somebody once guessed (measured: docs/quality.md).
"""

import torch
from torch import Tensor

from model.kernels.optimizers import adagrad_elements
from model.optimizers import TINY


class SmallParameters:
    """Tensors by name that move together, element by element, by Adagrad (Duchi et al. 2011).

    They are views of one long tensor, so that a step takes a handful of operations however many there are.
    """

    def __init__(self, starts: dict[str, Tensor], rate: float) -> None:
        self.rate = rate
        self._all_values = torch.cat([value.reshape(-1) for value in starts.values()])
        self._all_gradients, self._all_squares = (torch.zeros_like(self._all_values) for _ in range(2))
        self.values = _views(self._all_values, starts)
        self.gradients = _views(self._all_gradients, starts)
        self._squares = _views(self._all_squares, starts)
        on_cpu = self._all_values.device.type == "cpu"
        self.arrays = {name: value.numpy() for name, value in self.values.items()} if on_cpu else {}
        """The values as arrays of the same memory, on a CPU: to ask for one takes longer than to read it."""
        self.gradient_arrays = {name: value.numpy() for name, value in self.gradients.items()} if on_cpu else {}

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def step(self) -> None:
        """Move against the gathered gradients, and begin to gather anew."""
        gradient = self._all_gradients
        if self.arrays:
            values, squares_N = self._all_values.numpy(), self._all_squares.numpy()
            adagrad_elements(values, squares_N, gradient.numpy(), self.rate, TINY)
            return
        self._step_anywhere(gradient)

    def _step_anywhere(self, gradient: Tensor) -> None:
        """The plain torch twin of the kernel, for GPUs."""
        squares = self._all_squares.addcmul_(gradient, gradient)
        self._all_values.addcdiv_(gradient, (squares + TINY).sqrt_(), value=-self.rate)
        gradient.zero_()

    def drop_gradients(self) -> None:
        """Forget what was gathered since the last step."""
        self._all_gradients.zero_()

    def gathered_square(self) -> Tensor:
        """Sum of the squares of what was gathered since the last step."""
        return torch.dot(self._all_gradients, self._all_gradients)

    def state(self) -> dict[str, Tensor]:
        return {**self.values, **{f"{name}.squares": squares for name, squares in self._squares.items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, value in self.values.items():
            value.copy_(state[name])
            self._squares[name].copy_(state[f"{name}.squares"])


def _views(whole: Tensor, shaped: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stretches of one long tensor, in the shapes of these: what is done to it is done to all."""
    parts = torch.split(whole, [value.numel() for value in shaped.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(shaped.items(), parts, strict=True)}
