"""Users' means: live, forgotten with the user, kept in a checkpoint."""

import numpy as np
import pytest

import consumer.quality
from model.cohorts import COLD_EVENTS, UserMeans


def test_who_is_cold_is_the_same_to_the_watch_over_drift_and_to_live_figures():
    assert COLD_EVENTS == consumer.quality.COLD_EVENTS


def means_of(users, ratings, means, events=(0, 0)):
    users_B = np.array(users)
    means.grow(2)
    enters_B = np.ones(len(users_B), dtype=np.bool_)
    return means.find_then_count(users_B, enters_B, np.array(ratings, dtype=np.float64), np.array(events))


def test_a_mean_is_of_the_earlier_ratings_alone_also_in_the_same_batch():
    means = UserMeans()

    earlier, found = means_of([0, 0, 1, 0], [5, 2, 1, np.nan], means, events=(7, 0))

    assert earlier.tolist() == [7, 8, 0, 9]
    assert found == pytest.approx([np.nan, 5, np.nan, 3.5], nan_ok=True)


def test_how_batches_are_cut_changes_nothing():
    whole, cut = UserMeans(), UserMeans()

    _, at_once = means_of([0, 1, 0, 0], [1, 4, 3, 5], whole)
    parts = [means_of([0, 1], [1, 4], cut)[1], means_of([0, 0], [3, 5], cut)[1]]

    assert np.concatenate(parts) == pytest.approx(at_once, nan_ok=True)


def test_a_forgotten_user_has_no_mean():
    means = UserMeans()
    means_of([0, 1], [5, 3], means)

    means.clear_users(np.array([0]))

    assert means_of([0, 1], [1, 1], means)[1] == pytest.approx([np.nan, 3], nan_ok=True)


def test_what_was_saved_goes_on_as_if_never_stopped():
    saved, loaded = UserMeans(), UserMeans()
    means_of([0, 1, 0], [5, 3, 2], saved)

    loaded.load({name: array.copy() for name, array in saved.state().items()})

    assert means_of([0, 1], [1, 1], loaded)[1] == pytest.approx([3.5, 3])
