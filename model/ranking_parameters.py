"""What the ranking head learns, and how it moves: item embeddings and biases, the mix, the encoder, and pairs.

Nothing here is known of scores or ranks: a step is handed its gradients.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import RankedBatch
from model.content import Content
from model.cooccurrence import Cooccurrence, Features, no_features
from model.encoders.interface import Encoder
from model.moved import MovedRows
from model.optimizers import make_optimizer
from model.ragged import Part
from model.small import SmallParameters
from model.state import on_cpu, under
from model.tables import Table
from model.user_content import Said
from model.windows import LENGTH_BUCKETS, Windows

REPEAT_AGES = 20
"""Ages of the items in a window that have a repeat bias."""


class Stepped(NamedTuple):
    """What a gradient step gave."""

    loss: float
    """Sum of the losses; not finite where the step was refused."""
    refused: str | None
    """Why no weight was changed, where loss or gradient was not finite."""
    losses_B: NDArray[np.float64]
    """The loss of each event, times its weight."""


class RankingParameters:
    """All on one device, a row an item; what comes in and out by rows is numpy."""

    def __init__(
        self,
        width: int,
        encoder: Encoder,
        cooccurrence: Cooccurrence | None,
        *,
        optimizer: str,
        rate: float,
        mix_rate: float,
        spread: float,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`optimizer` and `rate` are those of items and biases, `spread` as in `RankingRates`."""
        self.encoder = encoder
        self.cooccurrence = cooccurrence
        self.content: Content | None = None
        """What the catalogue says of items, on top of their embeddings; None as long as there is no catalogue."""
        self.moved = MovedRows()
        """Items whose vector, bias or count moved."""
        self.changed = MovedRows(1 << 20)  # a large step counts pairs of many items, some of them over and over
        """Those of them whose parameters, pairs or count changed: the others only have other contents."""
        self.items = Table("items", width, spread=spread, seed=seed, device=device, dtype=dtype)
        self.biases = Table("item biases", 1, spread=0, seed=seed, device=device, dtype=dtype)
        ones_L = torch.ones(LENGTH_BUCKETS, device=device, dtype=dtype)
        self.mix = SmallParameters(
            {"popularity": ones_L, "together": ones_L.clone(), "repeat": ones_L.new_zeros(REPEAT_AGES)}, mix_rate
        )
        self.optimizers = {table.name: make_optimizer(optimizer, table, rate) for table in (self.items, self.biases)}
        self._rate = rate
        self._device = device

    # --- what scores are made of ---

    def vectors(self, count_I: NDArray[np.int64]) -> Tensor:
        """The vectors of all items: embeddings, and content on top of those with few events."""
        return self.items.values if self.content is None else self.content.of_all(self.items.values, count_I)

    def users(self, windows: Windows, items_ID: Tensor, said: Said | None) -> Tensor:
        """The vectors of users with these windows, and what is said of them on top."""
        users_UD = self.encoder.encode(windows, items_ID)
        return users_UD if said is None else said.on_top(users_UD)

    def features(self, windows: Windows, count_I: NDArray[np.int64]) -> Features:
        """What co-occurrence says of items to users with these windows now."""
        if self.cooccurrence is None:
            return no_features(len(windows))
        return self.cooccurrence.features(windows, count_I)

    # --- rows that come and go ---

    def grow(self, items: int) -> None:
        self.items.grow(items)
        self.biases.grow(items)
        if self.cooccurrence is not None:
            self.cooccurrence.grow(items)

    def let_go(self, items_N: NDArray[np.int64], step: int) -> None:
        """Let these rows be new items', after this step."""
        rows_N = torch.from_numpy(items_N).to(self._device, non_blocking=True)
        for table in (self.items, self.biases):
            table.renew(items_N, step)
            self.optimizers[table.name].reset(rows_N)
        if self.cooccurrence is not None:
            self.cooccurrence.let_go(items_N)
        self.note_changed(items_N)

    # --- how they move ---

    def note_changed(self, items_N: NDArray[np.int64] | None) -> None:
        """Parameters or counts of these items changed; None: of any."""
        self.moved.add(items_N)
        self.changed.add(items_N)

    def set_pace(self, pace: float) -> None:
        """From now on items and biases move at `pace` times their rate."""
        for optimizer in self.optimizers.values():
            optimizer.rate = self._rate * pace

    def fade(self, keep: float) -> None:
        """Old evidence counts `keep` of what it did: pairs, and the gradients gathered of items and biases."""
        for optimizer in self.optimizers.values():
            optimizer.fade(keep)
        if self.cooccurrence is not None:
            self.cooccurrence.fade(keep)
        self.changed.add(None)

    def step(
        self,
        rows_T: NDArray[np.int64] | None,
        losses_B: Tensor,
        gradient: Tensor,
        bias_gradient: Tensor,
        number: int,
        batch: RankedBatch,
    ) -> Stepped:
        """Move everything against its gradient (these rows of the tables, or all), or nothing."""
        said = () if batch.said is None else batch.said.gradients()
        squares = [_square(part) for part in (gradient, bias_gradient, *said)]
        squares += [self.mix.gathered_square(), self.encoder.gathered_square()]
        loss, square, each_B = _on_host(losses_B, squares)  # CPU-GPU sync point: here it is decided whether to move
        if not np.isfinite(loss + square):
            self.mix.drop_gradients()
            self.encoder.drop_gradients()
            why = (
                f"step {number}: the ranking loss is {loss}, the square of its gradient {square}; no weight was "
                f"changed. Lower the learning rate (now {self._rate}) or the weights of actions"
            )
            return Stepped(loss, why, np.where(np.isfinite(each_B), each_B, np.nan))
        self.note_changed(rows_T)
        rows = None if rows_T is None else torch.from_numpy(rows_T).to(self._device, non_blocking=True)
        if self.content is not None:
            self.content.learn(rows, gradient, batch.found.count_I, len(batch.items_B))
        if batch.said is not None:
            batch.said.step()
        self.optimizers["items"].step(rows, gradient)
        self.optimizers["item biases"].step(rows, bias_gradient)
        self.mix.step()
        self.encoder.step()
        return Stepped(loss, None, each_B)

    # --- keeping ---

    def parts(self) -> dict[str, Part]:
        """Of all but content, whose state is its own. Views, where they lie on the CPU."""
        small = {f"mix.{name}": value for name, value in self.mix.state().items()}
        small.update({f"encoder.{name}": value for name, value in self.encoder.state().items()})
        return {**self.item_parts(), **{name: on_cpu(value) for name, value in small.items()}}

    def item_parts(self) -> dict[str, Part]:
        """Those that have a row an item."""
        tables = {table.name: table.values for table in (self.items, self.biases)}
        for name, optimizer in self.optimizers.items():
            tables.update({f"{name}.{part}": value for part, value in optimizer.state().items()})
        pairs = {} if self.cooccurrence is None else self.cooccurrence.parts()
        return {
            **{name: on_cpu(value) for name, value in tables.items()},
            **{f"pairs.{name}": part for name, part in pairs.items()},
        }

    def load(self, state: dict[str, Tensor]) -> None:
        self.moved.add(None)
        for table in (self.items, self.biases):
            table.load(state[table.name].numpy())
            self.optimizers[table.name].load(under(state, f"{table.name}."))
        self.mix.load(under(state, "mix."))
        self.encoder.load(under(state, "encoder."))
        if self.cooccurrence is not None:
            self.cooccurrence.load({name: value.numpy() for name, value in under(state, "pairs.").items()})


def _on_host(losses_B: Tensor, squares: list[Tensor]) -> tuple[float, float, NDArray[np.float64]]:
    """The sum of the losses, the square of the gradient, and each loss: from a GPU in one transfer."""
    if losses_B.device.type == "cpu":
        return float(losses_B.sum()), sum(map(float, squares)), losses_B.double().numpy()
    square_1 = sum(squares, losses_B.new_zeros(()))
    told = torch.cat([part.double().reshape(-1) for part in (losses_B.sum(), square_1, losses_B)]).cpu().numpy()
    return float(told[0]), float(told[1]), told[2:]


def _square(gradient: Tensor) -> Tensor:
    """Sum of the squares, without a copy of their size."""
    flat = gradient.reshape(-1)
    return torch.dot(flat, flat)
