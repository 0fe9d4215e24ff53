"""A residual network on top of the recency sums: user + relu([user, length of the history] M1) M2.

The second matrix starts at zero, so the encoder starts as `recency` and departs from it as far as that pays.
"""

import torch
from torch import Tensor

from model.encoders.interface import Encoded
from model.encoders.recency import OnRecency, RecencyEncoder
from model.growth import normal_rows
from model.small import SmallParameters
from model.windows import LENGTH_BUCKETS, Windows


class DnnEncoder(OnRecency):
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

    def trace(self, windows: Windows, items_ID: Tensor) -> Encoded:
        sums_BD, pull_sums_back = self.recency.trace(windows, items_ID)
        inputs_BX, hidden_BH = self._hidden(windows, sums_BD)

        def pull_back(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
            self.layers.gradients["second"].addmm_(hidden_BH.T, gradient_BD)
            by_hidden_BH = (gradient_BD @ self.layers["second"].T) * (hidden_BH > 0)
            self.layers.gradients["first"].addmm_(inputs_BX.T, by_hidden_BH)
            width = gradient_BD.shape[1]
            pull_sums_back(gradient_BD + by_hidden_BH @ self.layers["first"][:width].T, gradient_ID)

        return Encoded(torch.addmm(sums_BD, hidden_BH, self.layers["second"]), pull_back)

    def _hidden(self, windows: Windows, sums_BD: Tensor) -> tuple[Tensor, Tensor]:
        lengths_B = torch.from_numpy(windows.lengths_B).to(sums_BD.device, torch.int64, non_blocking=True)
        buckets_BL = torch.nn.functional.one_hot(lengths_B, LENGTH_BUCKETS).to(sums_BD)
        inputs_BX = torch.cat((sums_BD, buckets_BL), 1)
        return inputs_BX, torch.relu(inputs_BX @ self.layers["first"])
