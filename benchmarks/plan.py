"""Which rows there are, and which runs a table needs: Headrace's encoders and the peers, on each stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks import ours
from benchmarks.prequential import Outcome, Predictor, Ranker, predict_then_learn, rank_then_learn
from benchmarks.workloads import Rows, Workload

BATCH: Final = 512
"""The micro-batch of the tables."""
OTHER_BATCHES: Final = (32, 4096)
PREFIX_BATCHES: Final = (1, 32, BATCH)
PREFIX_EVENTS: Final = 5_000
"""How much of a stream the smallest micro-batches are compared on: one event at a time costs a step an event."""
NETWORKS: Final = frozenset({"lstm", "gru", "transformer", "cnn", "autoencoder"})
"""Encoders whose batches cost so much that they are measured on one stream."""
BATCHED: Final = ("movielens-100k", "shop")
"""The streams on which micro-batches are compared: one where batching costs little, one where it could cost much."""
WITH_CATALOGUE: Final = f"{ours.DEFAULT}, with catalogue"
"""The row of the default that knows the catalogue before the first event."""
FULL: Final = "movielens-100k"
"""The stream with several seeds and history strictly before."""


@dataclass(frozen=True)
class Run:
    """One pass over a stream."""

    workload: str
    events: int
    row: str
    batch: int
    """0 for the peers: they learn event by event."""
    seed: int = 0
    strictly_before: bool = False

    @property
    def ours(self) -> bool:
        return self.batch > 0

    @property
    def key(self) -> str:
        history = "strictly-before" if self.strictly_before else "live"
        return f"{self.workload}/{self.events}/{self.row}/{self.batch}/{self.seed}/{history}"


@dataclass(frozen=True)
class Peer:
    teaches: str
    ranker: Callable[[Rows], Ranker] | None = None
    predictor: Callable[[], Predictor] | None = None
    reads_history: bool = False
    """Whether the history it is handed is all it knows of the user, so that `strictly before` means something."""
    needs_ratings: bool = False

    def fits(self, rows: Rows) -> bool:
        """A ranker by ratings needs nothing but ratings; a predictor needs some."""
        rated_E = ~np.isnan(rows.ratings_E)
        if self.predictor is not None:
            return bool(rated_E.any())
        return bool(rated_E.all()) or not self.needs_ratings

    def measure(self, workload: Workload, rows: Rows, *, strictly_before: bool) -> Outcome:
        if self.predictor is not None:
            return predict_then_learn(rows, self.predictor(), lowest=workload.rating_min, highest=workload.rating_max)
        assert self.ranker is not None, "a peer ranks or predicts"
        return rank_then_learn(
            rows, self.ranker(rows), allow_repeats=workload.allow_repeats, strictly_before=strictly_before
        )


def _popularity(rows: Rows) -> Ranker:
    from benchmarks.peers.popularity import Popularity

    return Popularity(rows.items)


def _faded_popularity(rows: Rows) -> Ranker:
    from benchmarks.peers.popularity import Popularity

    return Popularity(rows.items, half_life=5_000)


def _isgd(rows: Rows) -> Ranker:
    from benchmarks.peers.isgd import Isgd

    return Isgd(rows.users, rows.items, factors=50, rate=0.05)


def _isgd_faster(rows: Rows) -> Ranker:
    from benchmarks.peers.isgd import Isgd

    return Isgd(rows.users, rows.items, factors=50, rate=0.1)


def _isgd_negatives(rows: Rows) -> Ranker:
    from benchmarks.peers.isgd import Isgd

    return Isgd(rows.users, rows.items, factors=20, rate=0.1, negatives=3)


def _knn(rows: Rows) -> Ranker:
    from benchmarks.peers.knn import ItemKnn

    return ItemKnn(rows.users, rows.items)


def _knn_last(rows: Rows) -> Ranker:
    from benchmarks.peers.knn import ItemKnn

    return ItemKnn(rows.users, rows.items, last=20)


def _als(rows: Rows) -> Ranker:
    from benchmarks.peers.als import RefittedAls

    return RefittedAls(rows.users, rows.items)


def _ranked_biased_mf(rows: Rows) -> Ranker:
    from benchmarks.peers.river_ratings import RankedBiasedMf

    return RankedBiasedMf(rows.items)


def _baseline() -> Predictor:
    from benchmarks.peers.river_ratings import Baseline

    return Baseline()


def _biased_mf() -> Predictor:
    from benchmarks.peers.river_ratings import BiasedMf

    return BiasedMf()


def _factorization_machine() -> Predictor:
    from benchmarks.peers.river_ratings import FactorizationMachine

    return FactorizationMachine()


PEERS: Final[Mapping[str, Peer]] = {
    "popularity": Peer("the floor: what anybody gets for counting", _popularity),
    "popularity, fading": Peer("whether the stream has fashions that pass", _faded_popularity),
    "River BiasedMF, ranked by rating": Peer(
        "a model of ratings is no ranker: who rates what is the larger part of the news", _ranked_biased_mf,
        needs_ratings=True,
    ),
    "ISGD": Peer("factors for users, learned one step an event, know a user too late", _isgd),
    "ISGD, twice the rate": Peer("no rate suits all streams: compare it across them", _isgd_faster),
    "ISGD, recency negatives": Peer("what negatives alone add", _isgd_negatives),
    "item-kNN, cosine": Peer("exact live counts of pairs, the whole profile alike", _knn, reads_history=True),
    "item-kNN, cosine, last 20": Peer("the same with only the newest items: recency", _knn_last, reads_history=True),
    "implicit ALS, refitted": Peer(
        "a good batch model, refitted often and with a live user, forgets order and time", _als, reads_history=True
    ),
    "River Baseline": Peer("the floor of ratings: mean and biases", predictor=_baseline),
    "River BiasedMF": Peer("factors by one SGD step an event", predictor=_biased_mf),
    "River FM": Peer("the same as a factorization machine", predictor=_factorization_machine),
}  # fmt: skip

TEACHES: Final[Mapping[str, str]] = {
    "blend": "everything in one softmax, the mix learned online from the same loss",
    "recency": "a user known by the last items only, on several time scales: cheap, and hard to beat",
    "dnn": "the same with a residual network on the user's vector: what non-linearity adds",
    "lstm": "a recurrent reading of the last items: what order adds beyond decay",
    "gru": "a recurrent reading of the last items, with fewer gates",
    "transformer": "self-attention over the last items",
    "cnn": "convolutions over the last items",
    "cooccurrence": "counting alone, live, with distance and recency: the strongest single thing that has no gradient",
    "autoencoder": "a denoising autoencoder of the last items, trained beside the next one",
}


def runs_for(workload: Workload, rows: Rows, *, seeds: int, quick: bool) -> Iterator[Run]:
    """What a stream's tables need, the networks last: they are slow, and so have a row on one stream only."""
    name, events = workload.name, len(workload.events)
    full = name == FULL and not quick
    for row, peer in PEERS.items():
        if peer.fits(rows):
            yield Run(name, events, row, 0)
            if peer.reads_history and full:
                yield Run(name, events, row, 0, strictly_before=True)
    yield from (Run(name, events, row, BATCH) for row in encoders() if row not in NETWORKS)
    if workload.items and not quick:
        yield Run(name, events, WITH_CATALOGUE, BATCH)
    if full:
        yield from (Run(name, events, ours.DEFAULT, BATCH, seed) for seed in range(1, seeds))
        yield from (Run(name, events, row, BATCH, strictly_before=True) for row in compared())
        yield from (Run(name, events, ours.DEFAULT, batch) for batch in OTHER_BATCHES)
    if name in BATCHED and events > PREFIX_EVENTS and not quick:
        yield from (Run(name, PREFIX_EVENTS, row, batch) for row in compared() for batch in PREFIX_BATCHES)
    if full and events > PREFIX_EVENTS:  # how fast each is, over the same events for all
        yield from (Run(name, PREFIX_EVENTS, row, 0) for row, peer in PEERS.items() if peer.fits(rows))
        yield from (Run(name, PREFIX_EVENTS, row, BATCH) for row in encoders() if row not in compared())
    if name == FULL:
        yield from (Run(name, events, row, BATCH) for row in encoders() if row in NETWORKS)


def encoders() -> Sequence[str]:
    """The default first."""
    return sorted(ours.ENCODER_NAMES, key=lambda row: row != ours.DEFAULT)


def compared() -> Sequence[str]:
    """Those that more is asked of: the default and the cheapest one."""
    return [row for row in encoders() if row in (ours.DEFAULT, "recency")]


def execute(run: Run, workload: Workload, rows: Rows) -> Outcome:
    """The run's outcome. ImportError where a peer's library is not installed."""
    if run.ours:
        content = run.row == WITH_CATALOGUE
        return ours.measure(
            workload,
            encoder=ours.DEFAULT if content else run.row,
            batch_size=run.batch,
            seed=run.seed,
            strictly_before=run.strictly_before,
            content=content,
        )
    return PEERS[run.row].measure(workload, rows, strictly_before=run.strictly_before)
