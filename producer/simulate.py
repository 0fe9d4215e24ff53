"""People with drifting tastes: an endless or counted stream of events, the same for the same seed.

Items fall into clusters and have Zipf popularity inside each; some enter only while the stream runs. A person
has a taste for every cluster, comes for sessions that mostly stay in one cluster, rarely takes an item again
soon, and rates what is to their taste higher. Between sessions tastes drift; at a turn-over, everybody's change
at once. There is something to learn, then, and something to unlearn. The random generator is the standard
library's, so a seed gives the same stream on every machine. This file knows nothing of Kafka.
"""

import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from producer.events import Click, Event, Item, Rating

START_MS = 1_700_000_000_000
"""Timestamp of a simulated stream's first event, unless a clock is given: 14 November 2023."""
GAP_MS = 2_000
"""Stream time from each event to the next, unless a clock is given."""
ENTRY_EVENTS = 100_000
"""The late items of an endless stream have all entered after so many events."""
REMEMBERED_ITEMS = 256
"""A person does not take an item again before so many others, while there are others."""

_CLUSTERS = (
    "Jazz", "Gardens", "Chess", "Bread", "Sailing", "Stars", "Trains", "Bees", "Maps", "Tea",
    "Bridges", "Clocks", "Dragons", "Glass", "Kites", "Lakes", "Masks", "Owls", "Pianos", "Ruins",
)  # fmt: skip
_SESSION_EVENTS = 8.0
_SESSIONS_AT_ONCE_SHARE = 0.02
_STAY_IN_CLUSTER = 0.85
_TASTE_SHARPNESS = 2.0
_TRIES_FOR_ANOTHER_ITEM = 8


@dataclass(slots=True)
class _Person:
    user_id: str
    bias: float
    tastes: list[float]
    """One standard normal number a cluster: how much this person likes it."""
    recent: dict[int, None] = field(default_factory=dict)
    """The last items taken, oldest first."""


@dataclass(slots=True)
class _Session:
    person: _Person
    cluster: int
    cumulative_tastes: list[float]


@dataclass(slots=True)
class _Cluster:
    """The items of a cluster that have entered, with their popularity summed up from the first on."""

    items: list[int] = field(default_factory=list)
    cumulative: list[float] = field(default_factory=list)

    def add(self, item: int, popularity: float) -> None:
        self.items.append(item)
        self.cumulative.append((self.cumulative[-1] if self.cumulative else 0.0) + popularity)


@dataclass(frozen=True, slots=True)
class _Stock:
    """All items there will be, by number."""

    cluster: list[int]
    popularity: list[float]
    quality: list[float]
    enters_after: list[int]
    """Number of events after which the item can be taken."""


@dataclass(frozen=True, slots=True)
class _Ratings:
    share: float
    lowest: float
    step: float


def simulate(
    *,
    users: int = 1_000,
    items: int = 1_500,
    events: int | None = None,
    drift: float = 0.02,
    turnover_at: float | None = None,
    rating_share: float = 0.5,
    rating_min: float = 0.5,
    rating_max: float = 5.0,
    late_share: float = 0.2,
    seed: int = 0,
    clock_ms: Callable[[], int] | None = None,
) -> Iterator[Event]:
    """Clicks and ratings (ten steps from rating_min to rating_max), `events` of them or without end, in time order.

    drift: what a taste loses of itself from one session of a person to the next: 0 never changes, 1 has no memory.
    turnover_at: the fraction of `events` after which everybody gets new tastes.
    rating_share: the share of events that are ratings; the others are clicks.
    late_share: the share of items that enter one after another while the stream runs.
    clock_ms: gives the timestamp of each event when it is made; without it they follow from the event's number.

    Raises ValueError, naming the argument, before the first event.
    """
    _check_counts(users=users, items=items, events=events)
    _check_shares(drift=drift, turnover_at=turnover_at, rating_share=rating_share, late_share=late_share)
    if turnover_at is not None and events is None:
        raise ValueError("turnover_at: a fraction of an endless stream is no moment; give events as well")
    if not rating_min < rating_max:
        raise ValueError(f"rating_min: expected less than rating_max ({rating_max}), got {rating_min}")
    people = _People(random.Random(f"{seed}/people"), users, drift)
    ratings = _Ratings(rating_share, rating_min, (rating_max - rating_min) / 9)
    stock = _make_stock(items, late_share, events or ENTRY_EVENTS, seed)
    turnover = None if turnover_at is None or events is None else int(turnover_at * events)
    return _stream(people, stock, events, turnover, ratings, random.Random(f"{seed}/stream"), clock_ms)


def catalogue(*, items: int = 1_500, events: int | None = None, late_share: float = 0.2, seed: int = 0) -> list[Item]:
    """The items that `simulate` draws from when given the same arguments."""
    _check_counts(items=items, events=events)
    _check_shares(late_share=late_share)
    stock = _make_stock(items, late_share, events or ENTRY_EVENTS, seed)
    return [_describe(number, stock) for number in range(items)]


def _describe(number: int, stock: _Stock) -> Item:
    cluster = _CLUSTERS[stock.cluster[number]]
    timestamp = START_MS + stock.enters_after[number] * GAP_MS
    title = f"Item {number} ({cluster})"
    return Item(item_id=f"i{number}", title=title, categories=[cluster], timestamp=timestamp)


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}: expected 1 or more, got {count}")


