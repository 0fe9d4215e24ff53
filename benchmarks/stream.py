"""The events of every benchmark: 122 bytes of JSON each, skewed users and items, the same for the same seed.

Half are clicks and half are ratings, so that both heads of the model work. Users and items are drawn apart from each
other: there is nothing to learn in them, and learning costs the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

EVENT_BYTES: Final = 122
START_MS: Final = 1_732_430_000_000
"""Time of the first event; each of the next ones is a millisecond later."""
EVENTS_TOPIC: Final = "recs.events.v1"
ENCODED_AT_ONCE: Final = 10_000

_CLICK: Final = (
    b'{"type":"click","user_id":"u%05d","item_id":"i%07d","timestamp":%013d,"value":%d.%d,"context":{"device":"pc"}}'
)
_RATING: Final = (
    b'{"type":"rating","user_id":"u%05d","item_id":"i%07d","timestamp":%013d,"rating":%d.%d,"context":{"device":"tv"}}'
)


@dataclass(frozen=True)
class Stream:
    """What makes two streams different."""

    events: int = 1_000_000
    users: int = 100_000
    items: int = 10_000
    partitions: int = 64
    seed: int = 0
    user_exponent: float = 0.7
    item_exponent: float = 0.8
    rated_share: float = 0.5
    topic: str = EVENTS_TOPIC
    """Where its events go."""

    @property
    def relayed_topic(self) -> str:
        """Where a relay passes its events on to."""
        return f"{self.topic}.relayed"

    def __post_init__(self) -> None:
        for name, number, most in (
            ("events", self.events, 10**12),
            ("users", self.users, 10**5),  # more would need more digits, and an event more bytes
            ("items", self.items, 10**7),
            ("partitions", self.partitions, 10**5),
        ):
            if not 1 <= number <= most:
                raise ValueError(f"{name}: expected 1 to {most}, got {number}")
        if not 0 <= self.rated_share <= 1:
            raise ValueError(f"rated_share: expected 0 to 1, got {self.rated_share}")


class Draws(NamedTuple):
    """Who acts on what, in stream order."""

    users_N: NDArray[np.int64]
    items_N: NDArray[np.int64]
    rated_N: NDArray[np.bool_]
    tenths_N: NDArray[np.int64]
    """Ten times the rating, or the value of the click."""


def draw(stream: Stream) -> Draws:
    """All events of the stream as numbers."""
    rng = np.random.default_rng(stream.seed)
    users_N = zipf(rng, stream.users, stream.user_exponent, stream.events)
    items_N = zipf(rng, stream.items, stream.item_exponent, stream.events)
    rated_N = rng.random(stream.events) < stream.rated_share
    ratings_N = 5 * rng.integers(1, 11, stream.events)  # 0.5 to 5.0
    values_N = rng.integers(1000, 10_000, stream.events)  # 100.0 to 999.9
    return Draws(users_N, items_N, rated_N, np.where(rated_N, ratings_N, values_N))


def zipf(rng: np.random.Generator, ids: int, exponent: float, size: int) -> NDArray[np.int64]:
    """`size` draws of 0 .. ids - 1, the id of popularity rank r (from 1) in proportion to r ** -exponent.

    Which id has which rank is drawn too, so that popular ids are not neighbours in a table.
    """
    cumulative = np.cumsum(np.arange(1, ids + 1, dtype=np.float64) ** -exponent)
    ranks = np.searchsorted(cumulative / cumulative[-1], rng.random(size), side="right")
    return rng.permutation(ids)[ranks]


def encoded(stream: Stream) -> Iterator[list[tuple[bytes, bytes]]]:
    """The events as (key, value) of records, in order, some thousands at a time."""
    draws = draw(stream)
    for start in range(0, stream.events, ENCODED_AT_ONCE):
        users, items, rated, tenths = (column[start : start + ENCODED_AT_ONCE].tolist() for column in draws)
        yield [
            (b"u%05d" % user, (_RATING if is_rating else _CLICK) % (user, item, START_MS + at, *divmod(ten, 10)))
            for at, (user, item, is_rating, ten) in enumerate(zip(users, items, rated, tenths, strict=True), start)
        ]
