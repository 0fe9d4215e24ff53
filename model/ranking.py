"""The ranking head: which item next? A user vector against all item embeddings, learned by softmax cross-entropy.

    score of item i = user . item_i + bias_i + popularity * log(count_i + 1/2) + together * feature_i  (+ repeat)

One table of item embeddings serves twice, as the history that makes the user and as the candidates. Counts and the
co-occurrence feature are live; embeddings, biases and the weights of the mix (one for each bucket of the history's
length) move once a batch. Where the user's seen items stay candidates, `repeat` is a learned bias by their age.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import RankedBatch
from model.content import Content
from model.cooccurrence import ALL_ITEMS, Cooccurrence, Features, no_features
from model.encoders.interface import Encoder
from model.growth import grown
from model.kernels.cooccurrence import NOT_TOGETHER, Together, Wanted
from model.kernels.rank import rank_few
from model.kernels.softmax import NO_CANDIDATE, combine_and_rank, soften
from model.losses import softmax_loss
from model.ranking_parameters import REPEAT_AGES, RankingParameters, Stepped
from model.sampled import SampledSoftmax
from model.scores import add_entries, as_rows, as_tensor, entries_of, log_counts, repeats_of
from model.user_content import Said, with_said
from model.windows import Windows

SCORES_AT_ONCE = 1 << 24
"""Most scores held at a time, in numbers: 64 MB of float32."""
FEW_EVENTS = 64
"""Up to so many events of a batch are ranked one by one."""


@dataclass(frozen=True)
class RankingRates:
    optimizer: str = "adagrad"
    rate: float = 0.1
    mix_rate: float = 0.1
    """Of the small parameters that steer the mix."""
    spread: float = 0.1
    """Standard deviation of a new item's embedding."""
    full_softmax_items: int = 4096
    """Up to this many items every candidate is a negative; beyond it, `negatives` are sampled for each batch."""
    negatives: int = 64
    """Negatives of an event."""
    drawn_an_event: float = 2.0
    """Negatives drawn for each event of a step, all of which share them out among themselves."""


class Turn(NamedTuple):
    """What a batch gave."""

    ranks_B: NDArray[np.float64]
    """Rank of each event's item, from 0; NaN where it was not known, or where no ranks were asked for."""
    loss: float
    """Sum of the losses of the gradient step; not finite where it was refused."""
    refused: str | None
    """Why no weight was changed, where loss or gradient was not finite."""
    losses_B: NDArray[np.float64] | None = None
    """The loss of each event, times its weight; None where nothing was learned."""


class ScoreParts(NamedTuple):
    """Scores (U, I) in parts: users . vectors + biases + popularity * log(count + 1/2) + extras + co-occurrence."""

    users_UD: Tensor
    vectors_ID: Tensor
    biases_I: Tensor
    popularity_U: NDArray[np.float32]
    starts_U: NDArray[np.int64]
    """Extras of user u are those from `starts_U[u]` to `starts_U[u + 1]`; those of one item add up."""
    items_E: NDArray[np.int32]
    values_E: NDArray[np.float32]
    weights_U: NDArray[np.float32]
    """An extra is its value times its user's weight."""
    together: Together


