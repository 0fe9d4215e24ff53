"""The rating head: user state event by event, item factors once a batch, and what it refuses."""

import numpy as np
import pytest

from model.ratings import RatingHead, RatingRates


def head(users=6, items=8, lowest=0.5, highest=5.0, rates=None, factors=3, seed=1):
    made = RatingHead(factors, lowest, highest, seed=seed, rates=rates)
    made.grow(users, items)
    return made


def stream(seed, events=400, users=6, items=8):
    draw = np.random.default_rng(seed)
    return draw.integers(users, size=events), draw.integers(items, size=events), draw.integers(1, 11, size=events) / 2


def predict(made, rated, batch_size):
    size = len(rated[0])
    parts = [
        made.predict_then_learn(*(array[at : at + batch_size] for array in rated)) for at in range(0, size, batch_size)
    ]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def test_the_first_prediction_is_near_the_middle_and_all_stay_on_the_scale():
    predictions, medians = predict(head(), stream(1), 32)

    assert abs(predictions[0] - 2.75) < 0.1
    assert ((predictions >= 0.5) & (predictions <= 5.0)).all()
    assert ((medians >= 0.5) & (medians <= 5.0)).all()


@pytest.mark.parametrize("batch_size", [7, 64, 400])
def test_with_still_item_factors_the_batch_size_does_not_matter(batch_size):
    still = RatingRates(item_rate=0.0)

    one_by_one = predict(head(rates=still), stream(2), 1)
    batched = predict(head(rates=still), stream(2), batch_size)

    np.testing.assert_allclose(batched, one_by_one, rtol=1e-12)


def test_another_scale_gives_the_same_predictions_stretched():
    users, items, ratings = stream(3)

    narrow, _ = predict(head(), (users, items, ratings), 16)
    wide, _ = predict(head(lowest=0.0, highest=90.0), (users, items, (ratings - 0.5) * 20), 16)

    np.testing.assert_allclose(wide, (narrow - 0.5) * 20, rtol=1e-6, atol=1e-6)


def test_an_item_rated_by_hundreds_in_one_batch_does_not_diverge():
    made = head()
    users = np.arange(2000) % 6
    ratings = np.where(users < 3, 5.0, 0.5)

    for _ in range(20):
        predictions, _ = made.predict_then_learn(users, np.zeros(2000, dtype=np.int64), ratings)

    assert np.abs(predictions - ratings).mean() < 0.5
    assert np.abs(made.item_factors_IF).max() < 10


def test_an_empty_batch_changes_nothing():
    made = head()
    before = {name: array.copy() for name, array in made.state().items()}

    predictions, medians = made.predict_then_learn(*(array[:0] for array in stream(4)))

    assert predictions.shape == medians.shape == (0,)
    assert all(np.array_equal(made.state()[name], array) for name, array in before.items())


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_rating_that_is_not_finite_raises_and_changes_nothing(bad):
    made = head()
    predict(made, stream(5), 50)
    before = {name: array.copy() for name, array in made.state().items()}
    users, items, ratings = stream(6, events=10)
    ratings[7] = bad

    with pytest.raises(FloatingPointError, match="ratings have to be finite, got"):
        made.predict_then_learn(users, items, ratings)

    assert all(np.array_equal(made.state()[name], array) for name, array in before.items())


def test_rates_at_which_predictions_run_away_raise_before_items_are_touched():
    made = head(rates=RatingRates(user_floor=1e200, item_floor=1e200))
    before = made.item_factors_IF.copy()

    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(FloatingPointError, match="diverged"):
        predict(made, stream(7), 400)

    assert np.array_equal(made.item_factors_IF, before)


def test_a_cleared_user_is_predicted_as_a_stranger():
    made, twin = head(rates=RatingRates(item_rate=0.0)), head(rates=RatingRates(item_rate=0.0))
    users, items, ratings = stream(8)
    for one in (made, twin):
        one.predict_then_learn(np.where(users == 5, 4, users), items, ratings)  # nobody is user 5

    made.clear_user(4)
    of_cleared, _ = made.predict_then_learn(np.array([4, 4]), np.array([2, 3]), np.array([1.0, 4.0]))
    of_stranger, _ = twin.predict_then_learn(np.array([5, 5]), np.array([2, 3]), np.array([1.0, 4.0]))

    assert of_cleared.tolist() == of_stranger.tolist()


def test_saved_and_loaded_it_goes_on_alike_while_it_grows():
    never_saved, loaded = head(), head(users=0, items=0)
    predict(never_saved, stream(9), 30)
    state = {name: array.copy() for name, array in never_saved.state().items()}
    kept = {name: array.copy() for name, array in state.items()}

    loaded.load(state)
    for made in (never_saved, loaded):
        made.grow(100, 90)
    expected, found = (predict(made, stream(10, users=100, items=90), 30) for made in (never_saved, loaded))

    assert np.array_equal(expected, found)
    assert all(np.array_equal(state[name], array) for name, array in kept.items())


def test_factors_of_another_width_are_refused():
    with pytest.raises(ValueError, match="saved rating factors have width 3, the settings ask for 5"):
        head(factors=5).load(head().state())
