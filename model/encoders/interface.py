"""What a user encoder is: history in, user vector out, and gradients back to where they belong."""

from typing import Protocol

from torch import Tensor

from model.windows import Windows


class Encoder(Protocol):
    """Turns windows of interactions into user vectors in the space of the item embeddings.

    An encoder holds no user state: the windows are live, so two encoders differ only in how they read them. Its own
    parameters are shared by all users and move once a batch.
    """

    def encode(self, windows: Windows, items_ID: Tensor) -> Tensor:
        """User vectors (B, D). An empty window gives the zero vector, or a learned vector for strangers."""

    def pull_back(self, windows: Windows, items_ID: Tensor, gradient_BD: Tensor, gradient_ID: Tensor) -> None:
        """Take in `gradient_BD`, the loss's gradient by the user vectors.

        What it means for the items is added to `gradient_ID`; what it means for the encoder's own parameters is kept
        until `step`.
        """

    def step(self) -> None:
        """Move the encoder's own parameters against the gradients that were kept."""

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: dict[str, Tensor]) -> None: ...
