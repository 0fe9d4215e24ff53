"""Users of two kinds with tastes of their own, and a learner that is told of them."""

import numpy as np
from streams import click, small_learner

from model.entries import ItemContent


def kind(n):
    return ItemContent(categories=[f"kind {n % 2}"])


def people(numbers):
    """Users of two kinds, which their categories tell."""
    return {f"u{n}": kind(n) for n in numbers}


def two_tastes(events, items=20, users=30, seed=0, first_user=0):
    """Users who only choose items of their own kind."""
    draw = np.random.default_rng(seed)
    stream = []
    for number in range(events):
        user = first_user + int(draw.integers(users))
        item = 2 * int(draw.integers(items // 2)) + user % 2
        stream.append(click(f"u{user}", f"i{item}", number * 1000))
    return stream


def learner(*, described=None, **settings):
    made = small_learner(**{"encoder": "recency", "width": 8, "allow_repeats": True, **settings})
    if described is not None:
        made.describe_users(described)
    return made
