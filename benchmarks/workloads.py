"""The streams that quality is measured on, each with the habits it stands for.

A default that fits one stream only is a defect, so there are several: films that people rate once, tastes that drift,
tastes that turn over at one moment, a shop of short sessions with repeats, and music that is played again and again.
Knows nothing of any model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.generated import music, shop
from producer import datasets
from producer.events import Click, Event, Item, Rating, User
from producer.simulate import simulate

Taken = Click | Rating


@dataclass(frozen=True)
class Workload:
    """Events in time order, all clicks or ratings of positive weight."""

    name: str
    habits: str
    """In a sentence, for the page."""
    events: Sequence[Taken]
    allow_repeats: bool
    """Whether what a user has taken stays a candidate."""
    rating_min: float = 0.5
    rating_max: float = 5.0
    items: Sequence[Item] = ()
    """The catalogue, where the stream has one."""
    users: Sequence[User] = ()
    """What is known of users, where anything is."""

    def first(self, limit: int | None) -> "Workload":
        """The same, cut after `limit` events; the catalogue stays whole."""
        return replace(self, events=self.events[:limit])


@dataclass(frozen=True)
class Rows:
    """A workload's events (E) as numbers; users and items are numbered in the order in which they first come.

    So before event e the known items are exactly 0 to max(items_E[:e]).
    """

    users_E: NDArray[np.int64]
    items_E: NDArray[np.int64]
    times_E: NDArray[np.int64]
    ratings_E: NDArray[np.float64]
    """NaN where the event is no rating."""

    @property
    def users(self) -> int:
        return int(self.users_E.max(initial=-1)) + 1

    @property
    def items(self) -> int:
        return int(self.items_E.max(initial=-1)) + 1


def rows_of(events: Sequence[Taken]) -> Rows:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    return Rows(
        users_E=np.array([users.setdefault(event.user_id, len(users)) for event in events], dtype=np.int64),
        items_E=np.array([items.setdefault(event.item_id, len(items)) for event in events], dtype=np.int64),
        times_E=np.array([event.timestamp for event in events], dtype=np.int64),
        ratings_E=np.array([event.rating if isinstance(event, Rating) else np.nan for event in events]),
    )


def load(name: str, limit: int | None = None) -> Workload:
    """The workload of that name, its first `limit` events. ValueError for a name that there is none of."""
    if name not in WORKLOADS:
        raise ValueError(f"there is no stream {name!r}; there are: {', '.join(WORKLOADS)}")
    return WORKLOADS[name]().first(limit)


def _data_set(name: str, habits: str, rating_min: float) -> Workload:
    found = datasets.load(name)
    events = [_taken(event) for event in found.events]
    return Workload(
        name, habits, events, allow_repeats=False, rating_min=rating_min, items=found.items, users=found.users
    )


def _taken(event: Event) -> Taken:
    assert isinstance(event, Click | Rating), "these data sets hold nothing else"
    return event


def _turnover() -> Workload:
    events = [_taken(event) for event in simulate(events=TURNOVER_EVENTS, turnover_at=0.5, drift=0.0, seed=1)]
    habits = "Simulated clicks and ratings; halfway through, everybody's tastes change at once"
    return Workload("turnover", habits, events, allow_repeats=False)


def _shop() -> Workload:
    habits = "Clicks of a generated shop: many visitors, short sessions, repeats, goods that go together, new goods"
    return Workload("shop", habits, shop(events=GENERATED_EVENTS), allow_repeats=True)


def _music() -> Workload:
    habits = "Generated plays of music: few listeners, long sessions, most plays repeat, albums in order, releases"
    return Workload("music", habits, music(events=GENERATED_EVENTS), allow_repeats=True)


TURNOVER_EVENTS: Final = 40_000
GENERATED_EVENTS: Final = 40_000

WORKLOADS: Final[Mapping[str, Callable[[], Workload]]] = {
    "movielens-100k": partial(
        _data_set, "movielens-100k", "Ratings of films; nobody rates a film twice; long sittings", 1.0
    ),
    "synthetic": partial(_data_set, "synthetic", "Simulated clicks and ratings; tastes drift, items enter late", 0.5),
    "turnover": _turnover,
    "shop": _shop,
    "music": _music,
}
