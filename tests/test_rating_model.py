"""What every rating model promises, asked of each of them."""

import numpy as np
import pytest
from test_ratings import MINUTE, assert_unchanged, copied, predict, stream

from model.factors import FactorRates
from model.rating_choice import RATING_MODELS, make_rating_model
from model.ratings import RatingRates

each_model = pytest.mark.parametrize("name", RATING_MODELS)


def new(name, users=6, items=8, lowest=0.5, highest=5.0, seed=1):
    made = make_rating_model(name, 3, lowest, highest, seed=seed, rates=RatingRates(), factor_rates=FactorRates())
    made.grow(users, items)
    return made


def test_a_model_that_there_is_none_of_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="rating model: expected one of neighbours, factors, got 'magic'"):
        new("magic")


@each_model
def test_the_first_prediction_is_the_middle_and_all_stay_on_the_scale(name):
    predictions, medians = predict(new(name), stream(7), 32)

    assert predictions[0] == 2.75
    assert ((predictions >= 0.5) & (predictions <= 5.0)).all()
    assert ((medians >= 0.5) & (medians <= 5.0)).all()


@each_model
def test_the_same_seed_gives_the_same_state_and_another_seed_another(name):
    made, again, other = new(name), new(name), new(name, seed=2)

    for one in (made, again, other):
        predict(one, stream(8), 50)

    assert_unchanged(again, copied(made))
    assert any(not np.array_equal(array, other.state()[part]) for part, array in made.state().items())


@each_model
@pytest.mark.parametrize("constant", [0.5, 3.0, 5.0])
def test_constant_ratings_are_predicted_as_they_are_from_the_second_on(name, constant):
    users, items, times, ratings = stream(8)

    predictions, medians = predict(new(name), (users, items, times, np.full_like(ratings, constant)), 32)

    np.testing.assert_allclose(predictions[1:], constant, rtol=1e-12)
    np.testing.assert_array_equal(medians[1:], constant)


@each_model
@pytest.mark.parametrize(
    "times",
    [np.zeros(400, dtype=np.int64), np.arange(400)[::-1] * MINUTE, np.where(np.arange(400) % 2, 2**63 - 1, -(2**63))],
    ids=["equal", "backwards", "to and fro over the whole range"],
)
def test_times_that_stand_run_back_or_leap_are_fine(name, times):
    made = new(name)
    users, items, _, ratings = stream(9)

    predictions, _ = predict(made, (users, items, times, ratings), 32)

    assert np.abs(predictions - ratings).mean() < 1.6
    assert all(np.isfinite(array).all() for array in made.state().values() if array.dtype.kind == "f")


@each_model
def test_another_scale_gives_the_same_predictions_stretched(name):
    users, items, times, ratings = stream(6)

    narrow, _ = predict(new(name), (users, items, times, ratings), 16)
    wide, _ = predict(new(name, lowest=0.0, highest=90.0), (users, items, times, (ratings - 0.5) * 20), 16)

    np.testing.assert_allclose(wide, (narrow - 0.5) * 20, rtol=1e-4, atol=1e-4)


@each_model
def test_a_rating_beyond_the_scale_is_learned_as_its_end(name):
    within, beyond = new(name), new(name)
    users, items, times, ratings = stream(10)

    predict(within, (users, items, times, np.clip(ratings, 2.0, 5.0)), 32)
    predict(beyond, (users, items, times, np.where(ratings == 5.0, 1e300, np.clip(ratings, 2.0, 5.0))), 32)

    assert_unchanged(beyond, copied(within))


@each_model
def test_an_empty_batch_changes_nothing(name):
    made = new(name)
    predict(made, stream(11), 50)
    before = copied(made)

    predictions, medians = made.predict_then_learn(*(array[:0] for array in stream(12)))

    assert predictions.shape == medians.shape == (0,)
    assert_unchanged(made, before)


@each_model
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_rating_that_is_not_finite_raises_and_changes_nothing(name, bad):
    made = new(name)
    predict(made, stream(13), 50)
    before = copied(made)
    users, items, times, ratings = stream(14, events=10)
    ratings[7] = bad

    with pytest.raises(FloatingPointError, match="ratings have to be finite, got"):
        made.predict_then_learn(users, items, times, ratings)

    assert_unchanged(made, before)


@each_model
@pytest.mark.parametrize("gone", ["clear_users", "let_go"])
def test_a_user_who_is_gone_has_the_row_of_a_stranger(name, gone):
    made = new(name)
    users, items, times, ratings = stream(17)
    predict(made, (users % 5, items, times, ratings), 50)  # nobody is user 5

    getattr(made, gone)(np.array([4, 2]))

    after = made.state()
    for part in (part for part in after if part.startswith("user_") or part in ("median_seen", "median_expected")):
        np.testing.assert_array_equal(after[part][4], after[part][5], err_msg=part)


@each_model
def test_saved_and_loaded_it_goes_on_alike_while_it_grows(name):
    never_saved, loaded = new(name), new(name, users=0, items=0)
    predict(never_saved, stream(20), 30)

    loaded.load(copied(never_saved))
    for made in (never_saved, loaded):
        made.grow(100, 90)
    expected, found = (predict(made, stream(21, users=100, items=90), 30) for made in (never_saved, loaded))

    assert np.array_equal(expected, found)
    assert_unchanged(loaded, copied(never_saved))


@each_model
def test_rows_start_alike_whether_they_come_at_once_or_one_by_one(name):
    at_once, one_by_one = new(name, 40, 50), new(name, 0, 0)

    for rows in range(1, 51):
        one_by_one.grow(min(rows, 40), rows)

    assert_unchanged(one_by_one, copied(at_once))
