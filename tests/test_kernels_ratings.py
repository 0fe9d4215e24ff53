"""The rating kernel: the user is an exact filter, the gradient that of autograd, compiled and interpreted agree."""

import math

import numpy as np
import pytest
import torch

from model.kernels.compiled import interpreted
from model.kernels.ratings import (
    FACTORS,
    LEAST_COUNT,
    move_factors,
    number_rows,
    predict_then_learn,
    take_back_pairs,
    take_rows,
)
from model.kernels.running import MEAN, VARIANCE
from model.ratings import RatingHead, RatingRates

USERS, ITEMS, F = 4, 9, 3
STANDING = RatingRates(bias_drift=0.0, taste_drift=0.0)
"""Rates at which time between events changes nothing but the session."""


def head(rates=None, users=USERS, items=ITEMS, **sizes):
    made = RatingHead(F, 1.0, 5.0, seed=1, rates=rates, **{"remembered": 6, "pair_bits": 5, **sizes})
    made.grow(users, items)
    return made


def stream(seed, events=120, users=USERS, items=ITEMS):
    draw = np.random.default_rng(seed)
    times = np.cumsum(draw.integers(0, 400_000, size=events))
    return draw.integers(users, size=events), draw.integers(items, size=events), times, draw.integers(1, 6, size=events)


def learn(made, rated, batch_size=30):
    return [
        made.predict_then_learn(*(array[at : at + batch_size] for array in rated))
        for at in range(0, len(rated[0]), batch_size)
    ]


def covariance(made, user):
    size = FACTORS + F
    packed = np.zeros((size, size))
    packed[np.tril_indices(size)] = made.users["covariance"][user]
    return packed + np.tril(packed, -1).T


def test_compiled_and_interpreted_learn_the_same(monkeypatch):
    of_compiled, of_interpreted, rated = head(), head(), stream(1)

    expected = learn(of_compiled, rated)
    monkeypatch.setattr("model.ratings.predict_then_learn", interpreted(predict_then_learn))
    found = learn(of_interpreted, rated)

    np.testing.assert_allclose(np.hstack(found), np.hstack(expected), rtol=1e-6)
    for name, array in of_compiled.state().items():
        np.testing.assert_allclose(of_interpreted.state()[name], array, rtol=1e-4, atol=1e-6, err_msg=name)


def test_without_drift_a_user_is_the_posterior_of_ridge_regression_on_all_their_ratings():
    made, draw = head(STANDING, users=2, items=40), np.random.default_rng(2)
    ratings = draw.integers(1, 6, size=30).astype(float)
    learn(made, (np.ones(30, dtype=int), np.arange(10, 40), np.zeros(30, dtype=int), ratings[::-1]))  # somebody else
    made.items["bias"][:30] = draw.normal(size=30)
    made.items["count"][:30] = draw.integers(50, size=30)
    targets, readings = [], []
    for item, rating in enumerate(ratings):
        one = head(STANDING, users=2, items=40)
        one.load({name: array.copy() for name, array in made.state().items()})
        mean, deviation = made.overall[MEAN], math.sqrt(made.overall[VARIANCE])
        bias, count, factors = (made.items[name][item].copy() for name in ("bias", "count", "factors"))

        made.predict_then_learn(*(np.array([value]) for value in (0, item, 0, rating)))

        popularity = np.log1p(count) - made.overall[5]
        readings.append([1.0, 1.0, bias, popularity, *factors])
        targets.append(((rating - 1) / 4 - mean) / deviation - bias)
    readings, targets = np.array(readings), np.array(targets)
    prior = np.diag(1 / STANDING.variances(F))
    start = made._start_D.astype(np.float64)

    posterior = np.linalg.inv(prior + readings.T @ readings)

    assert np.abs(targets - readings @ start).max() < 4  # no error was cut, so that the filter is linear
    np.testing.assert_allclose(covariance(made, 0), posterior, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        made.users["mean"][0], posterior @ (prior @ start + readings.T @ targets), rtol=1e-3, atol=1e-5
    )


