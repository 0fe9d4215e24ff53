"""Small parameters: a handful of numbers that everything shares, each with an accumulator of its own.

Adagrad at rate r moves a number by at most about 2 r sqrt(steps): these need a rate that lets them leave their start,
or the mix they steer stays what somebody once guessed (measured: docs/quality.md).
"""

import torch
from torch import Tensor

from model.optimizers import TINY


class SmallParameters:
    """Tensors by name that move together, element by element, by Adagrad (Duchi et al. 2011)."""

    def __init__(self, starts: dict[str, Tensor], rate: float) -> None:
        self.rate = rate
        self.values = starts
        self.gradients = {name: torch.zeros_like(value) for name, value in starts.items()}
        self._squares = {name: torch.zeros_like(value) for name, value in starts.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def step(self) -> None:
        """Move against the gathered gradients, and begin to gather anew."""
        for name, gradient in self.gradients.items():
            squares = self._squares[name].addcmul_(gradient, gradient)
            self.values[name].addcdiv_(gradient, (squares + TINY).sqrt(), value=-self.rate)
            gradient.zero_()

    def drop_gradients(self) -> None:
        """Forget what was gathered since the last step."""
        for gradient in self.gradients.values():
            gradient.zero_()

    def state(self) -> dict[str, Tensor]:
        return {**self.values, **{f"{name}.squares": squares for name, squares in self._squares.items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, value in self.values.items():
            value.copy_(state[name])
            self._squares[name].copy_(state[f"{name}.squares"])
