"""The user is the decayed sum of the embeddings of the last items: the newest counts most.

No network and no user id: on streams the last few items say more of a user than an id learned over weeks
(measured: docs/quality.md). Linear, so its gradient is written down instead of traced.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class RecencyEncoder:
    """user = sum over ages w = 0 .. W - 1 of decay^w times the embedding of the item w steps ago."""

    def __init__(self, window: int, decay: float) -> None:
        self.window = window
        self.decay = decay

    def encode(self, windows_BW: Tensor, items_ID: Tensor) -> Tensor:
        if len(items_ID) == 0:
            return items_ID.new_zeros((len(windows_BW), items_ID.shape[1]))
        weights_BW = self._weights(windows_BW, items_ID.dtype)
        return embedding_bag(windows_BW.clamp(min=0), items_ID, mode="sum", per_sample_weights=weights_BW)

    def pull_back(self, windows_BW: Tensor, gradient_BD: Tensor, gradient_ID: Tensor) -> None:
        weights_BW = self._weights(windows_BW, gradient_BD.dtype)
        parts_BWD = weights_BW[:, :, None] * gradient_BD[:, None, :]
        gradient_ID.index_add_(0, windows_BW.clamp(min=0).flatten(), parts_BWD.flatten(0, 1))

    def _weights(self, windows_BW: Tensor, dtype: torch.dtype) -> Tensor:
        ages_W = torch.arange(windows_BW.shape[1], device=windows_BW.device, dtype=dtype)
        return torch.pow(self.decay, ages_W) * (windows_BW >= 0)
