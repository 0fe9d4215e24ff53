"""The median table: levels as they come, the interpolated distribution, users' habits."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.median import START_COUNT, START_WIDTH, TILT_PRIOR, read_at_median
from model.median import MOST_LEVELS, NODES, MedianTable


def made(lowest=0.5, highest=5.0, users=4):
    table = MedianTable(lowest, highest)
    table.users.grow(users)
    return table


def stream(seed, events=600, users=4):
    draw = np.random.default_rng(seed)
    ratings = draw.integers(1, 11, size=events) / 2
    return draw.integers(users, size=events), np.clip(ratings + draw.normal(size=events), 0.5, 5.0), ratings


def read(table, rated, batch_size=100):
    parts = [
        table.read_then_learn(*(array[at : at + batch_size] for array in rated))
        for at in range(0, len(rated[0]), batch_size)
    ]
    return np.concatenate(parts)


def by_the_book(users, predictions, ratings, lowest, highest):
    """The same by plain dictionaries: start and counts by (node, value), tilted, read at one half."""
    counts, seen, expected, values = {}, {}, {}, []
    medians = []
    for user, prediction, rating in zip(users.tolist(), predictions.tolist(), ratings.tolist(), strict=True):
        place = (prediction - lowest) / (highest - lowest) * (NODES - 1)
        node = min(int(place), NODES - 2)
        shares = {node: 1 - (place - node), node + 1: place - node}
        apart = (max(values) - min(values)) / (len(values) - 1) if len(values) > 1 else highest - lowest
        usual = dict.fromkeys(values, 0.0)
        for at, share in shares.items():
            middle = lowest + (highest - lowest) * at / (NODES - 1)
            mass = {
                value: counts.get((at, value), 0.0)
                + START_COUNT * np.exp(-0.5 * ((value - middle) / (START_WIDTH * apart)) ** 2)
                + 0.001
                for value in values
            }
            for value in values:
                usual[value] += share * mass[value] / sum(mass.values())
        tilted = {
            value: usual[value]
            * (seen.get((user, value), 0) + TILT_PRIOR)
            / (expected.get((user, value), 0) + TILT_PRIOR)
            for value in values
        }
        ordered = sorted(values)
        reached = np.cumsum([tilted[value] for value in ordered])
        medians.append(ordered[int(np.argmax(reached >= reached[-1] / 2))] if values else prediction)
        for value in values:
            expected[user, value] = expected.get((user, value), 0) + usual[value]
        if rating not in values:
            values.append(rating)
        for at, share in shares.items():
            counts[at, rating] = counts.get((at, rating), 0.0) + share
        seen[user, rating] = seen.get((user, rating), 0) + 1
    return medians


def test_medians_are_those_of_the_interpolated_and_tilted_distribution():
    rated = stream(1)

    medians = read(made(), rated)

    assert medians.tolist() == by_the_book(*rated, 0.5, 5.0)


@pytest.mark.parametrize("batch_size", [1, 7, 600])
def test_the_batch_size_does_not_matter(batch_size):
    one, other = made(), made()

    medians = read(one, stream(2), batch_size)

    assert medians.tolist() == read(other, stream(2), 64).tolist()
    for name, array in other.state().items():
        np.testing.assert_array_equal(one.state()[name], array)


def test_compiled_and_interpreted_read_the_same(monkeypatch):
    of_compiled, of_interpreted = made(), made()

    expected = read(of_compiled, stream(3))
    monkeypatch.setattr("model.median.read_at_median", interpreted(read_at_median))
    found = read(of_interpreted, stream(3))

    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for name, array in of_compiled.state().items():
        np.testing.assert_allclose(of_interpreted.state()[name], array, rtol=1e-6, err_msg=name)


def test_before_any_rating_the_median_is_the_prediction_and_one_level_is_always_read():
    users = np.zeros(4, dtype=np.int64)

    medians = made().read_then_learn(users, np.array([2.7, 0.5, 5.0, 1.0]), np.full(4, 4.0))

    assert medians.tolist() == [2.7, 4.0, 4.0, 4.0]


def test_on_a_continuous_scale_levels_stop_at_their_most_and_medians_are_near():
    draw = np.random.default_rng(4)
    ratings = draw.random(5000)
    table = made(0.0, 1.0)

    medians = read(table, (draw.integers(4, size=5000), ratings, ratings), 512)

    assert table.known == MOST_LEVELS
    assert np.abs(medians - ratings)[1000:].mean() < 0.03


def test_a_rating_beyond_the_most_levels_counts_at_the_nearest_and_of_two_as_near_at_the_older():
    table, ratings = made(0.0, 200.0, users=1), np.r_[np.arange(MOST_LEVELS) * 2.0 + 2.0, 5.0, 198.0]

    table.read_then_learn(np.zeros(len(ratings), dtype=np.int64), ratings, ratings)

    assert table.users["seen"].shape[1] == table.known == MOST_LEVELS
    assert table.users["seen"][0].tolist() == [1, 2, *[1] * (MOST_LEVELS - 3), 2]


def test_room_for_levels_follows_what_came():
    few, many = made(), made()

    read(few, tuple(array[:5] for array in stream(5)))
    read(many, stream(5))

    assert few.users["seen"].shape[1] == 8
    assert many.users["seen"].shape[1] == 16


def test_a_user_who_gives_only_the_highest_is_read_higher_than_others():
    table, predictions = made(1.0, 5.0), np.full(400, 3.0)
    users = np.arange(400) % 4
    ratings = np.where(users == 0, 5.0, 1.0 + np.arange(400) // 4 % 5)

    read(table, (users, predictions, ratings))
    medians = table.read_then_learn(np.array([0, 1]), np.full(2, 3.0), np.full(2, 3.0))

    assert medians[0] > medians[1]


def test_predictions_and_ratings_at_the_ends_of_the_scale_find_their_places():
    table = made()

    table.read_then_learn(np.zeros(2, dtype=np.int64), np.array([0.5, 5.0]), np.array([0.5, 5.0]))

    assert table.counts_NL[0, 0] == table.counts_NL[-1, 1] == 1
    assert table.counts_NL.sum() == 2


def test_a_prediction_that_is_no_number_has_its_place_at_the_lowest_end_of_the_table(monkeypatch):
    users, predictions, ratings = np.zeros(2, dtype=np.int64), np.full(2, np.nan), np.full(2, 4.0)

    for kernel in (read_at_median, interpreted(read_at_median)):
        monkeypatch.setattr("model.median.read_at_median", kernel)
        table = made()
        medians = table.read_then_learn(users, predictions, ratings)

        assert medians[1] == 4.0
        assert table.counts_NL[0, 0] == table.counts_NL.sum() == 2


@pytest.mark.parametrize("levels", [0, 50], ids=["new", "used"])
def test_loaded_into_another_table_it_goes_on_as_the_saved_one(levels):
    saved, other = made(), made(users=9)
    read(saved, stream(6))
    used = np.linspace(0.5, 5, levels)
    other.read_then_learn(np.arange(levels) % 9, used, used)
    state = {name: array.copy() for name, array in saved.state().items()}

    other.load(state)

    assert read(saved, stream(7)).tolist() == read(other, stream(7)).tolist()
