"""The lean rating model: what it learns, what it refuses, and what a user takes."""

import numpy as np
import pytest
from test_ratings import MINUTE, assert_unchanged, copied, planted, predict, stream

from model.factors import FactorHead, FactorRates


def head(users=6, items=8, factors=3, rates=None):
    made = FactorHead(factors, 0.5, 5.0, seed=1, rates=rates)
    made.grow(users, items)
    return made


def test_planted_tastes_are_learned_beyond_biases():
    rated, late = planted(1), slice(15_000, None)

    with_factors, medians = predict(head(300, 200, factors=16), rated, 512)
    biases_only, _ = predict(head(300, 200, rates=FactorRates(rate=1e-9)), rated, 512)

    ratings = rated[3]
    assert np.square(with_factors - ratings)[late].mean() < 0.75 * np.square(biases_only - ratings)[late].mean()
    assert np.abs(medians - ratings)[late].mean() < np.abs(with_factors - ratings)[late].mean()


@pytest.mark.parametrize("batch_size", [7, 64, 400])
def test_the_batch_size_does_not_matter(batch_size):
    one_by_one, batched = head(), head()

    expected = predict(one_by_one, stream(5), 1)
    found = predict(batched, stream(5), batch_size)

    np.testing.assert_array_equal(found, expected)
    assert_unchanged(batched, copied(one_by_one))


def test_a_mood_of_the_session_is_followed_at_once_and_gone_after_a_day():
    made = head(1, 50)
    zeros, items = np.zeros(40, dtype=np.int64), np.arange(40)
    made.predict_then_learn(zeros, items, np.arange(40) * 24 * 60 * MINUTE, np.where(items % 2, 2.0, 3.5))
    now = 40 * 24 * 60 * MINUTE
    made.predict_then_learn(zeros[:6], items[:6], now + items[:6] * 1000, np.full(6, 4.5))

    def next_rating(gap):
        twin = head(1, 50)
        twin.load(copied(made))
        return twin.predict_then_learn(zeros[:1], np.array([45]), np.array([now + gap]), np.array([4.0]))[0][0]

    assert next_rating(10_000) > next_rating(24 * 60 * MINUTE) + 0.3


def test_rates_too_high_by_far_do_not_overshoot():
    made, rated = head(300, 200, rates=FactorRates(rate=30.0)), planted(2, events=8_000)

    predictions, _ = predict(made, rated, 512)

    assert np.isfinite(predictions).all()
    assert np.abs(made.items["row"]).max() < 1e3


@pytest.mark.parametrize(
    "rates", [FactorRates(item_floor=1e200), FactorRates(slope_rate=1e39)], ids=["an item", "a user"]
)
def test_rates_at_which_numbers_run_away_raise_and_change_nothing(rates):
    made, sane = head(rates=rates), head()
    predict(sane, stream(15), 50)
    made.load(copied(sane))
    before = copied(made)

    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(FloatingPointError, match="lower its rates"):
        predict(made, stream(16), 400)

    assert_unchanged(made, before)


def test_a_state_of_another_width_is_refused_and_nothing_of_it_taken():
    saved, made = head(), head(factors=5)
    predict(saved, stream(22), 50)
    before = copied(made)

    with pytest.raises(ValueError, match="saved rating factors have width 3, the settings ask for 5"):
        made.load(saved.state())

    assert_unchanged(made, before)


def test_a_user_takes_156_bytes():
    made = FactorHead(16, 1.0, 5.0, seed=0)
    made.grow(10, 100)

    held = sum(array.nbytes for name, array in made.state().items() if name.startswith("user_"))

    assert held == 92 * 10
    assert made.bytes_per_user == 92 + 64
