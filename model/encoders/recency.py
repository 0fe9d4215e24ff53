"""The user is a sum of the embeddings of the last items, on several time scales at once.

The columns of the embedding fall into groups; each group has its own decay, so one part of the user vector follows
the last two or three items and another the last fifty. Weights of lag, of the time since (within the history) and of
what the interaction was are learned. No network and no user id: on streams the last few items say more of a user than
an id learned over weeks (measured: docs/quality.md). Its gradient is written down instead of traced.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.encoders.interface import Encoded
from model.kernels.bags import pull_bags_back, sum_bags
from model.kernels.vectors import EIGHT
from model.small import SmallParameters
from model.windows import GAP_BUCKETS, KINDS, Windows


@dataclass(frozen=True)
class Scale:
    """A time scale: where its lag weights start, scale * decay^age over `width` interactions."""

    decay: float
    scale: float
    width: int


_PREFIX = "recency."
SCALES = (Scale(0.5, 1.0, 10), Scale(0.8, 0.5, 20), Scale(0.97, 0.3, 50))


class RecencyEncoder:
    """Equal shares of the embedding's columns for each scale; see the module."""

    def __init__(
        self,
        width: int,
        window: int,
        *,
        rate: float,
        device: torch.device,
        dtype: torch.dtype,
        scales: tuple[Scale, ...] = SCALES,
    ) -> None:
        scales = scales[: max(1, min(len(scales), width))]
        self._starts_G = _starts(width, len(scales))
        self._widths_G = np.array([min(scale.width, window) for scale in scales], dtype=np.int64)
        ages_W = torch.arange(window, dtype=torch.float64)
        lag_GW = torch.stack([np.log(scale.scale) + ages_W * float(np.log(scale.decay)) for scale in scales])
        groups = len(scales)
        self.small = SmallParameters(
            {
                "lag": lag_GW.to(device, dtype),
                "gap": torch.zeros((groups, GAP_BUCKETS), device=device, dtype=dtype),
                "kind": torch.zeros((groups, KINDS), device=device, dtype=dtype),
            },
            rate,
        )

    def encode(self, windows: Windows, items_ID: Tensor) -> Tensor:
        if items_ID.device.type != "cpu":
            with torch.no_grad():
                return self.traced(windows, items_ID, self.small.values)
        return self._sum(windows, items_ID)[0]

    def trace(self, windows: Windows, items_ID: Tensor) -> Encoded:
        if items_ID.device.type != "cpu":
            return self._trace_anywhere(windows, items_ID)
        users_BD, weights_BGW = self._sum(windows, items_ID)

        def pull_back(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
            by = self.small.gradient_arrays
            pull_bags_back(
                windows.items_BW,
                windows.gaps_BW,
                windows.kinds_BW,
                self._starts_G,
                self._widths_within(windows),
                items_ID.numpy(),
                weights_BGW,
                gradient_BD.contiguous().numpy(),
                gradient_ID.numpy(),
                by["lag"],
                by["gap"],
                by["kind"],
            )

        return Encoded(users_BD, pull_back)

    def step(self) -> None:
        self.small.step()

    def gradients(self) -> dict[str, Tensor]:
        return self.small.gradients

    def gathered_square(self) -> Tensor:
        return self.small.gathered_square()

    def drop_gradients(self) -> None:
        self.small.drop_gradients()

    def state(self) -> dict[str, Tensor]:
        return self.small.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self.small.load(state)

    def _sum(self, windows: Windows, items_ID: Tensor) -> tuple[Tensor, NDArray[np.floating]]:
        items = items_ID.numpy()
        users_BD = np.empty((len(windows), items.shape[1]), items.dtype)
        weights_BGW = np.empty((len(windows), len(self._widths_G), windows.items_BW.shape[1]), items.dtype)
        sum_bags(
            windows.items_BW,
            windows.gaps_BW,
            windows.kinds_BW,
            self._starts_G,
            self._widths_within(windows),
            self.small.arrays["lag"],
            self.small.arrays["gap"],
            self.small.arrays["kind"],
            items,
            weights_BGW,
            users_BD,
        )
        return torch.from_numpy(users_BD), weights_BGW

    def _widths_within(self, windows: Windows) -> NDArray[np.int64]:
        return np.minimum(self._widths_G, windows.items_BW.shape[1])

    # --- the plain torch twin, for GPUs ---

    def _trace_anywhere(self, windows: Windows, items_ID: Tensor) -> Encoded:
        with torch.enable_grad():
            items = items_ID.detach().requires_grad_()
            small = {name: value.detach().requires_grad_() for name, value in self.small.values.items()}
            users_BD = self.traced(windows, items, small)

        def pull_back(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
            by_items, *by_small = torch.autograd.grad(users_BD, [items, *small.values()], gradient_BD)
            gradient_ID += by_items
            for name, gradient in zip(small, by_small, strict=True):
                self.small.gradients[name] += gradient

        return Encoded(users_BD.detach(), pull_back)

    def traced(self, windows: Windows, items_ID: Tensor, small: dict[str, Tensor]) -> Tensor:
        """The same sums by torch alone, for autograd to follow."""
        device = items_ID.device
        rows_BW = torch.from_numpy(windows.items_BW).to(device, torch.int64, non_blocking=True)
        gaps_BW = torch.from_numpy(windows.gaps_BW).to(device, torch.int64, non_blocking=True)
        kinds_BW = torch.from_numpy(windows.kinds_BW).to(device, torch.int64, non_blocking=True)
        parts = []
        for group, width in enumerate(self._widths_within(windows).tolist()):
            here_Bw = rows_BW[:, :width]
            logs_Bw = (
                small["lag"][group, :width]
                + small["gap"][group][gaps_BW[:, :width]]
                + small["kind"][group][kinds_BW[:, :width]]
            )
            weights_Bw = logs_Bw.exp() * (here_Bw >= 0)
            columns = slice(int(self._starts_G[group]), int(self._starts_G[group + 1]))
            parts.append(torch.einsum("bw,bwd->bd", weights_Bw, items_ID[:, columns][here_Bw.clamp(min=0)]))
        return torch.cat(parts, 1)


def _starts(width: int, groups: int) -> NDArray[np.int64]:
    """First column of each group, and `width`: nearly equal shares, of whole vectors of the machine where they fit."""
    whole = EIGHT if width >= EIGHT * groups and width % EIGHT == 0 else 1
    return np.linspace(0, width // whole, groups + 1).round().astype(np.int64) * whole


class OnRecency:
    """An encoder whose own `layers` stand on recency sums: both move, are kept and are loaded together."""

    recency: RecencyEncoder
    layers: SmallParameters

    def step(self) -> None:
        self.layers.step()
        self.recency.step()

    def gradients(self) -> dict[str, Tensor]:
        return with_recency(self.layers.gradients, self.recency.gradients())

    def gathered_square(self) -> Tensor:
        return self.layers.gathered_square() + self.recency.gathered_square()

    def drop_gradients(self) -> None:
        self.layers.drop_gradients()
        self.recency.drop_gradients()

    def state(self) -> dict[str, Tensor]:
        return with_recency(self.layers.state(), self.recency.state())

    def load(self, state: dict[str, Tensor]) -> None:
        self.layers.load(state)
        self.recency.load(recency_of(state))


def with_recency(own: dict[str, Tensor], of_recency: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an encoder that stands on recency sums, and those of the sums under names of their own."""
    return {**own, **{f"{_PREFIX}{name}": value for name, value in of_recency.items()}}


def recency_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second part of `with_recency`."""
    return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