def test_between_ratings_each_part_falls_back_to_its_start_and_regains_its_doubt():
    rates = RatingRates()
    made = head(rates)
    learn(made, stream(3))
    before, mean = covariance(made, 0), made.users["mean"][0].astype(np.float64)
    last, bias, count = int(made.users["time"][0]), made.items["bias"][4], made.items["count"][4]
    factors, usual = made.items["factors"][4].copy(), made.overall[:3].copy()

    made.predict_then_learn(np.array([0]), np.array([4]), np.array([last + 3 * 60_000]), np.array([2.0]))

    keep = np.array([1.0, 4.0**-rates.session_power, *[math.sqrt(1 - rates.taste_drift)] * (2 + F)])
    prior, start = rates.variances(F), made._start_D.astype(np.float64)
    expected = before * np.outer(keep, keep) + np.diag(prior * (1 - keep**2))
    expected[0, 0] += rates.bias_drift * rates.bias_variance
    mean = start + keep * (mean - start)
    reading = np.array([1.0, 1.0, bias, np.log1p(count) - made.overall[5], *factors])
    gain = expected @ reading / (1 + reading @ expected @ reading)
    error = (0.25 - usual[1]) / math.sqrt(usual[2]) - bias - mean @ reading
    assert expected[0, 0] < rates.bias_variance
    np.testing.assert_allclose(covariance(made, 0), expected - np.outer(gain, expected @ reading), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(made.users["mean"][0], mean + gain * error, rtol=1e-4, atol=1e-5)


def test_doubt_in_a_bias_never_exceeds_a_strangers_however_long_the_user_is_known():
    made = head(RatingRates(bias_drift=0.9))

    learn(made, stream(4, events=600))

    for user in range(USERS):
        values = np.linalg.eigvalsh(covariance(made, user))
        assert values.min() > 0
        assert covariance(made, user)[0, 0] <= made.rates.bias_variance


@pytest.mark.parametrize("place", range(8))
def test_the_gradient_by_item_factors_is_that_of_half_the_squared_error_and_the_pull_to_zero(place):
    rates = RatingRates(item_rate=1.0)
    made = head(rates, remembered=0)
    users, items, times, ratings = stream(5)
    learn(made, (users, items, times, ratings))
    user, item = place % USERS, place
    time, rating = int(times.max()), 1.0 + place % 5
    mean, deviation = made.overall[MEAN], math.sqrt(made.overall[VARIANCE])
    bias, count = made.items["bias"][item], made.items["count"][item]
    factors = torch.tensor(made.items["factors"][item], dtype=torch.float64, requires_grad=True)
    gap = (time - int(made.users["time"][user])) / 60_000
    keep = np.array([1.0, (1 + gap) ** -rates.session_power, *[math.sqrt(1 - rates.taste_drift)] * (2 + F)])
    state = torch.tensor(made._start_D + keep * (made.users["mean"][user] - made._start_D), dtype=torch.float64)
    squares, before = made.items["squares"][item], made.items["factors"][item].astype(np.float64)

    made.predict_then_learn(*(np.array([value]) for value in (user, item, time, rating)))

    own = torch.tensor([1.0, 1.0, bias, math.log1p(count) - made.overall[5]], dtype=torch.float64)
    error = ((rating - 1) / 4 - mean) / deviation - bias - state[:FACTORS] @ own - state[FACTORS:] @ factors
    (error**2 / 2 + rates.shrink * (factors**2).sum() / 2).backward()
    gradient = -factors.grad.numpy()
    adagrad = gradient / math.sqrt(squares + (gradient**2).mean())
    np.testing.assert_allclose(made.items["factors"][item] - before, adagrad, rtol=1e-3, atol=1e-5)


def test_neighbours_vote_with_the_sign_of_what_went_together():
    made = head(users=400, items=4, pair_bits=10)
    draw = np.random.default_rng(6)
    users = np.repeat(np.arange(400), 3)
    likes = draw.random(400) < 0.5
    ratings = np.where(np.stack([likes, likes, ~likes], axis=1), 5.0, 1.0).ravel()  # 0 with 1, both against 2
    learn(made, (users, np.tile([0, 1, 2], 400), np.arange(1200) * 1000, ratings))

    state = made.pairs.state()

    sums = {key >> 32 | (key & 0xFFFFFFFF) << 8: value for key, value in zip(state["keys"], state["sums"], strict=True)}
    assert sums[0 | 1 << 8] > 50
    assert sums[0 | 2 << 8] < -50
    assert sums[1 | 2 << 8] < -50
    assert made.stack_weights_S[9] > 0.1


def test_pairs_that_share_one_slot_wear_each_other_down_and_the_frequent_one_holds_it():
    made = head(users=300, items=4, pair_bits=0)
    often = (np.repeat(np.arange(250), 2), np.tile([0, 1], 250))
    seldom = (np.repeat(np.arange(250, 260), 2), np.tile([2, 3], 10))
    users, items = (np.concatenate(arrays) for arrays in zip(seldom, often, strict=True))

    learn(made, (users, items, np.zeros(520, dtype=int), 1.0 + np.arange(520) % 5))

    assert made.pairs.state()["keys"].tolist() == [1]  # 0 and 1
    assert made.pairs.counts[0] > 50


@pytest.mark.parametrize("kernel", [take_back_pairs, interpreted(take_back_pairs)], ids=["compiled", "interpreted"])
def test_what_users_gave_to_pairs_is_taken_back_as_if_only_others_had_rated(kernel):
    made, others = (head(users=40, items=9, remembered=20, pair_bits=12) for _ in range(2))
    users, items, times, ratings = stream(8, events=300, users=40)
    learn(made, (users, items, times, ratings))
    gone = np.array([3, 17, 20])
    others.pairs.load(made.pairs.state())
    for user in gone:
        held = min(int(made.users["count"][user]), 20)
        remembered = list(zip(made.users["items"][user, :held], made.users["residuals"][user, :held], strict=True))
        for r, (one, residual) in enumerate(remembered):
            for other, another in remembered[:r]:
                slots, _ = others.pairs._places(*np.sort([[one], [other]], axis=0).astype(np.int64))
                others.pairs.sums[slots] -= residual * another
                others.pairs.counts[slots] -= 1

    items_NR, residuals_NR = made.users["items"][gone], made.users["residuals"][gone]
    kernel(items_NR, residuals_NR, made.pairs.keys, made.pairs.sums, made.pairs.counts, made.pairs.shift)

    left = others.pairs.counts >= LEAST_COUNT
    np.testing.assert_array_equal(made.pairs.counts, np.where(left, others.pairs.counts, 0))
    np.testing.assert_allclose(made.pairs.sums, np.where(left, others.pairs.sums, 0), atol=1e-5)
    assert (made.pairs.keys[~left] == -1).all()


@pytest.mark.parametrize("kernel", [number_rows, interpreted(number_rows)], ids=["compiled", "interpreted"])
def test_rows_are_numbered_by_first_mention_and_the_room_is_left_as_it_was(kernel):
    room, distinct, places = np.full(9, -1, dtype=np.int32), np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64)

    size = kernel(np.array([7, 2, 7, 0, 2]), room, distinct, places)

    assert distinct[:size].tolist() == [7, 2, 0]
    assert places.tolist() == [0, 1, 0, 2, 1]
    assert (room == -1).all()


