"""Generated streams of interactions, and how a learner is run over them."""

import numpy as np
import torch

from model.interactions import Forget, Interaction
from model.learner import Learner, LearnerSettings
from model.ranking import RankingRates

torch.set_num_threads(1)  # the tensors of these tests are small: threads would only wait for each other

SMALL = {"width": 8, "rating_width": 4, "window": 5, "depth": 8}
STILL = RankingRates(optimizer="sgd", rate=0.0, popularity_rate=0.0)
"""Rates at which nothing but live state moves."""


def click(user, item, timestamp=0, weight=1.0, rating=None):
    return Interaction(user, item, timestamp, weight, rating)


def random_stream(seed, events=300, users=12, items=30, forgets=0.0):
    """Clicks, skips, ratings and events without weight, some of them repeats; times rise and repeat; some forgets."""
    draw = np.random.default_rng(seed)
    stream = []
    for number in range(events):
        user = f"u{draw.integers(users)}"
        if draw.random() < forgets:
            stream.append(Forget(user))
            continue
        item = f"i{int(items * draw.random() ** 2)}"
        weight = float(draw.choice([1.0, 1.0, 1.0, 2.5, -1.0, 0.0]))
        rating = float(draw.integers(1, 11)) / 2 if draw.random() < 0.5 else None
        stream.append(Interaction(user, item, 1_000 * (number // 3), weight, rating))
    return stream


def small_learner(*, dtype=None, device="cpu", **settings):
    made = LearnerSettings(**{**SMALL, **settings})
    return Learner(made, device=device) if dtype is None else Learner(made, device=device, dtype=dtype)


def run(learner, stream, batch_size):
    """Learn the stream in batches of this size; the steps."""
    return [learner.test_then_learn(stream[at : at + batch_size]) for at in range(0, len(stream), batch_size)]


def joined(steps, name):
    return np.concatenate([getattr(step, name) for step in steps])