def _check_shares(**shares: float | None) -> None:
    for name, share in shares.items():
        if share is not None and not 0.0 <= share <= 1.0:  # also refuses NaN
            raise ValueError(f"{name}: expected a number from 0 to 1, got {share}")


def _make_stock(items: int, late_share: float, entry_events: int, seed: int) -> _Stock:
    chance = random.Random(f"{seed}/items")
    cluster = [number % len(_CLUSTERS) for number in range(items)]
    places = [1 + number // len(_CLUSTERS) for number in range(items)]
    # whether an item is a hit must not follow from its number, nor from when it enters
    order = list(zip(cluster, places, strict=True))
    chance.shuffle(order)
    late = min(int(late_share * items), items - 1)  # one is there from the start, or there would be nothing to take
    first_late = items - late
    return _Stock(
        cluster=[of_item for of_item, _ in order],
        popularity=[1.0 / place for _, place in order],
        quality=[chance.gauss(0.0, 0.4) for _ in range(items)],
        enters_after=[0] * first_late + [(number + 1) * entry_events // (late + 1) for number in range(late)],
    )


class _People:
    """Everybody there is, made when first needed: a million people cost nothing until they come."""

    def __init__(self, chance: random.Random, users: int, drift: float) -> None:
        self._chance = chance
        self._users = users
        self._kept = 1.0 - drift
        self._renewed = math.sqrt(1.0 - self._kept**2)  # keeps the spread of tastes at 1
        self._known: dict[int, _Person] = {}

    def someone_comes(self) -> _Session:
        """A new session of somebody, whose tastes have drifted since the last one. Some people come more often."""
        number = int(self._users * self._chance.random() ** 1.5)
        person = self._known.get(number)
        if person is None:
            person = self._known[number] = _Person(f"u{number}", self._chance.gauss(0.0, 0.4), self._new_tastes())
        else:
            gauss = self._chance.gauss
            person.tastes = [self._kept * taste + self._renewed * gauss(0.0, 1.0) for taste in person.tastes]
        cumulative_tastes = list(accumulate(math.exp(_TASTE_SHARPNESS * taste) for taste in person.tastes))
        return _Session(person, _draw(cumulative_tastes, self._chance), cumulative_tastes)

    def turn_over(self) -> None:
        for person in self._known.values():
            person.tastes = self._new_tastes()

    def sessions_at_once(self) -> int:
        return max(1, int(self._users * _SESSIONS_AT_ONCE_SHARE))

    def _new_tastes(self) -> list[float]:
        return [self._chance.gauss(0.0, 1.0) for _ in _CLUSTERS]


def _stream(
    people: _People,
    stock: _Stock,
    events: int | None,
    turnover: int | None,
    ratings: _Ratings,
    chance: random.Random,
    clock_ms: Callable[[], int] | None,
) -> Iterator[Event]:
    clusters = [_Cluster() for _ in _CLUSTERS]
    sessions = [people.someone_comes() for _ in range(people.sessions_at_once())]
    entered = made = 0
    while events is None or made < events:
        while entered < len(stock.cluster) and stock.enters_after[entered] <= made:
            clusters[stock.cluster[entered]].add(entered, stock.popularity[entered])
            entered += 1
        if made == turnover:
            people.turn_over()
            sessions = [people.someone_comes() for _ in sessions]
        slot = int(chance.random() * len(sessions))
        timestamp = START_MS + made * GAP_MS if clock_ms is None else clock_ms()
        yield _next_event(sessions[slot], clusters, stock, ratings, chance, timestamp)
        made += 1
        if chance.random() * _SESSION_EVENTS < 1.0:
            sessions[slot] = people.someone_comes()


def _next_event(
    session: _Session,
    clusters: list[_Cluster],
    stock: _Stock,
    ratings: _Ratings,
    chance: random.Random,
    timestamp: int,
) -> Event:
    person = session.person
    item = _choose_item(session, clusters, chance)
    person.recent[item] = person.recent.pop(item, None)  # to the end
    if len(person.recent) > REMEMBERED_ITEMS:
        del person.recent[next(iter(person.recent))]
    item_id = f"i{item}"
    if chance.random() >= ratings.share:
        return Click(user_id=person.user_id, item_id=item_id, timestamp=timestamp)
    liking = 3.3 + person.bias + stock.quality[item] + 0.4 * person.tastes[stock.cluster[item]] + chance.gauss(0.0, 0.5)
    rating = ratings.lowest + min(9, max(0, round(2.0 * liking) - 1)) * ratings.step
    return Rating(user_id=person.user_id, item_id=item_id, rating=rating, timestamp=timestamp)


def _choose_item(session: _Session, clusters: list[_Cluster], chance: random.Random) -> int:
    item = -1
    for _ in range(_TRIES_FOR_ANOTHER_ITEM):
        stays = chance.random() < _STAY_IN_CLUSTER
        cluster = clusters[session.cluster if stays else _draw(session.cumulative_tastes, chance)]
        if not cluster.items:
            continue
        item = cluster.items[_draw(cluster.cumulative, chance)]
        if item not in session.person.recent:
            return item
    if item >= 0:
        return item  # nearly everything was taken not long ago: again, then
    biggest = max(clusters, key=lambda cluster: len(cluster.items))
    return biggest.items[_draw(biggest.cumulative, chance)]


def _draw(cumulative: list[float], chance: random.Random) -> int:
    """The place in a list of summed-up weights, with a probability in proportion to its weight."""
    return min(bisect(cumulative, chance.random() * cumulative[-1]), len(cumulative) - 1)
