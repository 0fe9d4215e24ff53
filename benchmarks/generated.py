"""Two generated streams whose habits are not those of film ratings: a shop's clicks, and plays of music.

Both have structure that a model can find (families, what goes with what, albums, favourites), both let items enter
while they run, and in both people come back to what they had. The same seed gives the same stream.
"""

from heapq import merge

import numpy as np
from numpy.typing import NDArray

from producer.events import Click
from producer.simulate import START_MS

Doubles = NDArray[np.float64]


def shop(*, events: int, users: int = 8_000, items: int = 2_500, seed: int = 0) -> list[Click]:
    """Short sessions, about four clicks, inside one of the visitor's favourite families.

    A click is an item of the session again, one that goes with the last, or what is popular in the family. Two fifths
    of the goods enter while the stream runs.
    """
    rng = np.random.default_rng([seed, 1])
    goods = _Goods(rng, items, families=50)
    favourites_U3 = rng.integers(0, goods.families, (users, 3))
    visits_U = np.cumsum(_zipf(rng, users, 0.6))
    sessions: list[list[Click]] = []
    made = 0
    start = float(START_MS)
    while made < events + 200:  # those that lie past the end are cut off below
        start += rng.exponential(15_000)
        user = _draw(rng, visits_U)
        bought = goods.session(rng, int(favourites_U3[user, rng.integers(3)]), made / events)
        times = start + np.cumsum(rng.exponential(40_000, len(bought)))
        sessions.append(_clicks(f"v{user}", [f"g{item}" for item in bought], times, "click"))
        made += len(bought)
    return list(merge(*sessions, key=lambda click: click.timestamp))[:events]


class _Goods:
    """The shop's shelves: families, popularity, what goes with what, and when each item enters."""

    def __init__(self, rng: np.random.Generator, items: int, families: int) -> None:
        self.families = families
        self._family_I = rng.integers(0, families, items)
        self._popularity_I = _zipf(rng, items, 0.8)
        self._enters_I = np.maximum(0.0, rng.uniform(-1.5, 1.0, items))
        self._members = [np.flatnonzero(self._family_I == family) for family in range(families)]
        self._goes_with_I4 = np.stack([rng.choice(self._members[family], 4) for family in self._family_I])

    def session(self, rng: np.random.Generator, family: int, progress: float) -> list[int]:
        """Items of one visit, when the share `progress` of the stream is over."""
        members = self._members[family]
        here = members[self._enters_I[members] <= progress]
        if not len(here):
            return []
        cumulative = np.cumsum(self._popularity_I[here])
        taken = [int(here[_draw(rng, cumulative)])]
        while rng.random() < 0.75:
            fate = rng.random()
            item = int(here[_draw(rng, cumulative)])
            if fate < 0.25:
                item = taken[int(rng.integers(len(taken)))]
            elif fate < 0.65:
                other = int(self._goes_with_I4[taken[-1], rng.integers(4)])
                item = other if self._enters_I[other] <= progress else item
            taken.append(item)
        return taken


def music(*, events: int, users: int = 300, albums: int = 400, tracks: int = 8, seed: int = 0) -> list[Click]:
    """Long sessions: the next track of the album, something from the listener's own shelf again, or an album not heard.

    A listener's shelf grows; how often an album on it is taken follows how often it was played. A fifth of the albums
    is released while the stream runs.
    """
    rng = np.random.default_rng([seed, 2])
    genre_A = rng.integers(0, 12, albums)
    popularity_A = _zipf(rng, albums, 0.8)
    released_A = np.maximum(0.0, rng.uniform(-4.0, 1.0, albums))
    liking_UG = rng.dirichlet(np.full(12, 0.3), users)
    plays_UA = np.zeros((users, albums))
    listens_U = np.cumsum(_zipf(rng, users, 0.5))
    sessions: list[list[Click]] = []
    made = 0
    start = float(START_MS)
    while made < events + 400:
        start += rng.exponential(900_000)
        user = _draw(rng, listens_U)
        open_A = released_A <= made / events
        played: list[str] = []
        while rng.random() < 0.85 or not played:
            appeal_A = open_A * (popularity_A * liking_UG[user, genre_A] + 1e-12)
            again = plays_UA[user].any() and rng.random() < 0.75
            album = _draw(rng, np.cumsum(plays_UA[user] if again else appeal_A))
            track = int(min(rng.geometric(0.5) - 1, tracks - 1))  # the first tracks are the singles
            played += [f"t{album}-{number}" for number in range(track, min(track + int(rng.geometric(0.4)), tracks))]
            plays_UA[user, album] += 1.0
        times = start + 200_000.0 * np.arange(len(played))
        sessions.append(_clicks(f"l{user}", played, times, "play"))
        made += len(played)
    return list(merge(*sessions, key=lambda click: click.timestamp))[:events]


def _clicks(user_id: str, item_ids: list[str], times: Doubles, action: str) -> list[Click]:
    return [
        Click(user_id=user_id, item_id=item_id, timestamp=int(time), action=action)
        for item_id, time in zip(item_ids, times.tolist(), strict=True)
    ]


def _draw(rng: np.random.Generator, cumulative: Doubles) -> int:
    """A place in a list of summed-up weights, with a probability in proportion to its weight."""
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _zipf(rng: np.random.Generator, size: int, exponent: float) -> Doubles:
    """Probabilities (size,) that fall as 1 / place^exponent, the places dealt out at random."""
    weights: Doubles = 1.0 / (1.0 + rng.permutation(size)) ** exponent
    return weights / weights.sum()
