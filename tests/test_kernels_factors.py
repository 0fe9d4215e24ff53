"""The kernel of matrix factors: one event at a time by the book, compiled and interpreted alike, and undone exactly."""

import numpy as np
import pytest

from model.factors import FactorHead, FactorRates
from model.kernels.compiled import interpreted
from model.kernels.factors import (
    BIAS,
    ITEM_FACTORS,
    ITEM_LOG_COUNT,
    ITEM_RATED,
    POPULARITY,
    RATED,
    SESSION,
    SLOPE,
    SLOWEST_MEAN,
    USER_FACTORS,
    predict_then_learn,
    put_back,
)

USERS, ITEMS = 4, 9


def head(factors=3, rates=None):
    made = FactorHead(factors, 1.0, 5.0, seed=1, rates=rates)
    made.grow(USERS, ITEMS)
    return made


def stream(seed, events=120):
    draw = np.random.default_rng(seed)
    times = np.cumsum(draw.integers(0, 400_000, size=events))
    ratings = draw.integers(1, 6, size=events).astype(np.float64)
    return draw.integers(USERS, size=events), draw.integers(ITEMS, size=events), times, ratings


def learn(made, rated, batch_size=30):
    return np.hstack(
        [
            made.predict_then_learn(*(array[at : at + batch_size] for array in rated))
            for at in range(0, len(rated[0]), batch_size)
        ]
    )


def by_the_book(factors, rates, rated):
    """Predictions at the mean, 0 to 1: every part a dictionary or an array of its own, in double precision."""
    made = head(factors)
    p = made.users["row"][:USERS, USER_FACTORS:].astype(float)
    q = made.items["row"][:ITEMS, ITEM_FACTORS:].astype(float)
    bias_u, session, slope, taste, count_u = (np.zeros(USERS) for _ in range(5))
    bias_i, count_i, last = np.zeros(ITEMS), np.zeros(ITEMS), np.zeros(USERS)
    seen, usual, predictions = [], 0.0, []
    for u, i, time, rating in zip(*rated, strict=True):
        r = (rating - 1) / 4
        usual += max(SLOWEST_MEAN, 1 / (len(seen) + 1)) * (np.log1p(count_i[i]) - usual)
        fame = np.log1p(count_i[i]) - usual
        if count_u[u]:
            session[u] *= (1 + (time - last[u]) / 60_000) ** -3
        expected = bias_u[u] + session[u] + (1 + slope[u]) * bias_i[i] + taste[u] * fame + p[u] @ q[i]
        error = 0.0
        if seen:
            spread = max(np.std(seen), 0.05 * (max(seen) - min(seen)), 1e-6)
            predictions.append(np.clip(np.mean(seen) + spread * expected, min(seen), max(seen)))
            target = (r - np.mean(seen)) / max(spread, 0.05 * (max([*seen, r]) - min([*seen, r])))
            error = np.clip(target - expected, -5, 5)
        else:
            predictions.append(0.5)
        rate_u, rate_i = (
            rates.rate * max(rates.floor, rates.rise / (1 + rates.fall * count)) for count in (count_u[u], count_i[i])
        )
        pull = error / (1 + rate_u * q[i] @ q[i] + rate_i * p[u] @ p[u])
        p[u], q[i] = (
            p[u] + rate_u * (pull * q[i] - rates.shrink * p[u]),
            q[i] + rate_i * (pull * p[u] - rates.shrink * q[i]),
        )
        slope[u] += rates.slope_rate * error * bias_i[i]
        taste[u] += rates.popularity_rate * error * fame
        session[u] += rates.session_rate * error
        gain = max(rates.user_floor, 1 / (count_u[u] + 1 + rates.user_prior))
        bias_u[u] += gain * error - rates.bias_shrink * bias_u[u]
        bias_i[i] += max(rates.item_floor, 1 / (count_i[i] + 1 + rates.item_prior)) * error
        count_u[u] += 1
        count_i[i] += 1
        last[u] = time
        seen.append(r)
    columns = {BIAS: bias_u, RATED: count_u, SESSION: session, SLOPE: slope, POPULARITY: taste}
    return np.array(predictions), columns, p, {BIAS: bias_i, ITEM_RATED: count_i, ITEM_LOG_COUNT: np.log1p(count_i)}, q


@pytest.mark.parametrize("factors", [3, 8, 19])
def test_predictions_and_rows_are_those_of_the_book(factors):
    made, rated = head(factors), stream(1)

    predictions = learn(made, rated)[0]

    expected, user_columns, p, item_columns, q = by_the_book(factors, made.rates, rated)
    np.testing.assert_allclose(predictions, 1 + 4 * expected, rtol=1e-5)
    users, items = made.users["row"][:USERS], made.items["row"][:ITEMS]
    for rows, columns in ((users, user_columns), (items, item_columns)):
        for column, values in columns.items():
            np.testing.assert_allclose(rows[:, column], values, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(users[:, USER_FACTORS:], p, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(items[:, ITEM_FACTORS:], q, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("factors", [3, 16])
def test_compiled_and_interpreted_learn_the_same(factors, monkeypatch):
    of_compiled, of_interpreted, rated = head(factors), head(factors), stream(2)

    expected = learn(of_compiled, rated)
    for kernel in (predict_then_learn, put_back):
        monkeypatch.setattr(f"model.factors.{kernel.__name__}", interpreted(kernel))
    found = learn(of_interpreted, rated)

    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, array in of_compiled.state().items():
        np.testing.assert_allclose(of_interpreted.state()[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_what_was_learned_is_put_back_exactly_where_a_user_came_twice():
    made = head(11)
    learn(made, stream(3))
    before = {name: array.copy() for name, array in made.state().items()}
    users, items, times, ratings = stream(4, events=40)
    changed = [made.users["time"], made.users["row"], made.items["row"]]
    room = [np.zeros(40, dtype=np.int64), *(np.zeros((40, rows.shape[1]), np.float32) for rows in changed[1:])]

    learned = predict_then_learn(
        users, items, times, ratings / 5, made.rates.live(), made.overall.copy(), *changed, np.empty(40), *room
    )
    moved = not np.array_equal(made.users["row"][:USERS], before["user_row"])
    put_back(users, items, *changed, *room)

    assert learned == 40
    assert moved
    for name, array in before.items():
        np.testing.assert_array_equal(made.state()[name], array, err_msg=name)


def test_it_stops_at_the_event_whose_numbers_run_away():
    made = head(rates=FactorRates(item_floor=1e30))
    users, items = np.zeros(9, dtype=np.int64), np.arange(9) % 2

    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(FloatingPointError, match="diverged"):
        made.predict_then_learn(users, items, np.arange(9), np.arange(9) % 5 + 1.0)

    assert not made.users["row"][:, RATED].any()
