"""What a demo counts while it runs: written by the worker's and the reader's threads, read by the screen."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from consumer.lists import Written
from consumer.loop import Batch
from consumer.quality import Figures, LiveQuality
from producer.events import Recommendations

NEWEST = 2000
"""Freshness observations behind the figures on the screen."""
SPEED_SECONDS = 3.0
"""Time that a speed looks back on."""
IDLE_SECONDS = 2.0
"""A person whose list did not change for this long makes room for another."""


class Percentiles(NamedTuple):
    """Seconds; NaN where nothing was observed."""

    p50: float
    p99: float


@dataclass
class Person:
    """Somebody whose list is shown while it changes: item ids, best first."""

    user_id: str
    before: list[str]
    now: list[str]
    lists: int
    changed_at: float


class Tally:
    """Counts, speeds and freshness of a demo with `events` events."""

    def __init__(self, events: int, quality: LiveQuality, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.events = events
        self.done = 0
        self.published = 0
        self.unchanged = 0
        self.person: Person | None = None
        self.rolling: Figures = quality.rolling()
        self._quality = quality
        self._clock = clock
        self._freshness: list[float] = []
        self._marks: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def batch_done(self, batch: Batch, written: Written) -> None:
        self.done += len(batch.taken)
        self.unchanged += written.unchanged
        now = self._clock()
        if now - self._marks[-1][0] >= SPEED_SECONDS / 20:
            self._marks.append((now, self.done, self.published))
            while now - self._marks[0][0] > SPEED_SECONDS and len(self._marks) > 2:
                self._marks.popleft()
            self.rolling = self._quality.rolling()

    def list_settled(self, seconds: list[float], published: bool) -> None:
        self._freshness.extend(seconds)
        self.published += published

    def list_read(self, recommendations: Recommendations) -> None:
        """A subscriber has read a list: follow one person as long as that person's list changes."""
        items = [item.item_id for item in recommendations.items]
        now, person = self._clock(), self.person
        if person is not None and person.user_id == recommendations.user_id:
            self.person = Person(person.user_id, person.now, items, person.lists + 1, now)
        elif person is None or now - person.changed_at > IDLE_SECONDS:
            self.person = Person(recommendations.user_id, [], items, 1, now)

    def events_per_second(self) -> float:
        return self._speed(1)

    def lists_per_second(self) -> float:
        return self._speed(2)

    def newest_freshness(self) -> Percentiles:
        return percentiles(self._freshness[-NEWEST:])

    def freshness(self) -> Percentiles:
        """Over everything."""
        return percentiles(self._freshness)

    def _speed(self, column: int) -> float:
        first, last = self._marks[0], self._marks[-1]
        return (last[column] - first[column]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Median and 99th percentile."""
    if not seconds:
        return Percentiles(math.nan, math.nan)
    p50, p99 = np.percentile(np.array(seconds), (50, 99)).tolist()
    return Percentiles(p50, p99)
