"""No user vector: bias, popularity and live co-occurrence alone make the score."""

import torch
from torch import Tensor

from model.encoders.interface import Encoded
from model.windows import Windows


class NoVector:
    """The zero vector for everybody; it learns nothing, and pulls nothing back."""

    def encode(self, windows: Windows, items_ID: Tensor) -> Tensor:
        return items_ID.new_zeros((len(windows), items_ID.shape[1]))

    def trace(self, windows: Windows, items_ID: Tensor) -> Encoded:
        return Encoded(self.encode(windows, items_ID), _nothing)

    def step(self) -> None:
        pass

    def gradients(self) -> dict[str, Tensor]:
        return {}

    def gathered_square(self) -> Tensor:
        return torch.zeros(())

    def drop_gradients(self) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        pass


def _nothing(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
    pass