class RankingHead:
    """Ranks and learns items. Parameters live on `device`; what comes in and out is numpy."""

    def __init__(
        self,
        width: int,
        encoder: Encoder,
        cooccurrence: Cooccurrence | None,
        rates: RankingRates,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.rates = rates
        self.device = device
        self.parameters = RankingParameters(
            width,
            encoder,
            cooccurrence,
            optimizer=rates.optimizer,
            rate=rates.rate,
            mix_rate=rates.mix_rate,
            spread=rates.spread,
            seed=seed,
            device=device,
            dtype=dtype,
        )
        self.encoder, self.cooccurrence, self.moved = encoder, cooccurrence, self.parameters.moved
        self.items, self.biases, self.mix = self.parameters.items, self.parameters.biases, self.parameters.mix
        self.sampled = SampledSoftmax(seed, rates.negatives, rates.drawn_an_event, device=device)
        self._log_count_C: NDArray[np.floating] = np.zeros(0)
        self._row_I: NDArray[np.floating] = np.zeros(0)

    @property
    def content(self) -> Content | None:
        """What the catalogue says of items; None as long as there is no catalogue."""
        return self.parameters.content

    def let_go(self, items_N: NDArray[np.int64], counts_N: NDArray[np.int64], total_before: int, step: int) -> None:
        """Let these rows be new items', after this step. They had these counts, of a sum of `total_before`."""
        self.parameters.let_go(items_N, step)
        self.sampled.let_go(items_N, counts_N, total_before)

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `RankingParameters.state` returned."""
        self.parameters.load(state)
        self.sampled.restart()

    def observe(self, batch: RankedBatch, step: int, *, ranks: bool | NDArray[np.bool_] = True) -> Features:
        """What co-occurrence says at each event of the batch, with everything earlier counted; then counts it.

        `step` and `ranks` as in `rank_then_learn`, which has to follow. In larger catalogues an event that is not to
        be ranked has the features of its own item and of its negatives only.
        """
        is_sampled, events = batch.found.items > self.rates.full_softmax_items, len(batch.items_B)
        if is_sampled:
            self.sampled.follow(batch)
        if self.cooccurrence is None:
            return no_features(events)
        wanted = ALL_ITEMS
        if is_sampled:
            sample = self.sampled.draw(batch, step)
            wanted = Wanted(sample.samples, sample.drawn_N, _for_each(ranks, events))
        self.parameters.changed.add(self.cooccurrence.moved_by(batch.found))
        return self.cooccurrence.features_then_count(batch.found, wanted)

    def score_parts(
        self, windows: Windows, count_I: NDArray[np.int64], *, allow_repeats: bool, said: Said | None = None
    ) -> ScoreParts:
        """What `model.scores.all_scores` adds up, for a scan that need not write all of them."""
        vectors_ID = self.parameters.vectors(count_I)
        mix = {name: value.cpu().numpy().astype(np.float32) for name, value in self.mix.values.items()}
        lengths_U, together = windows.lengths_B, NOT_TOGETHER
        if self.cooccurrence is not None:
            together = self.cooccurrence.together(windows, count_I, mix["together"][lengths_U])
        events, ages, items_E = repeats_of(windows if allow_repeats else windows[:0])
        return ScoreParts(
            self.parameters.users(windows, vectors_ID, said),
            vectors_ID,
            self.biases.values[:, 0],
            mix["popularity"][lengths_U],
            np.searchsorted(events, np.arange(len(windows) + 1)).astype(np.int64),
            items_E,
            mix["repeat"][ages],
            np.ones(len(windows), dtype=np.float32),
            together,
        )

    def rank_then_learn(
        self,
        batch: RankedBatch,
        features: Features,
        weights_B: NDArray[np.float64],
        step: int,
        *,
        ranks: bool | NDArray[np.bool_] = True,
    ) -> Turn:
        """Rank each event's item, then take one gradient step on the batch.

        Unknown items have no loss yet. `ranks` says which events are to be ranked; others may be where that is free.
        A step whose loss or gradient is not finite is refused, not raised: weights, mix and optimisers stay, and the
        next batch is met as if this one had had no weights.
        """
        weights_B = np.where(batch.found.known_B, weights_B, 0.0)
        learns = bool(weights_B.any())
        events_R = np.flatnonzero(_for_each(ranks, len(weights_B)))
        if batch.found.items <= self.rates.full_softmax_items:
            if not (len(events_R) or learns):
                return Turn(np.full(len(weights_B), np.nan), 0.0, None)
            return self._from_all(batch, features, weights_B, step, learns=learns)
        ranks_B = self._rank(batch, features, events_R)
        if not learns:
            return Turn(ranks_B, 0.0, None)
        return Turn(ranks_B, *self._learn_from_sample(batch, features, weights_B, step))

    # --- the full softmax ---

    def _from_all(
        self, batch: RankedBatch, features: Features, weights_B: NDArray[np.float64], step: int, *, learns: bool
    ) -> Turn:
        windows, items_ID = batch.found.windows, self.parameters.vectors(batch.found.count_I)
        users_BD, pull_back = with_said(batch.said, self.encoder.trace(windows, items_ID))
        scores_BI = users_BD @ items_ID.T
        turn = self._on_cpu if self.device.type == "cpu" else self._anywhere
        ranks_B, losses_B = turn(batch, features, scores_BI, weights_B, learns=learns)
        if not learns:
            return Turn(ranks_B, 0.0, None)
        gradient_BI = scores_BI
        gradient_ID = gradient_BI.T @ users_BD
        pull_back(gradient_BI @ items_ID, gradient_ID)
        by_biases_I1 = gradient_BI.sum(0)[:, None]
        return Turn(ranks_B, *self.parameters.step(None, losses_B, gradient_ID, by_biases_I1, step, batch))

    def _on_cpu(
        self,
        batch: RankedBatch,
        features: Features,
        scores_BI: Tensor,
        weights_B: NDArray[np.float64],
        *,
        learns: bool,
    ) -> tuple[NDArray[np.float64], Tensor]:
        """Ranks (B,) and losses (B,); `scores_BI`, user . item on entry, becomes the gradient of the losses by it."""
        live, windows = self._live_on_cpu(batch), batch.found.windows
        log_count_I = live.log_count_I.copy()
        ranks_B = self._rank_on_cpu(live, batch, features, scores_BI, np.arange(len(weights_B)), 0)
        losses_B = np.zeros(len(weights_B))
        if learns:
            scores = scores_BI.numpy()
            bits_I = np.empty(scores.shape[1], dtype=np.int32)
            by = {name: gradient.numpy() for name, gradient in self.mix.gradients.items()}
            soften(
                scores,
                batch.items_B,
                weights_B.astype(scores.dtype),
                batch.enters_B,
                windows.lengths_B,
                log_count_I,
                live.log_after_B,
                features.starts_B,
                features.items_E,
                features.values_E,
                windows.items_BW,
                bits_I,
                bits_I.view(np.float32),
                losses_B,
                by["popularity"],
                by["together"],
                by["repeat"][: live.repeats],
            )
        return ranks_B, torch.from_numpy(losses_B)

    def _live_on_cpu(self, batch: RankedBatch) -> "_Live":
        """What the events of a batch find of the items, before the first one."""
        found, bias_I = batch.found, self.biases.values[:, 0].numpy()
        return _Live(
            base_I=np.where(found.known_I, bias_I, np.array(NO_CANDIDATE, dtype=bias_I.dtype)),
            bias_I=bias_I,
            log_count_I=np.log(found.count_I + 0.5).astype(bias_I.dtype),
            log_after_B=np.log(found.counts_B + 1.5).astype(bias_I.dtype),
            repeats=min(REPEAT_AGES, found.windows.items_BW.shape[1]) if batch.allow_repeats else 0,
        )

    def _rank_on_cpu(
        self,
        live: "_Live",
        batch: RankedBatch,
        features: Features,
        scores_RI: Tensor,
        events_R: NDArray[np.int64],
        first: int,
    ) -> NDArray[np.float64]:
        """Ranks of these events, ascending; `live`, as event `first` finds it, follows to behind the last of them."""
        found, past = batch.found, int(events_R[-1]) + 1
        span = slice(first, past)
        rows_B, ranks_B = np.full(past - first, -1, dtype=np.int64), np.empty(past - first)
        rows_B[events_R - first] = np.arange(len(events_R))
        combine_and_rank(
            scores_RI.numpy(),
            rows_B,
            batch.items_B[span],
            batch.enters_B[span],
            found.windows.lengths_B[span],
            live.base_I,
            live.bias_I,
            live.log_count_I,
            live.log_after_B[span],
            self.mix["popularity"].numpy(),
            features.starts_B[first : past + 1],
            features.items_E,
            features.values_E,
            self.mix["together"].numpy(),
            found.windows.items_BW[span],
            self.mix["repeat"][: live.repeats].numpy(),
            not batch.allow_repeats,
            batch.seen.pool,
            found.seen_start_B[span],
            found.seen_length_B[span],
            ranks_B,
        )
        return ranks_B[events_R - first]

    def _anywhere(
        self,
        batch: RankedBatch,
        features: Features,
        scores_BI: Tensor,
        weights_B: NDArray[np.float64],
        *,
        learns: bool,
        rows: NDArray[np.int64] | slice = slice(None),
    ) -> tuple[NDArray[np.float64], Tensor]:
        """The plain torch twin of `_on_cpu`, for GPUs; `features` and `scores_BI` are of these rows of the batch."""
        targets_B, lengths_B = self._rows(batch.items_B[rows]), self._rows(batch.found.windows.lengths_B[rows])
        windows = batch.found.windows[rows]
        log_counts_I, mentioned_M, log_counts_BM = self._live_log_counts(batch, rows, scores_BI.dtype)
        popularity_B1 = self.mix["popularity"][lengths_B, None]
        # whole scores instead of added differences: equal counts must tie, however the batch was cut
        live_BM = scores_BI[:, mentioned_M] + (self.biases.values[mentioned_M, 0] + popularity_B1 * log_counts_BM)
        scores_BI += self.biases.values[:, 0] + popularity_B1 * log_counts_I
        scores_BI[:, mentioned_M] = live_BM
        add_entries(scores_BI, self.mix, windows, features, allow_repeats=batch.allow_repeats)
        everything_I = np.arange(scores_BI.shape[1])
        for events, items in (batch.not_candidates(everything_I, rows), batch.not_yet_known(rows)):
            scores_BI[self._rows(events), self._rows(items)] = -torch.inf
        scores_BI.masked_fill_(self._on_device(batch.never_known()), -torch.inf)
        ranks_B = _ranks(scores_BI, targets_B)
        ranks_B[~batch.found.known_B[rows]] = np.nan
        if not learns:
            return ranks_B, scores_BI.new_zeros(len(scores_BI))
        losses_B, gradient_BI = softmax_loss(scores_BI, targets_B, self._on_device(weights_B[rows]).to(scores_BI))
        scores_BI.copy_(gradient_BI)
        by_popularity_B = gradient_BI @ log_counts_I
        by_popularity_B += (gradient_BI[:, mentioned_M] * (log_counts_BM - log_counts_I[mentioned_M])).sum(1)
        self.mix.gradients["popularity"].index_add_(0, lengths_B, by_popularity_B)
        events_E, items_E, values_E = entries_of(features, scores_BI)
        by_feature_E = gradient_BI[events_E, items_E] * values_E
        self.mix.gradients["together"].index_add_(0, lengths_B[events_E], by_feature_E)
        if batch.allow_repeats:
            events, ages, items = repeats_of(windows)
            by_repeat = gradient_BI[self._rows(events), self._rows(items)]
            self.mix.gradients["repeat"].index_add_(0, self._rows(ages), by_repeat)
        return ranks_B, losses_B

    # --- larger catalogues: rank in pieces, learn by sampled softmax ---

    def _rank(self, batch: RankedBatch, features: Features, events_R: NDArray[np.int64]) -> NDArray[np.float64]:
        """Ranks (B,) of these events, ascending; NaN elsewhere."""
        ranks_B = np.full(len(batch.items_B), np.nan)
        events_R = events_R[batch.found.known_B[events_R]]
        if not len(events_R):
            return ranks_B
        on_cpu = self.device.type == "cpu"
        if on_cpu and len(events_R) <= FEW_EVENTS:
            self._rank_few(batch, features, events_R, ranks_B)
            return ranks_B
        items_ID, nothing_B = self.parameters.vectors(batch.found.count_I), np.zeros(len(batch.items_B))
        live, first = self._live_on_cpu(batch) if on_cpu else None, 0
        for rows in _chunks(len(events_R), batch.found.items):
            events = events_R[rows]
            said = None if batch.said is None else batch.said.of_events(events)
            scores_RI = self.parameters.users(batch.found.windows[events], items_ID, said) @ items_ID.T
            if live is not None:
                ranks_B[events] = self._rank_on_cpu(live, batch, features, scores_RI, events, first)
                first = int(events[-1]) + 1
                continue
            some = features.of_events(events)
            ranks_B[events] = self._anywhere(batch, some, scores_RI, nothing_B, learns=False, rows=events)[0]
        return ranks_B

    def _rank_few(
        self, batch: RankedBatch, features: Features, events_R: NDArray[np.int64], ranks_B: NDArray[np.float64]
    ) -> None:
        """Fill the ranks of these events of known items, ascending, one by one: nothing is done for the batch."""
        found = batch.found
        items_ID = self.items.values if self.content is None else self.parameters.vectors(found.count_I)
        said = None if batch.said is None else batch.said.of_events(events_R)
        users_RD = self.parameters.users(found.windows[events_R], items_ID, said)
        values = items_ID.numpy()
        highest = len(found.now.items_with_count)
        if len(self._log_count_C) < highest or self._log_count_C.dtype != values.dtype:
            self._log_count_C = np.log(np.arange(2 * highest) + 0.5).astype(values.dtype)
        self._row_I = grown(self._row_I.astype(values.dtype, copy=False), found.items)
        repeats = min(REPEAT_AGES, found.windows.items_BW.shape[1]) if batch.allow_repeats else 0
        rank_few(
            events_R,
            users_RD.numpy(),
            values,
            self.biases.values.numpy(),
            batch.items_B,
            batch.enters_B,
            found.known_B,
            found.windows.lengths_B,
            found.now.known_I[: found.items],
            found.now.count_I[: found.items],
            self._log_count_C,
            self.mix.arrays["popularity"],
            features.starts_B,
            features.items_E,
            features.values_E,
            self.mix.arrays["together"],
            found.windows.items_BW,
            self.mix.arrays["repeat"][:repeats],
            not batch.allow_repeats,
            batch.seen.pool,
            found.seen_start_B,
            found.seen_length_B,
            self._row_I,
            ranks_B,
        )

    def _learn_from_sample(
        self, batch: RankedBatch, features: Features, weights_B: NDArray[np.float64], step: int
    ) -> Stepped:
        """One step by the batch's own items against shared negatives; touches no more than the rows it reads."""
        gradients = self.sampled.gradients(
            batch,
            features,
            weights_B,
            step,
            items=self.items,
            biases=self.biases,
            content=self.content,
            encoder=self.encoder,
            mix=self.mix,
        )
        rows_T, by_biases_T1 = gradients.rows_T, gradients.by_biases_T[:, None]
        return self.parameters.step(rows_T, gradients.losses_B, gradients.by_items_TD, by_biases_T1, step, batch)

    def _live_log_counts(
        self, batch: RankedBatch, rows: slice | NDArray[np.int64], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log counts at the batch's start (I,); the mentioned items (M,) and theirs as each event found them (B, M)."""
        at_start_I = log_counts(self._on_device(batch.found.count_I), dtype)
        counts_BM = self._on_device(batch.mentions.counts_BM[rows])
        return at_start_I, self._rows(batch.mentions.items_M), log_counts(counts_BM, dtype)

    def _rows(self, rows: NDArray[np.integer]) -> Tensor:
        return as_rows(rows, self.device)

    def _on_device(self, array: NDArray[np.generic]) -> Tensor:
        return as_tensor(array, self.device)


@dataclass(frozen=True)
class _Live:
    """What events find of the items, on the CPU; moves with them."""

    base_I: NDArray[np.floating]
    """Biases of known items, NO_CANDIDATE for others."""
    bias_I: NDArray[np.floating]
    log_count_I: NDArray[np.floating]
    log_after_B: NDArray[np.floating]
    """Of each event's item, with the event counted."""
    repeats: int
    """Ages that have a repeat bias here."""


def _for_each(ranks: bool | NDArray[np.bool_], events: int) -> NDArray[np.bool_]:
    return ranks if isinstance(ranks, np.ndarray) else np.full(events, ranks)


def _ranks(scores_BI: Tensor, targets_B: Tensor) -> NDArray[np.float64]:
    """Number of better candidates + half the ties (whole part); a NaN score ranks behind every candidate."""
    own_B1 = scores_BI.gather(1, targets_B[:, None])
    holds_BI = torch.empty_like(scores_BI)  # ones and zeros as floats: a sum of booleans takes several times as long
    better_B = torch.gt(scores_BI, own_B1, out=holds_BI).sum(1)
    ties_B = torch.eq(scores_BI, own_B1, out=holds_BI).sum(1) - 1
    last_B = torch.ne(scores_BI, -torch.inf, out=holds_BI).sum(1) - 1
    ranks_B = torch.where(own_B1[:, 0].isnan(), last_B, better_B + torch.div(ties_B, 2, rounding_mode="floor"))
    return ranks_B.double().cpu().numpy()  # CPU-GPU sync point


def _chunks(events: int, items: int) -> list[slice]:
    size = max(1, SCORES_AT_ONCE // max(items, 1))
    return [slice(start, min(start + size, events)) for start in range(0, events, size)]
