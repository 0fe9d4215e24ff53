"""The ranking head: which item next? A user vector against all item embeddings, learned by softmax cross-entropy.

    score of item i = user . item_i + bias_i + popularity * log(count_i + 1/2) + together * feature_i  (+ repeat)

One table of item embeddings serves twice, as the history that makes the user and as the candidates. Counts and the
co-occurrence feature are live; embeddings, biases and the weights of the mix (one for each bucket of the history's
length) move once a batch. Where the user's seen items stay candidates, `repeat` is a learned bias by their age.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import RankedBatch
from model.content import Content
from model.cooccurrence import Cooccurrence, Features, no_features
from model.encoders.interface import Encoder
from model.kernels.softmax import NO_CANDIDATE, combine_and_rank, soften
from model.losses import softmax_loss
from model.moved import MovedRows
from model.negatives import draw_negatives
from model.optimizers import make_optimizer
from model.small import SmallParameters
from model.tables import Table
from model.windows import LENGTH_BUCKETS, Windows

SCORES_AT_ONCE = 1 << 24
"""Most scores held at a time, in numbers: 64 MB of float32."""
REPEAT_AGES = 20
"""Ages of the items in a window that have a repeat bias."""


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
    negatives: int = 512


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
    """Scores (U, I) in parts: users . vectors + biases + popularity * log(count + 1/2) + extras."""

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


class RankingHead:
    """Scores, ranks and learns items. Parameters live on `device`; what comes in and out is numpy."""

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
        self.encoder = encoder
        self.cooccurrence = cooccurrence
        self.rates = rates
        self.content: Content | None = None
        """What the catalogue says of items, on top of their embeddings; None as long as there is no catalogue."""
        self.device = device
        self.moved = MovedRows()
        """Items whose vector, bias or count moved; what content adds is not followed."""
        self._seed = seed
        self.items = Table("items", width, spread=rates.spread, seed=seed, device=device, dtype=dtype)
        self.biases = Table("item biases", 1, spread=0, seed=seed, device=device, dtype=dtype)
        ones_L = torch.ones(LENGTH_BUCKETS, device=device, dtype=dtype)
        self.mix = SmallParameters(
            {"popularity": ones_L, "together": ones_L.clone(), "repeat": ones_L.new_zeros(REPEAT_AGES)}, rates.mix_rate
        )
        self._optimizers = {
            table.name: make_optimizer(rates.optimizer, table, rates.rate) for table in (self.items, self.biases)
        }

    def grow(self, items: int) -> None:
        self.items.grow(items)
        self.biases.grow(items)
        if self.cooccurrence is not None:
            self.cooccurrence.grow(items)

    def set_pace(self, pace: float) -> None:
        """From now on items and biases move at `pace` times their rate."""
        for optimizer in self._optimizers.values():
            optimizer.rate = self.rates.rate * pace

    def fade(self, keep: float) -> None:
        """Old evidence counts `keep` of what it did: pairs, and the gradients gathered of items and biases."""
        for optimizer in self._optimizers.values():
            optimizer.fade(keep)
        if self.cooccurrence is not None:
            self.cooccurrence.fade(keep)

    def observe(self, batch: RankedBatch) -> Features:
        """What co-occurrence says at each event of the batch, with everything earlier counted; then counts it."""
        self.moved.add(batch.items_B)
        if self.cooccurrence is None:
            return no_features(len(batch.items_B))
        found = batch.found
        return self.cooccurrence.features_then_count(
            found.windows, found.full_items_BW, batch.items_B, batch.enters_B, found.count_I
        )

    def scores(self, windows: Windows, count_I: NDArray[np.int64], *, allow_repeats: bool) -> Tensor:
        """Scores (U, I) of every item row for users with these windows; nothing is left out yet."""
        features = no_features(len(windows))
        if self.cooccurrence is not None:
            features = self.cooccurrence.features(windows, count_I)
        items_ID = self._vectors(count_I)
        scores_UI = self.encoder.encode(windows, items_ID) @ items_ID.T
        lengths_U = self._rows(windows.lengths_B)
        log_counts_I = _log_counts(self._on_device(count_I), scores_UI.dtype)
        scores_UI += self.biases.values[:, 0] + self.mix["popularity"][lengths_U, None] * log_counts_I
        self._add_entries(scores_UI, windows, features, allow_repeats=allow_repeats)
        return scores_UI

    def score_parts(self, windows: Windows, count_I: NDArray[np.int64], *, allow_repeats: bool) -> "ScoreParts":
        """What `scores` adds up, for a scan that need not write all of them."""
        features = no_features(len(windows))
        if self.cooccurrence is not None:
            features = self.cooccurrence.features(windows, count_I)
        vectors_ID = self._vectors(count_I)
        mix = {name: value.cpu().numpy().astype(np.float32) for name, value in self.mix.values.items()}
        starts_U, items_E, values_E = features.starts_B, features.items_E, features.values_E
        weights_U = mix["together"][windows.lengths_B]
        if allow_repeats:
            events, ages, items = _repeats(windows)
            events_E = np.concatenate((features.events_E, events))
            by_event = np.argsort(events_E, kind="stable")
            items_E = np.concatenate((items_E, items))[by_event]
            extras_E = values_E * np.repeat(weights_U, np.diff(features.starts_B))
            values_E, weights_U = np.concatenate((extras_E, mix["repeat"][ages]))[by_event], np.ones_like(weights_U)
            starts_U = np.searchsorted(events_E[by_event], np.arange(len(windows) + 1)).astype(np.int64)
        return ScoreParts(
            self.encoder.encode(windows, vectors_ID),
            vectors_ID,
            self.biases.values[:, 0],
            mix["popularity"][windows.lengths_B],
            starts_U,
            items_E,
            values_E,
            weights_U,
        )

    def cold_scores(self, windows: Windows, count_I: NDArray[np.int64], vectors_XD: Tensor) -> Tensor:
        """Scores (U, X) of items without an event, by their content vectors alone, beside those of `scores`."""
        scores_UX = self.encoder.encode(windows, self._vectors(count_I)) @ vectors_XD.T
        no_count_1 = _log_counts(torch.zeros(1, device=self.device), scores_UX.dtype)
        return scores_UX + self.mix["popularity"][self._rows(windows.lengths_B), None] * no_count_1

    def rank_then_learn(
        self, batch: RankedBatch, features: Features, weights_B: NDArray[np.float64], step: int, *, ranks: bool = True
    ) -> Turn:
        """Rank each event's item, then take one gradient step on the batch.

        Unknown items have no loss yet. `ranks` False leaves the ranks out where that is cheaper. A step whose loss or
        gradient is not finite is refused, not raised: weights, mix and optimisers stay, and the next batch is met as if
        this one had had no weights.
        """
        weights_B = np.where(batch.found.known_B, weights_B, 0.0)
        learns = bool(weights_B.any())
        no_ranks_B = np.full(len(batch.items_B), np.nan)
        if len(batch.found.count_I) <= self.rates.full_softmax_items:
            if not (ranks or learns):
                return Turn(no_ranks_B, 0.0, None)
            return self._from_all(batch, features, weights_B, step, learns=learns)
        ranks_B = self._rank(batch, features) if ranks else no_ranks_B
        if not learns:
            return Turn(ranks_B, 0.0, None)
        return Turn(ranks_B, *self._learn_from_sample(batch, features, weights_B, step))

    # --- the full softmax ---

    def _from_all(
        self, batch: RankedBatch, features: Features, weights_B: NDArray[np.float64], step: int, *, learns: bool
    ) -> Turn:
        windows, items_ID = batch.found.windows, self._vectors(batch.found.count_I)
        users_BD, pull_back = self.encoder.trace(windows, items_ID)
        scores_BI = users_BD @ items_ID.T
        turn = self._on_cpu if self.device.type == "cpu" else self._anywhere
        ranks_B, losses_B = turn(batch, features, scores_BI, weights_B, learns=learns)
        if not learns:
            return Turn(ranks_B, 0.0, None)
        gradient_BI = scores_BI
        gradient_ID = gradient_BI.T @ users_BD
        pull_back(gradient_BI @ items_ID, gradient_ID)
        return Turn(ranks_B, *self._step(None, losses_B, gradient_ID, gradient_BI.sum(0)[:, None], step, batch))

    def _on_cpu(
        self,
        batch: RankedBatch,
        features: Features,
        scores_BI: Tensor,
        weights_B: NDArray[np.float64],
        *,
        learns: bool,
        rows: slice = slice(None),
    ) -> tuple[NDArray[np.float64], Tensor]:
        """Ranks (B,) and losses (B,); `scores_BI`, user . item on entry, becomes the gradient of the losses by it."""
        found, scores = batch.found, scores_BI.numpy()
        windows, lengths_B = found.windows[rows], found.windows.lengths_B[rows]
        known_I, count_I = batch.before(rows)
        log_count_I = np.log(count_I + 0.5).astype(scores.dtype)
        log_after_B = np.log(found.counts_B[rows] + 1.5).astype(scores.dtype)
        bias_I = self.biases.values[:, 0].numpy()
        base_I = np.where(known_I, bias_I, np.array(NO_CANDIDATE, dtype=scores.dtype))
        mix = {name: value.numpy() for name, value in self.mix.values.items()}
        by = {name: gradient.numpy() for name, gradient in self.mix.gradients.items()}
        repeats = REPEAT_AGES if batch.allow_repeats else 0
        ranks_B, losses_B = np.zeros(len(scores)), np.zeros(len(scores))
        combine_and_rank(
            scores,
            batch.items_B[rows],
            batch.enters_B[rows],
            lengths_B,
            base_I,
            bias_I,
            log_count_I.copy() if learns else log_count_I,
            log_after_B,
            mix["popularity"],
            features.starts_B,
            features.items_E,
            features.values_E,
            mix["together"],
            windows.items_BW,
            mix["repeat"][: min(repeats, windows.items_BW.shape[1])],
            not batch.allow_repeats,
            batch.seen.pool,
            found.seen_start_B[rows],
            found.seen_length_B[rows],
            ranks_B,
        )
        if learns:
            scores_BI.exp_()
            soften(
                scores,
                batch.items_B[rows],
                weights_B[rows].astype(scores.dtype),
                batch.enters_B[rows],
                lengths_B,
                log_count_I,
                log_after_B,
                features.starts_B,
                features.items_E,
                features.values_E,
                windows.items_BW,
                losses_B,
                by["popularity"],
                by["together"],
                by["repeat"][: min(repeats, windows.items_BW.shape[1])],
            )
        return ranks_B, torch.from_numpy(losses_B)

    def _anywhere(
        self,
        batch: RankedBatch,
        features: Features,
        scores_BI: Tensor,
        weights_B: NDArray[np.float64],
        *,
        learns: bool,
        rows: slice = slice(None),
    ) -> tuple[NDArray[np.float64], Tensor]:
        """The plain torch twin of `_on_cpu`, for GPUs."""
        targets_B, lengths_B = self._rows(batch.items_B[rows]), self._rows(batch.found.windows.lengths_B[rows])
        windows = batch.found.windows[rows]
        log_counts_I, mentioned_M, log_counts_BM = self._live_log_counts(batch, rows, scores_BI.dtype)
        popularity_B1 = self.mix["popularity"][lengths_B, None]
        # whole scores instead of added differences: equal counts must tie, however the batch was cut
        live_BM = scores_BI[:, mentioned_M] + (self.biases.values[mentioned_M, 0] + popularity_B1 * log_counts_BM)
        scores_BI += self.biases.values[:, 0] + popularity_B1 * log_counts_I
        scores_BI[:, mentioned_M] = live_BM
        self._add_entries(scores_BI, windows, features, allow_repeats=batch.allow_repeats)
        everything_I = np.arange(scores_BI.shape[1])
        for events, items in (batch.not_candidates(everything_I, rows), batch.not_yet_known(rows)):
            scores_BI[self._rows(events), self._rows(items)] = -torch.inf
        scores_BI[:, self._on_device(batch.never_known())] = -torch.inf
        ranks_B = _ranks(scores_BI, targets_B)
        ranks_B[~batch.found.known_B[rows]] = np.nan
        if not learns:
            return ranks_B, scores_BI.new_zeros(len(scores_BI))
        losses_B, gradient_BI = softmax_loss(scores_BI, targets_B, self._on_device(weights_B[rows]).to(scores_BI))
        scores_BI.copy_(gradient_BI)
        by_popularity_B = gradient_BI @ log_counts_I
        by_popularity_B += (gradient_BI[:, mentioned_M] * (log_counts_BM - log_counts_I[mentioned_M])).sum(1)
        self.mix.gradients["popularity"].index_add_(0, lengths_B, by_popularity_B)
        events_E, items_E, values_E = self._entries(features, scores_BI.dtype)
        by_feature_E = gradient_BI[events_E, items_E] * values_E
        self.mix.gradients["together"].index_add_(0, lengths_B[events_E], by_feature_E)
        if batch.allow_repeats:
            events, ages, items = _repeats(windows)
            by_repeat = gradient_BI[self._rows(events), self._rows(items)]
            self.mix.gradients["repeat"].index_add_(0, self._rows(ages), by_repeat)
        return ranks_B, losses_B

    # --- larger catalogues: rank in pieces, learn by sampled softmax ---

    def _rank(self, batch: RankedBatch, features: Features) -> NDArray[np.float64]:
        turn = self._on_cpu if self.device.type == "cpu" else self._anywhere
        items_ID, nothing_B = self._vectors(batch.found.count_I), np.zeros(len(batch.items_B))
        users_BD = self.encoder.encode(batch.found.windows, items_ID)
        ranks = []
        for rows in _chunks(len(batch.items_B), len(batch.found.count_I)):
            scores_BI = users_BD[rows] @ items_ID.T
            ranks.append(turn(batch, features[rows], scores_BI, nothing_B, learns=False, rows=rows)[0])
        return np.concatenate(ranks)

    def _learn_from_sample(
        self, batch: RankedBatch, features: Features, weights_B: NDArray[np.float64], step: int
    ) -> "_Stepped":
        """One step by the batch's own items against shared negatives; touches no more than the rows it reads."""
        found, sample = batch.found, self._draw(batch, step)
        rows_T = np.unique(np.concatenate((batch.items_B, sample.drawn_N, _in_windows(found.windows))))
        rows, items_TD = self._rows(rows_T), self._vectors(found.count_I, rows_T)
        biases_T = self.biases.values[rows, 0]
        windows = replace(found.windows, items_BW=_places(rows_T, found.windows.items_BW))
        targets_B, drawn = self._rows(_places(rows_T, batch.items_B)), self._rows(_places(rows_T, sample.drawn_N))
        lengths_B = self._rows(windows.lengths_B)
        users_BD, pull_back = self.encoder.trace(windows, items_TD)

        own_log_counts_B, log_counts_BN = self._log_counts_of_sample(batch, sample.drawn_N, items_TD.dtype)
        own_features_B, features_BN = (
            self._on_device(values).to(items_TD)
            for values in features.of_sample(batch.items_B, sample.column_I, len(sample.drawn_N))
        )
        popularity_B, together_B = self.mix["popularity"][lengths_B], self.mix["together"][lengths_B]
        own_B = (users_BD * items_TD[targets_B]).sum(-1) + biases_T[targets_B]
        own_B += popularity_B * own_log_counts_B + together_B * own_features_B
        others_BN = users_BD @ items_TD[drawn].T + biases_T[drawn] - self._on_device(sample.log_share_N).to(items_TD)
        others_BN += popularity_B[:, None] * log_counts_BN + together_B[:, None] * features_BN
        logits_BC = torch.cat((own_B[:, None], others_BN), 1)
        repeats = self._repeats_of_sample(batch, sample)
        logits_BC.index_put_(repeats[:2], self.mix["repeat"][repeats[2]], accumulate=True)
        events, columns = batch.not_candidates(sample.column_I)
        logits_BC[self._rows(events), self._rows(columns + 1)] = -torch.inf
        events = np.flatnonzero(sample.column_I[batch.items_B] >= 0)  # the own item is no rival of itself
        logits_BC[self._rows(events), self._rows(sample.column_I[batch.items_B[events]] + 1)] = -torch.inf

        weights = self._on_device(weights_B).to(logits_BC)
        losses_B, gradient_BC = softmax_loss(logits_BC, torch.zeros_like(targets_B), weights)
        own_gradient_B, gradient_BN = gradient_BC[:, 0], gradient_BC[:, 1:]
        gradient_TD = torch.zeros_like(items_TD)
        gradient_TD.index_add_(0, targets_B, own_gradient_B[:, None] * users_BD)
        gradient_TD.index_add_(0, drawn, gradient_BN.T @ users_BD)
        by_users_BD = own_gradient_B[:, None] * items_TD[targets_B] + gradient_BN @ items_TD[drawn]
        pull_back(by_users_BD, gradient_TD)
        gradient_T = torch.zeros_like(biases_T)
        gradient_T.index_add_(0, targets_B, own_gradient_B)
        gradient_T.index_add_(0, drawn, gradient_BN.sum(0))
        by_popularity_B = own_gradient_B * own_log_counts_B + (gradient_BN * log_counts_BN).sum(1)
        by_together_B = own_gradient_B * own_features_B + (gradient_BN * features_BN).sum(1)
        self.mix.gradients["popularity"].index_add_(0, lengths_B, by_popularity_B)
        self.mix.gradients["together"].index_add_(0, lengths_B, by_together_B)
        self.mix.gradients["repeat"].index_add_(0, repeats[2], gradient_BC[repeats[:2]])
        return self._step(rows, losses_B, gradient_TD, gradient_T[:, None], step, batch)

    def _draw(self, batch: RankedBatch, step: int) -> "_Sample":
        found = batch.found
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, step])))
        drawn_N, log_share_N = draw_negatives(found.known_I, found.count_I, self.rates.negatives, generator)
        column_I = np.full(len(found.count_I), -1, dtype=np.int32)
        column_I[drawn_N] = np.arange(len(drawn_N))
        return _Sample(drawn_N, log_share_N, column_I)

    def _log_counts_of_sample(
        self, batch: RankedBatch, drawn_N: NDArray[np.int64], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Log counts as each event found them: of its own item (B,), of the drawn ones (B, N)."""
        own_log_counts_B = _log_counts(self._on_device(batch.found.counts_B), dtype)
        at_start_N = _log_counts(self._on_device(batch.found.count_I[drawn_N]), dtype)
        log_counts_BN = at_start_N.repeat(len(batch.items_B), 1)
        mentioned = np.flatnonzero(np.isin(drawn_N, batch.items_B))
        counts_BM = batch.live_counts(drawn_N[mentioned])
        log_counts_BN[:, self._rows(mentioned)] = _log_counts(self._on_device(counts_BM), dtype)
        return own_log_counts_B, log_counts_BN

    def _repeats_of_sample(self, batch: RankedBatch, sample: "_Sample") -> tuple[Tensor, Tensor, Tensor]:
        """(event, column of the logits, age) of what has a repeat bias: the own item in column 0, the drawn ones."""
        nothing = np.zeros(0, dtype=np.int64)
        events, ages, items = _repeats(batch.found.windows) if batch.allow_repeats else (nothing, nothing, nothing)
        is_own, columns = items == batch.items_B[events], sample.column_I[items]
        is_drawn = (columns >= 0) & ~is_own
        return (
            self._rows(np.concatenate((events[is_own], events[is_drawn]))),
            self._rows(np.concatenate((columns[is_own] * 0, columns[is_drawn] + 1))),
            self._rows(np.concatenate((ages[is_own], ages[is_drawn]))),
        )

    # --- the step ---

    def _step(
        self,
        rows: Tensor | None,
        losses_B: Tensor,
        gradient: Tensor,
        bias_gradient: Tensor,
        step: int,
        batch: RankedBatch,
    ) -> "_Stepped":
        """Move everything against its gradient (these rows of the tables, or all), or nothing."""
        small = (*self.mix.gradients.values(), *self.encoder.gradients().values())
        squares = torch.stack([one.square().sum() for one in (gradient, bias_gradient, *small)])
        loss, square = float(losses_B.sum()), float(squares.sum())  # CPU-GPU sync points
        each_B = losses_B.double().cpu().numpy()  # CPU-GPU sync point
        if not np.isfinite(loss + square):
            self.mix.drop_gradients()
            self.encoder.drop_gradients()
            why = (
                f"step {step}: the ranking loss is {loss}, the square of its gradient {square}; no weight was "
                f"changed. Lower the learning rate (now {self.rates.rate}) or the weights of actions"
            )
            return _Stepped(loss, why, np.where(np.isfinite(each_B), each_B, np.nan))
        if self.content is not None:
            self.content.learn(rows, gradient, batch.found.count_I, len(batch.items_B))
        self.moved.add(rows.numpy() if rows is not None and rows.device.type == "cpu" else None)
        self._optimizers["items"].step(rows, gradient)
        self._optimizers["item biases"].step(rows, bias_gradient)
        self.mix.step()
        self.encoder.step()
        return _Stepped(loss, None, each_B)

    # --- parts of scores ---

    def _vectors(self, count_I: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> Tensor:
        """The vectors of these items, or of all: embeddings, and content on top of those with few events."""
        values = self.items.values if rows is None else self.items.values[self._rows(rows)]
        if self.content is None:
            return values
        return self.content.on_top(values, np.arange(len(values)) if rows is None else rows, count_I)

    def _add_entries(self, scores_BI: Tensor, windows: Windows, features: Features, *, allow_repeats: bool) -> None:
        """Add what only some items have: the co-occurrence feature and, where repeats are allowed, their bias."""
        lengths_B = self._rows(windows.lengths_B)
        events_E, items_E, values_E = self._entries(features, scores_BI.dtype)
        added_E = self.mix["together"][lengths_B[events_E]] * values_E
        scores_BI.index_put_((events_E, items_E), added_E, accumulate=True)
        if allow_repeats:
            events, ages, items = _repeats(windows)
            at = (self._rows(events), self._rows(items))
            scores_BI.index_put_(at, self.mix["repeat"][self._rows(ages)], accumulate=True)

    def _entries(self, features: Features, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        values_E = self._on_device(features.values_E).to(dtype)
        return self._rows(features.events_E), self._rows(features.items_E), values_E

    def _live_log_counts(self, batch: RankedBatch, rows: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Log counts at the batch's start (I,); the mentioned items (M,) and theirs as each event found them (B, M)."""
        at_start_I = _log_counts(self._on_device(batch.found.count_I), dtype)
        counts_BM = self._on_device(batch.mentions.counts_BM[rows])
        return at_start_I, self._rows(batch.mentions.items_M), _log_counts(counts_BM, dtype)

    def _rows(self, rows: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.device)

    def _on_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    # --- keeping ---

    def state(self) -> dict[str, Tensor]:
        tables = {table.name: table.values for table in (self.items, self.biases)}
        for name, optimizer in self._optimizers.items():
            tables.update({f"{name}.{part}": value for part, value in optimizer.state().items()})
        tables.update({f"mix.{name}": value for name, value in self.mix.state().items()})
        tables.update({f"encoder.{name}": value for name, value in self.encoder.state().items()})
        if self.cooccurrence is not None:
            pairs = self.cooccurrence.state()
            tables.update({f"pairs.{name}": torch.from_numpy(np.array(value)) for name, value in pairs.items()})
        return tables

    def load(self, state: dict[str, Tensor]) -> None:
        self.moved.add(None)
        for table in (self.items, self.biases):
            table.load(state[table.name].numpy())
            self._optimizers[table.name].load(_under(state, f"{table.name}."))
        self.mix.load(_under(state, "mix."))
        self.encoder.load(_under(state, "encoder."))
        if self.cooccurrence is not None:
            self.cooccurrence.load({name: value.numpy() for name, value in _under(state, "pairs.").items()})


class _Stepped(NamedTuple):
    loss: float
    refused: str | None
    losses_B: NDArray[np.float64]


class _Sample(NamedTuple):
    drawn_N: NDArray[np.int64]
    """Distinct known items, ascending."""
    log_share_N: NDArray[np.float64]
    column_I: NDArray[np.int32]
    """Place of each item among the drawn ones, -1 where it is not."""


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


def _in_windows(windows: Windows) -> NDArray[np.int64]:
    """The items of the windows, without repeats."""
    return np.unique(windows.items_BW[windows.items_BW >= 0]).astype(np.int64)


def _places(rows_T: NDArray[np.int64], items: NDArray[np.integer]) -> NDArray[np.int32]:
    """Where items stand among distinct ascending rows; -1 stays."""
    return np.where(items >= 0, np.searchsorted(rows_T, items), -1).astype(np.int32)


def _chunks(events: int, items: int) -> list[slice]:
    size = max(1, SCORES_AT_ONCE // max(items, 1))
    return [slice(start, min(start + size, events)) for start in range(0, events, size)]


def _repeats(windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """(event, age, item) of the newest interactions of each window."""
    newest = windows.items_BW[:, :REPEAT_AGES]
    events, ages = np.nonzero(newest >= 0)
    return events, ages, newest[events, ages]


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
