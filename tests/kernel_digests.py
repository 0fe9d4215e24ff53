"""What a worker's model makes of a short stream, as one digest a part, computed in this process.

    NUMBA_CACHE_DIR=FOLDER python tests/kernel_digests.py [NAME ...]

A first call with an empty folder compiles the kernels, a second one finds them there: both have to print the same.
Without a folder they are kept beside their sources, which `make test` does before its processes need them.
"""

import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from model.entries import ItemContent
from model.interactions import Interaction
from model.learner import Learner
from model.ranking import RankingRates
from model.ratings import RatingHead
from model.settings import LearnerSettings
from model.state import state_digest
from model.topk import TopK

EVENTS, USERS, ITEMS = 2_000, 40, 150


def stream(seed: int) -> Iterator[Interaction]:
    draw = random.Random(seed)
    for number in range(EVENTS):
        user, item = draw.randrange(USERS), int(ITEMS * draw.random() ** 2)
        rating = draw.randint(1, 10) / 2 if draw.random() < 0.5 else None
        yield Interaction(f"u{user}", f"i{item}", 60_000 * number, 1.0, rating)


def ratings() -> str:
    """The rating model alone: it compiles in seconds."""
    rated = [one for one in stream(1) if one.rating is not None]
    users = np.array([int(one.user_id[1:]) for one in rated])
    items = np.array([int(one.item_id[1:]) for one in rated])
    head = RatingHead(4, 0.5, 5.0, seed=0)
    head.grow(USERS, ITEMS)
    for first in range(0, len(rated), 8):
        step = slice(first, first + 8)
        times = np.array([one.timestamp for one in rated[step]])
        given = np.array([one.rating for one in rated[step]], dtype=np.float64)
        head.predict_then_learn(users[step], items[step], times, given)
    return state_digest({name: torch.from_numpy(np.array(value)) for name, value in head.state().items()})


def learner(**settings: object) -> str:
    """A whole learner, and the lists of everybody it meets."""
    made = Learner(LearnerSettings(**settings))  # type: ignore[arg-type]
    top_k = TopK(made, 10, cold_items=True)
    lists, events = hashlib.sha256(), list(stream(2))
    for first in range(0, EVENTS, 8):
        if first == EVENTS // 2:
            said = ItemContent("a title", "a text", ["a category"], {"a number": 1.0})
            made.describe({f"i{item}": said for item in range(0, 2 * ITEMS, 3)})
        done = made.test_then_learn(events[first : first + 8])
        found = top_k(done.touched_users())
        for place in range(len(found.users_U)):
            length = found.lengths_U[place]
            lists.update(found.scores_UK[place, :length].tobytes())
    return state_digest(made.state()) + lists.hexdigest()


PARTS: dict[str, Callable[[], str]] = {
    "ratings": ratings,
    "blend": lambda: learner(width=48),
    "sampled": lambda: learner(width=48, ranking=RankingRates(full_softmax_items=0)),
    "recency and factors": lambda: learner(encoder="recency", rating_model="factors"),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({name: PARTS[name]() for name in sys.argv[1:] or PARTS}))
