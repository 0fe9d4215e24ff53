"""What a user encoder is: history in, user vector out, and gradients back to where they belong."""

from typing import Protocol

from torch import Tensor


class Encoder(Protocol):
    """Turns windows of item rows into user vectors in the space of the item embeddings.

    An encoder holds no user state: the windows are live, so two encoders differ only in how they read them.
    """

    def encode(self, windows_BW: Tensor, items_ID: Tensor) -> Tensor:
        """User vectors (B, D) from windows (B, W) of item rows, newest first, -1 where there are fewer.

        An empty window gives the zero vector.
        """

    def pull_back(self, windows_BW: Tensor, gradient_BD: Tensor, gradient_ID: Tensor) -> None:
        """Add to `gradient_ID` what `gradient_BD`, the loss's gradient by the user vectors, means for the items."""
