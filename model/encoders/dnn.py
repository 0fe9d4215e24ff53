"""A residual network on top of the recency sums: user + relu([user, length of the history] M1) M2.

The second matrix starts at zero, so the encoder starts as `recency` and departs from it as far as that pays.
"""

import torch
from torch import Tensor

from model.encoders.recency import RecencyEncoder
from model.growth import normal_rows
from model.small import SmallParameters
from model.windows import LENGTH_BUCKETS, Windows


class DnnEncoder:
    """Recency sums through one hidden layer of `hidden` units."""

    def __init__(
        self,
        recency: RecencyEncoder,
        width: int,
        hidden: int,
        *,
        rate: float,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.recency = recency
        first = normal_rows("dnn", seed, 0, width + LENGTH_BUCKETS, hidden, width**-0.5)
        self.layers = SmallParameters(
            {
                "first": torch.from_numpy(first).to(device, dtype),
                "second": torch.zeros((hidden, width), device=device, dtype=dtype),
            },
            rate,
        )

    def encode(self, windows: Windows, items_ID: Tensor) -> Tensor:
        sums_BD = self.recency.encode(windows, items_ID)
        _, hidden_BH = self._hidden(windows, sums_BD)
        return torch.addmm(sums_BD, hidden_BH, self.layers["second"])

    def pull_back(self, windows: Windows, items_ID: Tensor, gradient_BD: Tensor, gradient_ID: Tensor) -> None:
        inputs_BX, hidden_BH = self._hidden(windows, self.recency.encode(windows, items_ID))
        self.layers.gradients["second"].addmm_(hidden_BH.T, gradient_BD)
        by_hidden_BH = (gradient_BD @ self.layers["second"].T) * (hidden_BH > 0)
        self.layers.gradients["first"].addmm_(inputs_BX.T, by_hidden_BH)
        width = gradient_BD.shape[1]
        by_sums_BD = gradient_BD + by_hidden_BH @ self.layers["first"][:width].T
        self.recency.pull_back(windows, items_ID, by_sums_BD, gradient_ID)

    def step(self) -> None:
        self.layers.step()
        self.recency.step()

    def state(self) -> dict[str, Tensor]:
        return {**self.layers.state(), **{f"recency.{name}": value for name, value in self.recency.state().items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        self.layers.load(state)
        prefix = "recency."
        self.recency.load({n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)})

    def _hidden(self, windows: Windows, sums_BD: Tensor) -> tuple[Tensor, Tensor]:
        lengths_B = torch.from_numpy(windows.lengths_B).to(sums_BD.device, torch.int64)
        buckets_BL = torch.nn.functional.one_hot(lengths_B, LENGTH_BUCKETS).to(sums_BD)
        inputs_BX = torch.cat((sums_BD, buckets_BL), 1)
        return inputs_BX, torch.relu(inputs_BX @ self.layers["first"])
