"""Encoders whose networks autograd follows: recency sums plus what a network reads of the last items.

    user = sums + relu([sums, summary, length of the history] M1) M2

`summary` is what a torch module (LSTM, attention, convolutions, ...) makes of the window. M2 starts at zero, so that
every such encoder starts as `recency` and departs from it as far as that pays: from scratch a network on a stream is
no better than popularity for too long. Of the whole table only the items of the windows enter the graph.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.encoders.interface import Encoded
from model.encoders.recency import OnRecency, RecencyEncoder
from model.growth import normal_rows
from model.small import SmallParameters
from model.windows import LENGTH_BUCKETS, Windows


class Reading(NamedTuple):
    """The newest W interactions of B users as a network sees them, newest first."""

    items_BWD: Tensor
    """Item embeddings, zeros where there is nothing."""
    gaps_BW: Tensor
    kinds_BW: Tensor
    filled_BW: Tensor
    """Whether there is an interaction; whoever has none at an age has none at all later ones."""


class Reader(nn.Module, ABC):
    """A network that sums a window up. What stands where nothing is filled must not change the summary."""

    window: int
    """Most interactions it reads."""
    summary_width: int

    @abstractmethod
    def forward(self, reading: Reading) -> Tensor:
        """The summary (B, `summary_width`), finite for an empty window too."""


class Departure(nn.Module):
    """relu([sums, summary, length] M1) M2, from zero."""

    def __init__(self, reader: Reader, width: int, hidden: int) -> None:
        super().__init__()
        self.reader = reader
        self.first = nn.Linear(width + reader.summary_width + LENGTH_BUCKETS, hidden, bias=False)
        self.second = nn.Linear(hidden, width, bias=False)

    def forward(self, sums_BD: Tensor, reading: Reading, lengths_BL: Tensor) -> Tensor:
        summary_BS = self.reader(reading)
        users_BD: Tensor = self.second(torch.relu(self.first(torch.cat((sums_BD, summary_BS, lengths_BL), 1))))
        return users_BD


class TracedEncoder(OnRecency):
    """Recency sums and a network's departure from them; the network moves by Adagrad."""

    def __init__(
        self,
        recency: RecencyEncoder,
        make_reader: Callable[[], Reader],
        width: int,
        hidden: int,
        *,
        rate: float,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.recency = recency
        with torch.device("meta"):  # torch would draw first values from a generator that belongs to others
            network = Departure(make_reader(), width, hidden)
        self.network = network.to_empty(device=device).to(dtype)
        fill(self.network, type(network.reader).__name__, seed)
        nn.init.zeros_(self.network.second.weight)
        self.layers = SmallParameters({name: value.detach() for name, value in self.network.named_parameters()}, rate)
        for name, parameter in self.network.named_parameters():
            parameter.data = self.layers[name]  # the network reads what moves there

    def encode(self, windows: Windows, items_ID: Tensor) -> Tensor:
        with torch.no_grad():
            sums_BD = self.recency.encode(windows, items_ID)
            reading, _ = read(windows, self.network.reader.window, items_ID)
            departure_BD: Tensor = self.network(sums_BD, reading, _length_columns(windows, sums_BD))
            return sums_BD + departure_BD

    def trace(self, windows: Windows, items_ID: Tensor) -> Encoded:
        sums_BD, pull_sums_back = self.recency.trace(windows, items_ID)
        reading, rows_BW = read(windows, self.network.reader.window, items_ID)
        with torch.enable_grad():
            inputs = [sums_BD.detach().requires_grad_(), reading.items_BWD.requires_grad_()]
            departure_BD = self.network(inputs[0], reading, _length_columns(windows, sums_BD))

        def pull_back(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
            by_sums_BD, by_items_BWD = self.keep(departure_BD, inputs, gradient_BD)
            gradient_ID.index_add_(0, rows_BW[reading.filled_BW], by_items_BWD[reading.filled_BW])
            pull_sums_back(gradient_BD + by_sums_BD, gradient_ID)

        return Encoded(sums_BD + departure_BD.detach(), pull_back)

    def keep(self, output: Tensor, inputs: list[Tensor], gradient: Tensor | None) -> list[Tensor]:
        """The gradients by `inputs`; those by the network's parameters are kept until `step`."""
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(output, [*inputs, *parameters], gradient, materialize_grads=True)
        for kept, more in zip(self.layers.gradients.values(), gradients[len(inputs) :], strict=True):
            kept += more
        return list(gradients[: len(inputs)])


def read(windows: Windows, window: int, items_ID: Tensor) -> tuple[Reading, Tensor]:
    """The newest `window` interactions at most, and their item rows (B, W)."""
    device = items_ID.device
    rows_BW, gaps_BW, kinds_BW = (
        torch.from_numpy(np.ascontiguousarray(part[:, :window], dtype=np.int64)).to(device)
        for part in (windows.items_BW, windows.gaps_BW, windows.kinds_BW)
    )
    filled_BW = rows_BW >= 0
    items_BWD = items_ID.new_zeros((*rows_BW.shape, items_ID.shape[1]))
    items_BWD[filled_BW] = items_ID[rows_BW[filled_BW]]  # CPU-GPU sync point
    return Reading(items_BWD, gaps_BW, kinds_BW, filled_BW), rows_BW


def _length_columns(windows: Windows, like: Tensor) -> Tensor:
    """The bucket of each history's length as columns of 0 and 1 (B, LENGTH_BUCKETS)."""
    lengths_B = torch.from_numpy(windows.lengths_B).to(like.device, torch.int64)
    return nn.functional.one_hot(lengths_B, LENGTH_BUCKETS).to(like)


def fill(network: nn.Module, name: str, seed: int) -> None:
    """First values, a function of seed and names alone: matrices normal with variance 1 / inputs, biases zero.

    Embeddings start small beside the items', norms as no change.
    """
    with torch.no_grad():
        for path, module in network.named_modules():
            for part, value in module.named_parameters(recurse=False):
                if value.dim() == 1:
                    nn.init.constant_(value, float(isinstance(module, nn.LayerNorm) and part == "weight"))
                    continue
                spread = 0.1 if isinstance(module, nn.Embedding) else (value.numel() / len(value)) ** -0.5
                value.copy_(torch.from_numpy(_normal(f"{name}.{path}.{part}", seed, tuple(value.shape), spread)))


def _normal(name: str, seed: int, shape: tuple[int, ...], spread: float) -> NDArray[np.float32]:
    return normal_rows(name, seed, 0, shape[0], int(np.prod(shape[1:])), spread).reshape(shape)
