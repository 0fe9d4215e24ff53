"""The sampled softmax, for catalogues too large for the full one: a step that reads and moves only the rows it needs.

The classes of an event are its own item and a sample of negatives that it shares with the events next to it
(`model.negatives`). The rows of a step are numbered by first mention and gathered into one small table, on which
everything happens; what a step costs does not depend on the size of the catalogue. On the CPU its middle is compiled
(`model.kernels.sample`); `_soften_anywhere` is the same in plain torch, for GPUs.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import RankedBatch
from model.content import Content
from model.cooccurrence import Features
from model.encoders.interface import Encoder
from model.growth import grown, room_for
from model.kernels.sample import collect_rows, describe_samples, gather_rows, room_to_soften, soften_samples
from model.losses import softmax_loss
from model.negatives import Negatives
from model.small import SmallParameters
from model.tables import Table
from model.user_content import with_said
from model.windows import Windows

Ints = NDArray[np.int64]


class Gradients(NamedTuple):
    """What a step means for the T rows that it read: not to be kept, the next step writes over them."""

    rows_T: Ints
    """Distinct item rows."""
    losses_B: Tensor
    by_items_TD: Tensor
    by_biases_T: Tensor


class Sample(NamedTuple):
    """The drawn items of a batch, and where each item's row stands in the small table: the drawn ones come first."""

    samples: int
    """The drawn items fall into so many samples of equal size; event b has sample b modulo this number."""
    drawn_N: Ints
    log_share_N: NDArray[np.float64]
    """Log of the probability that an item is in an event's sample."""
    rows_T: Ints
    places_B: Ints
    windows: Windows
    """The batch's, by places instead of rows."""


