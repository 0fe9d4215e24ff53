"""The kernel of cohorts and its plain twin, against the rule in plain words."""

import math

import numpy as np
import pytest

from model.kernels.cohorts import find_then_count
from model.kernels.compiled import interpreted


def by_the_rule(users, enters, ratings, events, rated):
    """Each event looks at what is before it; `events` and `rated` are dictionaries of what was."""
    found = []
    for user, enters_here, rating in zip(users, enters, ratings, strict=True):
        mine = rated.setdefault(user, [])
        found.append((events.get(user, 0), sum(mine) / len(mine) if mine else None))
        events[user] = events.get(user, 0) + enters_here
        if not math.isnan(rating):
            mine.append(rating)
    return found


@pytest.mark.parametrize("kernel", [find_then_count, interpreted(find_then_count)], ids=["compiled", "plain"])
def test_each_event_finds_everything_before_it_and_nothing_of_itself(kernel):
    generator = np.random.default_rng(3)
    users, enters = generator.integers(0, 6, 200), generator.random(200) < 0.8
    ratings = np.where(generator.random(200) < 0.5, generator.integers(1, 6, 200), np.nan)
    events, sums, counts = np.arange(6), np.zeros(6), np.zeros(6, dtype=np.int64)
    earlier, means = np.empty(200, dtype=np.int64), np.empty(200)

    kernel(users, enters, ratings, events, sums, counts, earlier, means)

    expected = by_the_rule(users.tolist(), enters.tolist(), ratings.tolist(), dict(enumerate(range(6))), {})
    assert earlier.tolist() == [before for before, _ in expected]
    assert [None if np.isnan(mean) else mean for mean in means] == pytest.approx([mean for _, mean in expected])
    assert events.tolist() == list(range(6))
    assert counts.sum() == (~np.isnan(ratings)).sum()
