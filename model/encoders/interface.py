"""What a user encoder is: history in, user vector out, and gradients back to where they belong."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from model.windows import Windows

PullBack = Callable[[Tensor, Tensor], None]


class Encoded(NamedTuple):
    """User vectors and the way back from them; it holds what the way back needs, so drop it after the step."""

    users_BD: Tensor
    pull_back: PullBack
    """Takes `gradient_BD`, the loss's gradient by the user vectors, and `gradient_ID`. What it means for the items is
    added to `gradient_ID`; what it means for the encoder's own parameters is kept until `step`. Once at most."""


class Encoder(Protocol):
    """Turns windows of interactions into user vectors in the space of the item embeddings.

    An encoder holds no user state: the windows are live, so two encoders differ only in how they read them. Its own
    parameters are shared by all users and move once a batch.
    """

    def encode(self, windows: Windows, items_ID: Tensor) -> Tensor:
        """User vectors (B, D). An empty window gives the zero vector, or a learned vector for strangers."""

    def trace(self, windows: Windows, items_ID: Tensor) -> Encoded:
        """The same vectors with the way back, for a step of learning; nothing is read twice."""

    def step(self) -> None:
        """Move the encoder's own parameters against the gradients that were kept."""

    def gradients(self) -> dict[str, Tensor]:
        """What is kept for the next step, by the names of `state`: not to be changed, to be judged."""

    def gathered_square(self) -> Tensor:
        """The sum of the squares of what is kept for the next step; not finite where any of it is not."""

    def drop_gradients(self) -> None:
        """Forget the gradients kept since the last step: the step was refused."""

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: dict[str, Tensor]) -> None: ...
