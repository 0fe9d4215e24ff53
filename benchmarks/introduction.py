"""A learner that has met every user and every item before anything is timed, and the steps that it then learns.

Needs only numpy, torch and `model/`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.stream import START_MS, Stream, draw
from model.interactions import Interaction
from model.learner import Learner

ITEMS_AT_ONCE: Final = 50_000
USERS_AT_ONCE: Final = 512


def user_id(user: int) -> str:
    return f"u{user:05d}"


def item_id(item: int) -> str:
    return f"i{item:07d}"


def introduce(learner: Learner, stream: Stream) -> None:
    """Make every item known, by an event without weight, and give every user one click; nobody is ranked."""
    rng = np.random.default_rng([stream.seed, 1])
    ranked = learner.settings
    items, users = rng.permutation(stream.items).tolist(), rng.permutation(stream.users).tolist()
    # Without weight there is no gradient step, and so no limit on how many at once, nor need of small pieces.
    known = [
        Interaction(user_id(users[n % stream.users]), item_id(item), START_MS, 0.0, None)
        for n, item in enumerate(items)
    ]
    clicks = [
        Interaction(user_id(user), item_id(items[n % stream.items]), START_MS, 1.0, None)
        for n, user in enumerate(users)
    ]
    for interactions, size, piece in (
        (known, ITEMS_AT_ONCE, ITEMS_AT_ONCE),
        (clicks, USERS_AT_ONCE, ranked.smallest_piece),
    ):
        learner.settings = replace(ranked, ranked_share=0.0, smallest_piece=piece)
        for start in range(0, len(interactions), size):
            learner.test_then_learn(interactions[start : start + size])
    learner.settings = ranked


def steps_of(stream: Stream, size: int) -> Iterator[list[Interaction]]:
    """The events of the stream as the learner takes them, `size` at a time."""
    users_N, items_N, rated_N, tenths_N = (column.tolist() for column in draw(stream))
    for start in range(0, stream.events, size):
        yield [
            Interaction(
                user_id(users_N[n]), item_id(items_N[n]), START_MS + n, 1.0, tenths_N[n] / 10 if rated_N[n] else None
            )
            for n in range(start, min(start + size, stream.events))
        ]