@pytest.mark.parametrize("kernel", [take_rows, interpreted(take_rows)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("width", [3, 8, 21])
def test_rows_are_taken_as_they_are(kernel, width):
    rows = np.random.default_rng(width).normal(size=(30, width)).astype(np.float32)
    wanted, taken = np.array([7, 0, 29, 7, 3, 1, 2, 28, 11]), np.zeros((9, width), dtype=np.float32)

    kernel(rows, wanted, taken)

    np.testing.assert_array_equal(taken, rows[wanted])


@pytest.mark.parametrize("width", [3, 16, 19])
def test_factors_move_by_adagrad_and_the_kernel_says_whether_all_are_finite(width):
    draw, rows = np.random.default_rng(width), np.array([4, 0, 7])
    gradient, factors = draw.normal(size=(3, width)).astype(np.float32), draw.normal(size=(9, width)).astype(np.float32)
    squares = draw.random(9)
    squares_after, factors_after = squares.copy(), factors.copy()
    squares_after[rows] += np.square(gradient, dtype=np.float64).mean(1)
    factors_after[rows] += gradient * (0.1 / np.sqrt(squares_after[rows]))[:, None]
    gone = factors.copy()
    gone[7, 1] = np.nan

    for kernel in (move_factors, interpreted(move_factors)):
        assert not kernel(rows, gradient, 0.1, squares.copy(), gone.copy())
        moved_squares, moved = squares.copy(), factors.copy()
        assert kernel(rows, gradient, 0.1, moved_squares, moved)

        np.testing.assert_allclose(moved_squares, squares_after, rtol=1e-14)
        np.testing.assert_allclose(moved, factors_after, rtol=1e-6)
