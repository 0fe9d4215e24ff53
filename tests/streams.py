"""Generated streams of interactions, and how a learner is run over them."""

import numpy as np
import pytest
import torch

from model.interactions import Forget, Interaction
from model.learner import Learner
from model.ragged import Ragged
from model.ranking import RankingRates
from model.settings import LearnerSettings

torch.set_num_threads(1)  # the tensors of these tests are small: threads would only wait for each other

SMALL = {"width": 8, "rating_width": 4, "window": 5, "depth": 8}
STILL = RankingRates(optimizer="sgd", rate=0.0, mix_rate=0.0)
"""Rates at which nothing moves but live state (and a network: `still`)."""

OPTIMIZERS = pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])


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


def sessions(seed, events, users=400, items=300, clusters=12, repeats=0.25):
    """Short sessions, each in one cluster, many at a time; repeats of what the user just had; items that enter late.

    Inside a cluster an item is mostly followed by one of its two successors, otherwise by a popular one.
    """
    draw = np.random.default_rng(seed)
    successors = draw.integers(items // clusters, size=(items, 2))
    recent = [[] for _ in range(users)]
    open_sessions = []
    stream = []
    for number in range(events):
        if len(open_sessions) < 20:
            user = int(draw.integers(users))
            cluster = user % clusters if draw.random() < 0.7 else int(draw.integers(clusters))
            open_sessions.append([user, cluster, int(draw.integers(2, 7))])
        place = int(draw.integers(len(open_sessions)))
        user, cluster, _ = open_sessions[place]
        entered = max(2, int(items // clusters * min(1.0, 0.4 + number / events)))
        if recent[user] and draw.random() < repeats:
            item = recent[user][-1 - int(draw.integers(min(4, len(recent[user]))))]
        elif recent[user] and recent[user][-1] % clusters == cluster and draw.random() < 0.6:
            item = int(successors[recent[user][-1], draw.integers(2)]) % entered * clusters + cluster
        else:
            item = int(entered * draw.random() ** 2) * clusters + cluster
        recent[user].append(item)
        stream.append(click(f"u{user}", f"i{item}", 1_000 * number))
        open_sessions[place][2] -= 1
        if open_sessions[place][2] == 0:
            del open_sessions[place]
    return stream


def still(learner):
    """The learner with every rate at 0 that its settings do not reach."""
    if hasattr(learner.ranking.encoder, "layers"):
        learner.ranking.encoder.layers.rate = 0.0
    return learner


def hit_ratio(steps, first=0, name="ranks_B"):
    ranks = joined(steps, name)[first:]
    return float((ranks < 10).sum() / joined(steps, "ranked_B")[first:].sum())


def small_learner(*, dtype=None, device="cpu", **settings):
    made = LearnerSettings(**{**SMALL, **settings})
    return Learner(made, device=device) if dtype is None else Learner(made, device=device, dtype=dtype)


def run(learner, stream, batch_size):
    """Learn the stream in batches of this size; the steps."""
    return [learner.test_then_learn(stream[at : at + batch_size]) for at in range(0, len(stream), batch_size)]


def joined(steps, name):
    return np.concatenate([getattr(step, name) for step in steps])


def grown_parts(learner):
    """Copies of all that grows, by what its rows are of; of lists the bytes of each row's."""
    return {
        kind: {name: lists_in(part) if isinstance(part, Ragged) else np.array(part) for name, part in parts.items()}
        for kind, parts in learner.growing_parts().items()
    }


def lists_in(part):
    """The list of each row, as bytes in an array of objects."""
    rows = len(part)
    starts = part.start_R * np.arange(rows) if isinstance(part.start_R, int) else part.start_R
    spans = zip(starts.tolist(), part.length_R.tolist(), strict=True)
    lists = np.empty(rows, dtype=object)
    lists[:] = [part.pool[start : start + max(length, 0)].tobytes() for start, length in spans]
    return lists


def assert_nothing_else_moved(learner, before, moved):
    """Rows of `before`, which is what there was then, are what they were, but for those that moved (None: any may)."""
    for kind, parts in grown_parts(learner).items():
        rows = len(next(iter(parts.values())))
        for name, array in parts.items():
            held = before[kind][name]
            assert len(array) == rows
            stayed = np.setdiff1d(np.arange(len(held)), np.arange(rows) if moved[kind] is None else moved[kind])
            now = array[:, : held.shape[1]] if array.ndim > 1 else array  # a column may have become wider
            np.testing.assert_array_equal(_bits(now[stayed]), _bits(held[stayed]), err_msg=name)


def _bits(array):
    """A NaN is itself here, and -0.0 is not 0.0: as in a checkpoint."""
    if array.dtype == object:
        return array
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def touched(learner, step):
    """The ids of the users that a step touched."""
    return {learner.users.name(row) for row in step.touched_users().tolist()}
