"""The ranking head: which item next? A user vector against all item embeddings, learned by softmax cross-entropy.

    score of item i = user . item_i + bias_i + weight * log(count_i + 1/2)

One table of item embeddings serves twice, as the history that makes the user and as the candidates. The count is
live; embeddings, biases and the weight of popularity move once a batch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.encoders.interface import Encoder
from model.history import SeenItems
from model.live import Found
from model.losses import softmax_loss
from model.negatives import draw_negatives
from model.optimizers import make_optimizer
from model.tables import Table

SCORES_AT_ONCE = 1 << 24
"""Most scores held at a time, in numbers: 64 MB of float32."""


@dataclass(frozen=True)
class RankingRates:
    optimizer: str = "adagrad"
    rate: float = 0.1
    popularity_rate: float = 0.01
    spread: float = 0.1
    """Standard deviation of a new item's embedding."""
    full_softmax_items: int = 4096
    """Up to this many items every candidate is a negative; beyond it, `negatives` are sampled for each batch."""
    negatives: int = 512


class RankingHead:
    """Scores, ranks and learns items. Parameters live on `device`; what comes in and out is numpy."""

    def __init__(
        self, width: int, encoder: Encoder, rates: RankingRates, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.encoder = encoder
        self.rates = rates
        self.device = device
        self._seed = seed
        self.items = Table("items", width, spread=rates.spread, seed=seed, device=device, dtype=dtype)
        self.biases = Table("item biases", 1, spread=0, seed=seed, device=device, dtype=dtype)
        self.popularity = Table("popularity", 1, spread=0, seed=seed, device=device, dtype=dtype)
        self.popularity.grow(1)
        self.popularity.values.fill_(1.0)
        self._optimizers = {
            table.name: make_optimizer(rates.optimizer, table, rate)
            for table, rate in (
                (self.items, rates.rate),
                (self.biases, rates.rate),
                (self.popularity, rates.popularity_rate),
            )
        }

    def grow(self, items: int) -> None:
        self.items.grow(items)
        self.biases.grow(items)

    def scores(self, windows_UW: NDArray[np.int32], count_I: NDArray[np.int64]) -> Tensor:
        """Scores (U, I) of every item row for users with these last items; nothing is left out yet."""
        users_UD = self.encoder.encode(self._rows(windows_UW), self.items.values)
        log_counts_I = _log_counts(self._on_device(count_I), self.items.values.dtype)
        return torch.addmm(self._offsets(slice(None), log_counts_I), users_UD, self.items.values.T)

    def rank(self, batch: "RankedBatch") -> NDArray[np.float64]:
        """Rank, from 0, of each event's item among its candidates; NaN where the item was not known."""
        ranks = [
            _ranks(self._candidate_scores(batch, rows), self._rows(batch.items_B[rows]))
            for rows in _chunks(len(batch.items_B), len(batch.found.count_I))
        ]
        ranks_B = np.concatenate(ranks) if ranks else np.zeros(0)
        ranks_B[~batch.found.known_B] = np.nan
        return ranks_B

    def learn(self, batch: "RankedBatch", weights_B: NDArray[np.float64], step: int) -> float:
        """One gradient step on the shared parameters; returns the summed loss. Unknown items have no loss yet.

        FloatingPointError when the loss is not finite: nothing was changed then.
        """
        weights_B = np.where(batch.found.known_B, weights_B, 0.0)
        if not weights_B.any():
            return 0.0
        if len(batch.found.count_I) <= self.rates.full_softmax_items:
            return self._learn_from_all(batch, self._on_device(weights_B), step)
        return self._learn_from_sample(batch, self._on_device(weights_B), step)

    def rank_then_learn(
        self, batch: "RankedBatch", weights_B: NDArray[np.float64], step: int
    ) -> tuple[NDArray[np.float64], float]:
        """`rank`, then `learn`, from one set of scores where the catalogue allows it."""
        if len(batch.found.count_I) > self.rates.full_softmax_items:
            return self.rank(batch), self.learn(batch, weights_B, step)
        weights_B = np.where(batch.found.known_B, weights_B, 0.0)
        scores_BI = self._candidate_scores(batch, slice(None))
        ranks_B = _ranks(scores_BI, self._rows(batch.items_B))
        ranks_B[~batch.found.known_B] = np.nan
        if not weights_B.any():
            return ranks_B, 0.0
        return ranks_B, self._learn_from_all(batch, self._on_device(weights_B), step, scores_BI)

    # --- the full softmax ---

    def _learn_from_all(
        self, batch: "RankedBatch", weights_B: Tensor, step: int, scores_BI: Tensor | None = None
    ) -> float:
        if scores_BI is None:
            scores_BI = self._candidate_scores(batch, slice(None))
        losses_B, gradient_BI = softmax_loss(scores_BI, self._rows(batch.items_B), weights_B.to(scores_BI))
        windows_BW = self._rows(batch.found.windows_BW)
        items_ID = self.items.values
        users_BD = self.encoder.encode(windows_BW, items_ID)
        gradient_ID = gradient_BI.T @ users_BD
        self.encoder.pull_back(windows_BW, gradient_BI @ items_ID, gradient_ID)
        loss = self._finite_loss(losses_B, gradient_ID, step)
        gradient_I = gradient_BI.sum(0)
        log_counts_I = _log_counts(self._on_device(batch.found.count_I), gradient_I.dtype)
        mentioned_M, log_counts_BM = self._live_log_counts(batch, slice(None))
        rose_BM = log_counts_BM - log_counts_I[mentioned_M]
        of_popularity = gradient_I @ log_counts_I + (gradient_BI[:, mentioned_M] * rose_BM).sum()
        self._optimizers["items"].step(None, gradient_ID)
        self._optimizers["item biases"].step(None, gradient_I[:, None])
        self._optimizers["popularity"].step(None, of_popularity.reshape(1, 1))
        return loss

    # --- the sampled softmax ---

    def _learn_from_sample(self, batch: "RankedBatch", weights_B: Tensor, step: int) -> float:
        found = batch.found
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, step])))
        drawn_N, log_share_N = draw_negatives(found.known_I, found.count_I, self.rates.negatives, generator)
        drawn, log_share = self._rows(drawn_N), self._on_device(log_share_N)
        items_ID = self.items.values
        windows_BW, targets_B = self._rows(found.windows_BW), self._rows(batch.items_B)
        users_BD = self.encoder.encode(windows_BW, items_ID)
        own_log_counts_B, log_counts_BN = self._log_counts_of_sample(batch, drawn_N)
        biases_I, popularity = self.biases.values[:, 0], self.popularity.values[0, 0]
        own_B = (users_BD * items_ID[targets_B]).sum(-1) + biases_I[targets_B] + popularity * own_log_counts_B
        others_BN = users_BD @ items_ID[drawn].T + biases_I[drawn] + popularity * log_counts_BN
        others_BN -= log_share.to(items_ID)
        place_I = np.full(len(found.count_I), -1, dtype=np.int64)
        place_I[drawn_N] = np.arange(len(drawn_N))
        rows, columns = batch.not_candidates(place_I)
        others_BN[self._rows(rows), self._rows(columns)] = -torch.inf
        own_place_B = self._rows(place_I[batch.items_B])
        hit_B = torch.nonzero(own_place_B >= 0)[:, 0]
        others_BN[hit_B, own_place_B[hit_B]] = -torch.inf

        logits_BC = torch.cat((own_B[:, None], others_BN), 1)
        losses_B, gradient_BC = softmax_loss(logits_BC, torch.zeros_like(targets_B), weights_B.to(logits_BC))
        own_gradient_B, gradient_BN = gradient_BC[:, 0], gradient_BC[:, 1:]
        gradient_ID = torch.zeros_like(items_ID)
        gradient_ID.index_add_(0, targets_B, own_gradient_B[:, None] * users_BD)
        gradient_ID.index_add_(0, drawn, gradient_BN.T @ users_BD)
        by_users_BD = own_gradient_B[:, None] * items_ID[targets_B] + gradient_BN @ items_ID[drawn]
        self.encoder.pull_back(windows_BW, by_users_BD, gradient_ID)
        gradient_I = items_ID.new_zeros(len(items_ID))
        gradient_I.index_add_(0, targets_B, own_gradient_B)
        gradient_I.index_add_(0, drawn, gradient_BN.sum(0))
        touched = _distinct(torch.cat((targets_B, drawn, windows_BW[windows_BW >= 0])))
        touched_gradient = gradient_ID[touched]
        loss = self._finite_loss(losses_B, touched_gradient, step)
        of_popularity = own_gradient_B @ own_log_counts_B + (gradient_BN * log_counts_BN).sum()
        self._optimizers["popularity"].step(None, of_popularity.reshape(1, 1))
        self._optimizers["items"].step(touched, touched_gradient)
        self._optimizers["item biases"].step(touched, gradient_I[touched, None])
        return loss

    def _log_counts_of_sample(self, batch: "RankedBatch", drawn_N: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Log counts as each event found them: of its own item (B,), of the drawn ones (B, N)."""
        _, log_counts_BM = self._live_log_counts(batch, slice(None))
        own_log_counts_B = log_counts_BM.gather(1, self._rows(batch.mentions.of_event_B)[:, None])[:, 0]
        at_start_N = _log_counts(self._on_device(batch.found.count_I[drawn_N]), log_counts_BM.dtype)
        log_counts_BN = at_start_N.repeat(len(batch.items_B), 1)
        _, places, columns = np.intersect1d(drawn_N, batch.mentions.items_M, assume_unique=True, return_indices=True)
        log_counts_BN[:, self._rows(places)] = log_counts_BM[:, self._rows(columns)]
        return own_log_counts_B, log_counts_BN

    def _finite_loss(self, losses_B: Tensor, gradient: Tensor, step: int) -> float:
        loss, square = torch.stack((losses_B.sum(), gradient.square().sum())).tolist()  # CPU-GPU sync point
        if not np.isfinite(loss + square):
            raise FloatingPointError(
                f"step {step}: the ranking loss is {loss}, the square of its gradient {square}; weights were not "
                f"changed. Lower the learning rate (now {self.rates.rate}) or the weights of actions"
            )
        return float(loss)

    # --- scores ---

    def _offsets(self, items: Tensor | slice, log_counts: Tensor) -> Tensor:
        """What an item scores whoever the user is; log counts (I,) or, of these items, (B, M)."""
        return self.biases.values[items, 0] + self.popularity.values[0, 0] * log_counts

    def _live_log_counts(self, batch: "RankedBatch", rows: slice) -> tuple[Tensor, Tensor]:
        """The items that the batch mentions (M,), and their log counts as each of these events found them (B, M)."""
        counts_BM = self._on_device(batch.mentions.counts_BM[rows])
        return self._rows(batch.mentions.items_M), _log_counts(counts_BM, self.items.values.dtype)

    def _candidate_scores(self, batch: "RankedBatch", rows: slice) -> Tensor:
        """Scores (B, I) with the counts as each event found them, -inf where an item is no candidate for the event."""
        found = batch.found
        users_BD = self.encoder.encode(self._rows(found.windows_BW[rows]), self.items.values)
        scores_BI = users_BD @ self.items.values.T
        mentioned_M, log_counts_BM = self._live_log_counts(batch, rows)
        live_BM = self._offsets(mentioned_M, log_counts_BM) + scores_BI[:, mentioned_M]
        # whole scores instead of added differences: equal counts must tie, however the batch was cut
        scores_BI += self._offsets(slice(None), _log_counts(self._on_device(found.count_I), scores_BI.dtype))
        scores_BI[:, mentioned_M] = live_BM
        everything_I = np.arange(len(found.count_I))
        for places in (batch.not_candidates(everything_I, rows), batch.not_yet_known(rows)):
            scores_BI[self._rows(places[0]), self._rows(places[1])] = -torch.inf
        unknown_I = ~found.known_I
        unknown_I[batch.items_B] = False  # those of the batch are settled event by event above
        scores_BI[:, self._on_device(unknown_I)] = -torch.inf
        return scores_BI

    def _rows(self, rows: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.device)

    def _on_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    # --- keeping ---

    def state(self) -> dict[str, Tensor]:
        tables = {table.name: table.values for table in (self.items, self.biases, self.popularity)}
        for name, optimizer in self._optimizers.items():
            tables.update({f"{name}.{part}": value for part, value in optimizer.state().items()})
        return tables

    def load(self, state: dict[str, Tensor]) -> None:
        for table in (self.items, self.biases, self.popularity):
            table.load(state[table.name].numpy())
            prefix = f"{table.name}."
            kept = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            self._optimizers[table.name].load(kept)


@dataclass(frozen=True)
class Mentions:
    """The items that the events of a batch are about, and what their counts were before each event."""

    items_M: NDArray[np.int64]
    of_event_B: NDArray[np.int64]
    """Place of each event's item in `items_M`."""
    counts_BM: NDArray[np.int64]


@dataclass(frozen=True)
class RankedBatch:
    """The events of a batch that are ranked or learned, with what they found."""

    items_B: NDArray[np.int64]
    enters_B: NDArray[np.bool_]
    found: Found
    seen: SeenItems
    allow_repeats: bool

    @cached_property
    def mentions(self) -> Mentions:
        items_M, of_event_B = np.unique(self.items_B, return_inverse=True)
        counts_BM = np.zeros((len(self.items_B) + 1, len(items_M)), dtype=np.int64)
        counts_BM[0] = self.found.count_I[items_M]
        counts_BM[np.arange(len(self.items_B)) + 1, of_event_B] += self.enters_B
        return Mentions(items_M, of_event_B, np.cumsum(counts_BM, axis=0)[:-1])

    def not_candidates(
        self, place_I: NDArray[np.int64], rows: slice = slice(None)
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(event, place) pairs of the items each user had seen, where the item has a place; never the event's own."""
        if self.allow_repeats:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        events, items = self.seen.pairs(self.found.seen_start_B[rows], self.found.seen_length_B[rows])
        places = place_I[items]
        counted = (places >= 0) & (items != self.items_B[rows][events])
        return events[counted], places[counted]

    def not_yet_known(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(event, item) pairs of the items that the batch makes known only at a later event, or at this one."""
        new_events = np.flatnonzero(~self.found.known_B)
        new_items, first = np.unique(self.items_B[new_events], return_index=True)
        first_events = new_events[first]
        events_B1 = np.arange(len(self.items_B))[rows][:, None]
        own_BM = self.items_B[rows][:, None] == new_items
        events, columns = np.nonzero((events_B1 <= first_events) & ~own_BM)
        return events, new_items[columns]


def _ranks(scores_BI: Tensor, targets_B: Tensor) -> NDArray[np.float64]:
    """Number of better candidates + half the ties (whole part); a NaN score ranks behind every candidate."""
    own_B1 = scores_BI.gather(1, targets_B[:, None])
    holds_BI = torch.empty_like(scores_BI)  # ones and zeros as floats: a sum of booleans takes several times as long
    better_B = torch.gt(scores_BI, own_B1, out=holds_BI).sum(1)
    ties_B = torch.eq(scores_BI, own_B1, out=holds_BI).sum(1) - 1
    last_B = torch.ne(scores_BI, -torch.inf, out=holds_BI).sum(1) - 1
    ranks_B = torch.where(own_B1[:, 0].isnan(), last_B, better_B + torch.div(ties_B, 2, rounding_mode="floor"))
    return ranks_B.double().cpu().numpy()  # CPU-GPU sync point


def _log_counts(count_I: Tensor, dtype: torch.dtype) -> Tensor:
    return (count_I.to(dtype) + 0.5).log()


def _distinct(rows: Tensor) -> Tensor:
    """The rows without repeats, ascending."""
    distinct: Tensor = torch.unique(rows)
    return distinct


def _chunks(events: int, items: int) -> list[slice]:
    size = max(1, SCORES_AT_ONCE // max(items, 1))
    return [slice(start, min(start + size, events)) for start in range(0, events, size)]