class SampledSoftmax:
    """Gradients by samples; keeps nothing that a saved state would need."""

    def __init__(self, seed: int, size: int, drawn_an_event: float, *, device: torch.device) -> None:
        self.negatives = Negatives()
        self.size = size
        self.drawn_an_event = drawn_an_event
        self.device = device
        self._seed = seed
        self._bits = np.random.Philox(key=0)
        self._numbers = np.random.Generator(self._bits)
        self._room_I = np.zeros(0, dtype=np.int32)
        self._rooms: dict[str, Tensor] = {}
        self._drawn: tuple[RankedBatch, int, Sample] | None = None

    def gradients(
        self,
        batch: RankedBatch,
        features: Features,
        weights_B: NDArray[np.float64],
        step: int,
        *,
        items: Table,
        biases: Table,
        content: Content | None,
        encoder: Encoder,
        mix: SmallParameters,
    ) -> Gradients:
        """Losses of the events and gradients of their sum; those of `encoder` and `mix` are kept with these.

        The samples are a function of seed, `step` and the counts.
        """
        sample, self._drawn = self.draw(batch, step), None
        items_TD, biases_T = self._gathered(sample.rows_T, items.values, biases.values)
        if content is not None:
            items_TD = content.on_top(items_TD, sample.rows_T, batch.found.count_I)
        users_BD, pull_back = with_said(batch.said, encoder.trace(sample.windows, items_TD))
        by_items_TD = self._rows_of("gradient", len(items_TD), items_TD).zero_()
        by_biases_T = torch.zeros_like(biases_T)
        soften = self._soften if self.device.type == "cpu" else self._soften_anywhere
        losses_B, by_users_BD = soften(
            batch, features, weights_B, sample, mix, users_BD, items_TD, biases_T, by_items_TD, by_biases_T
        )
        pull_back(by_users_BD, by_items_TD)
        return Gradients(sample.rows_T, losses_B, by_items_TD, by_biases_T)

    def draw(self, batch: RankedBatch, step: int) -> Sample:
        """The samples of a batch, the same where they are asked for again; `follow` has to come first."""
        if self._drawn is not None and self._drawn[0] is batch and self._drawn[1] == step:
            return self._drawn[2]
        found, events = batch.found, len(batch.items_B)
        number = max(self.size, round(events * self.drawn_an_event))
        new_items_X = batch.items_B[~found.known_B]
        known_I, count_I = found.now.known_I[: found.items], found.now.count_I[: found.items]
        drawn_N, log_share_N = self.negatives.draw(number, known_I, count_I, new_items_X, self._generator(step))
        samples = min(max(len(drawn_N) // max(self.size, 1), 1), events)
        size = min(len(drawn_N), self.size)
        # in random order they come, so that a part of them is a sample too
        log_share_N = log_share_N[: samples * size] + np.log(size / max(len(drawn_N), 1) or 1.0)
        drawn_N = drawn_N[: samples * size]
        self._room_I = grown(self._room_I, found.items, fill=-1)
        windows_BW = found.windows.items_BW
        rows_T = np.empty(len(drawn_N) + windows_BW.size + events, dtype=np.int64)
        places_B, places_BW = np.empty(events, dtype=np.int64), np.empty_like(windows_BW)
        rows = collect_rows(drawn_N, batch.items_B, windows_BW, self._room_I, rows_T, places_B, places_BW)
        by_place = Windows(places_BW, found.windows.gaps_BW, found.windows.kinds_BW, found.windows.lengths_B)
        sample = Sample(samples, drawn_N, log_share_N, rows_T[:rows], places_B, by_place)
        self._drawn = (batch, step, sample)
        return sample

    def _generator(self, step: int) -> np.random.Generator:
        """Philox (Salmon et al. 2011) under the key (seed, step), set back to its start: a new one takes longer."""
        none = np.zeros(4, dtype=np.uint64)
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {"counter": none, "key": np.array([self._seed, step], dtype=np.uint64)},
            "buffer": none,
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._numbers

    def follow(self, batch: RankedBatch) -> None:
        """Take in what the events of a batch did to the counts."""
        found = batch.found
        self.negatives.follow(batch.items_B, batch.enters_B, found.now.count_I[: found.items], found.total)

    def let_go(self, items_N: Ints, counts_N: Ints, total_before: int) -> None:
        """See `Negatives.let_go`."""
        self.negatives.let_go(items_N, counts_N, total_before)

    def restart(self) -> None:
        """Trust nothing that was followed: the counts are others now."""
        self.negatives.restart()

    def _soften(
        self,
        batch: RankedBatch,
        features: Features,
        weights_B: NDArray[np.float64],
        sample: Sample,
        mix: SmallParameters,
        users_BD: Tensor,
        items_TD: Tensor,
        biases_T: Tensor,
        by_items_TD: Tensor,
        by_biases_T: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and gradients by users (B, D); those by items and biases are added."""
        found, windows = batch.found, batch.found.windows
        users = users_BD.numpy()
        by_users_BD = np.empty_like(users)
        losses_B, size = np.zeros(len(users)), len(sample.drawn_N) // sample.samples
        ages = min(len(mix.arrays["repeat"]), windows.items_BW.shape[1]) if batch.allow_repeats else 0
        values, by = mix.arrays, mix.gradient_arrays
        soften_samples(
            users,
            items_TD.numpy(),
            biases_T.numpy(),
            sample.samples,
            sample.drawn_N,
            sample.log_share_N,
            batch.items_B,
            sample.places_B,
            weights_B.astype(users.dtype),
            batch.enters_B,
            found.counts_B,
            windows.lengths_B,
            self._counts_before(batch, sample),
            values["popularity"],
            features.starts_B,
            features.items_E,
            features.values_E,
            values["together"],
            windows.items_BW,
            values["repeat"][:ages],
            not batch.allow_repeats,
            batch.seen.pool,
            found.seen_start_B,
            found.seen_length_B,
            self._room_I,
            losses_B,
            by_users_BD,
            by_items_TD.numpy(),
            by_biases_T.numpy(),
            by["popularity"],
            by["together"],
            by["repeat"][:ages],
            *room_to_soften(len(users), sample.samples, size, users.shape[1], users.dtype),
        )
        return torch.from_numpy(losses_B), torch.from_numpy(by_users_BD)

    def _soften_anywhere(
        self,
        batch: RankedBatch,
        features: Features,
        weights_B: NDArray[np.float64],
        sample: Sample,
        mix: SmallParameters,
        users_BD: Tensor,
        items_TD: Tensor,
        biases_T: Tensor,
        by_items_TD: Tensor,
        by_biases_T: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The plain torch twin of `_soften`, for GPUs."""
        windows, drawn_KCD, drawn = batch.found.windows, _by_sample(items_TD, sample), len(sample.drawn_N)
        size = drawn_KCD.shape[1]
        places_B, lengths_B = self._on_device(sample.places_B), self._on_device(windows.lengths_B).long()
        counts_B, counts_BC, features_B, features_BC, hidden_BC = self._described(batch, features, sample, users_BD)
        of_event_B = torch.arange(len(users_BD), device=self.device) % sample.samples
        popularity_B, together_B = mix["popularity"][lengths_B], mix["together"][lengths_B]
        base_N = biases_T[:drawn] - self._on_device(sample.log_share_N).to(biases_T)

        own_B = (users_BD * items_TD[places_B]).sum(-1) + biases_T[places_B]
        own_B += popularity_B * counts_B + together_B * features_B
        products_KEC = torch.bmm(self._dealt(users_BD, sample), drawn_KCD.transpose(1, 2))
        others_BC = self._in_order(products_KEC, len(users_BD)) + base_N.view(sample.samples, size)[of_event_B]
        others_BC += popularity_B[:, None] * counts_BC + together_B[:, None] * features_BC
        logits_BX = torch.cat((own_B[:, None], others_BC), 1)
        at, ages = self._repeats(batch, sample, size, len(mix["repeat"]))
        logits_BX.index_put_(at, mix["repeat"][ages], accumulate=True)
        logits_BX[:, 1:].masked_fill_(hidden_BC, -torch.inf)

        weights = self._on_device(weights_B).to(logits_BX)
        losses_B, gradient_BX = softmax_loss(logits_BX, torch.zeros_like(places_B), weights)
        own_gradient_B, gradient_BC = gradient_BX[:, 0], gradient_BX[:, 1:]
        by_popularity_B = own_gradient_B * counts_B + (gradient_BC * counts_BC).sum(1)
        by_together_B = own_gradient_B * features_B + (gradient_BC * features_BC).sum(1)
        mix.gradients["popularity"].index_add_(0, lengths_B, by_popularity_B)
        mix.gradients["together"].index_add_(0, lengths_B, by_together_B)
        mix.gradients["repeat"].index_add_(0, ages, gradient_BX[at])
        gradient_KEC = self._dealt(gradient_BC, sample)
        by_biases_T[:drawn] += gradient_KEC.sum(1).flatten()
        by_biases_T.index_add_(0, places_B, own_gradient_B)
        by_drawn_KCD = torch.bmm(gradient_KEC.transpose(1, 2), self._dealt(users_BD, sample))
        by_items_TD[:drawn] += by_drawn_KCD.flatten(0, 1)
        by_items_TD.index_add_(0, places_B, own_gradient_B[:, None] * users_BD)
        by_users_BD = self._in_order(torch.bmm(gradient_KEC, drawn_KCD), len(users_BD))
        return losses_B, by_users_BD + own_gradient_B[:, None] * items_TD[places_B]

    def _described(
        self, batch: RankedBatch, features: Features, sample: Sample, like: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Log counts of the own items (B,) and the samples (B, C), features likewise, and who is no class (B, C)."""
        found, shape = batch.found, (len(batch.items_B), len(sample.drawn_N) // sample.samples)
        counts_BC, hidden_BC = np.empty(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        features_B, features_BC = np.zeros(shape[0], dtype=np.float32), np.zeros(shape, dtype=np.float32)
        describe_samples(
            sample.samples,
            sample.drawn_N,
            batch.items_B,
            sample.places_B,
            batch.enters_B,
            self._counts_before(batch, sample),
            features.starts_B,
            features.items_E,
            features.values_E,
            not batch.allow_repeats,
            batch.seen.pool,
            found.seen_start_B,
            found.seen_length_B,
            self._room_I,
            counts_BC,
            features_B,
            features_BC,
            hidden_BC,
        )
        log_B, log_BC = ((self._on_device(counts).to(like) + 0.5).log() for counts in (found.counts_B, counts_BC))
        of_own, of_sample = (self._on_device(values).to(like) for values in (features_B, features_BC))
        return log_B, log_BC, of_own, of_sample, self._on_device(hidden_BC)

    def _repeats(
        self, batch: RankedBatch, sample: Sample, size: int, most: int
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Where in the logits (event, column; the own item's is 0) a repeat bias counts, and of what age."""
        places_BW = sample.windows.items_BW[:, : most if batch.allow_repeats else 0]
        events, ages = np.nonzero(places_BW >= 0)
        places = places_BW[events, ages]
        columns = places - (events % sample.samples) * size + 1
        is_own = places == sample.places_B[events]
        is_drawn = (places < len(sample.drawn_N)) & (columns >= 1) & (columns <= size) & ~is_own
        columns[is_own] = 0
        chosen = is_own | is_drawn
        events_E, columns_E, ages_E = (self._on_device(rows[chosen]).long() for rows in (events, columns, ages))
        return (events_E, columns_E), ages_E

    @staticmethod
    def _in_order(rows_KEX: Tensor, events: int) -> Tensor:
        """The way back from `_dealt`."""
        return rows_KEX.transpose(0, 1).flatten(0, 1)[:events]

    def _on_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)

    @staticmethod
    def _dealt(users_BD: Tensor, sample: Sample) -> Tensor:
        """The users by sample (K, E, D), zeros behind the last one."""
        spare = -len(users_BD) % sample.samples
        if spare:
            users_BD = torch.cat((users_BD, users_BD.new_zeros((spare, users_BD.shape[1]))))
        events_each = len(users_BD) // sample.samples
        return users_BD.view(events_each, sample.samples, users_BD.shape[1]).transpose(0, 1)

    @staticmethod
    def _counts_before(batch: RankedBatch, sample: Sample) -> Ints:
        """Counts (N,) of the drawn items as of the batch's start."""
        count_N = batch.found.now.count_I[sample.drawn_N]
        drawn_B = sample.places_B[batch.enters_B]
        np.subtract.at(count_N, drawn_B[drawn_B < len(count_N)], 1)
        return count_N

    def _gathered(self, rows_T: Ints, values_ID: Tensor, biases_I1: Tensor) -> tuple[Tensor, Tensor]:
        """These rows of the tables (T, D) and (T,)."""
        if self.device.type != "cpu":
            rows = torch.from_numpy(rows_T).to(self.device, non_blocking=True)
            return values_ID.index_select(0, rows), biases_I1[:, 0].index_select(0, rows)
        items_TD = self._rows_of("items", len(rows_T), values_ID)
        biases_T = self._rows_of("biases", len(rows_T), biases_I1).view(-1)
        gather_rows(values_ID.numpy(), biases_I1.numpy(), rows_T, items_TD.numpy(), biases_T.numpy())
        return items_TD, biases_T

    def _rows_of(self, name: str, rows: int, like: Tensor) -> Tensor:
        """Rows to write to, in memory that every step uses again: fresh pages would cost as much as the arithmetic."""
        room = self._rooms.get(name)
        if room is None or len(room) < rows or room.dtype != like.dtype:
            room = self._rooms[name] = like.new_empty((room_for(rows, 0) * 2, like.shape[1]))
        return room[:rows]


def _by_sample(rows_TD: Tensor, sample: Sample) -> Tensor:
    """Of rows the drawn ones, by sample (K, C, D): a view."""
    drawn = len(sample.drawn_N)
    return rows_TD[:drawn].view(sample.samples, drawn // sample.samples, rows_TD.shape[1])
