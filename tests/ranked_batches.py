"""A ranking head, and a batch for it that meets what earlier batches left: as the model has it, and in plain words."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from plain_live import PlainLive
from plain_ranking import PlainPairs

from model.batches import RankedBatch
from model.cooccurrence import Cooccurrence, CooccurrenceSettings, Features
from model.encoders.dnn import DnnEncoder
from model.encoders.recency import RecencyEncoder
from model.live import LiveState
from model.ranking import RankingHead, RankingRates

USERS, ITEMS, WIDTH, WINDOW, HIDDEN = 5, 14, 6, 4, 3
WIDTHS = [WIDTH, 27]
"""Kernels take 16 columns at once, then 8, then one by one."""
PAIRS = CooccurrenceSettings(neighbours=6, read=3, pairs=3)
DOWNHILL = RankingRates(optimizer="sgd", rate=1.0)
"""At rate 1 plain gradient descent moves the tables by minus their gradients."""
SAMPLED_RATES = replace(DOWNHILL, full_softmax_items=0, negatives=3, drawn_an_event=0.2)
CPU = torch.device("cpu")


class Words(NamedTuple):
    """An event as plain Python sees it."""

    window: object
    own: int
    counts: dict
    """Candidates with their counts; of the own item None where it is not known."""
    features: dict


class Given(NamedTuple):
    head: RankingHead
    batch: RankedBatch
    features: Features
    weights: np.ndarray
    words: list


def make_head(rates=DOWNHILL, dtype=torch.float64, seed=2, pairs=PAIRS, width=WIDTH):
    """A head with something in every parameter."""
    recency = RecencyEncoder(width, WINDOW, rate=0.1, device=CPU, dtype=dtype)
    encoder = DnnEncoder(recency, width, HIDDEN, rate=0.01, seed=1, device=CPU, dtype=dtype)
    head = RankingHead(width, encoder, Cooccurrence(pairs), rates, seed=1, device=CPU, dtype=dtype)
    head.parameters.grow(ITEMS)
    generator = torch.Generator().manual_seed(seed)
    filled = [head.items.values, head.biases.values, *head.mix.values.values()]
    for value in [*filled, *encoder.layers.values.values(), *recency.small.values.values()]:
        value += 0.5 * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(dtype)
    return head


def make_batch(
    seed,
    *,
    allow_repeats=False,
    only_known=False,
    rates=DOWNHILL,
    dtype=torch.float64,
    size=25,
    ranks=True,
    width=WIDTH,
):
    """The third of three batches; one item is never met."""
    draw = np.random.default_rng(seed)
    head, live = make_head(rates, dtype, width=width), LiveState(depth=8, most_seen=100)
    plain, pairs = PlainLive(depth=8, most_seen=100, window=WINDOW, allow_repeats=allow_repeats), PlainPairs(PAIRS)
    live.grow(USERS, ITEMS)
    for turn in range(3):
        users, items = draw.integers(USERS, size=size), draw.integers(ITEMS - 1, size=size)
        if turn < 2:
            items = np.minimum(items, ITEMS - 4)  # so that the last batch meets some for the first time
        if only_known and turn == 2:
            items = draw.choice(list(plain.counts), size=size)
        weights = draw.choice([1.0, 2.0, -1.0, 0.0], p=[0.5, 0.2, 0.2, 0.1], size=size)
        times = np.cumsum(draw.integers(60_000, size=size)) + turn * size * 60_000
        kinds, enters = draw.integers(6, size=size).astype(np.int8), weights > 0
        found = live.pass_over(
            users, items, times, enters, kinds, window=WINDOW, strictly_before=False, allow_repeats=allow_repeats
        )
        batch = RankedBatch(items, enters, found, live.seen, allow_repeats)
        features, words = head.observe(batch, 1, ranks=ranks), []
        for user, item, time, enter, kind in zip(
            *map(np.ndarray.tolist, (users, items, times, enters, kinds)), strict=True
        ):
            window, counts = plain.window(user), {other: plain.counts[other] for other in plain.candidates(user, item)}
            counts[item] = plain.counts.get(item)
            words.append(Words(window, item, counts, pairs.features(window.items, plain.counts)))
            if enter:
                pairs.count(plain.last_items(user), item)
            plain.learn(user, item, time, enter, kind)
    return Given(head, batch, features, weights, words)
