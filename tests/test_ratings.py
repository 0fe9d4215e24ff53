"""The rating head: what it learns, that it stays on the scale, what it forgets, and what it refuses."""

import numpy as np
import pytest

from model.ratings import RatingHead, RatingRates

MINUTE = 60_000


def head(users=6, items=8, lowest=0.5, highest=5.0, rates=None, factors=3, seed=1, **sizes):
    made = RatingHead(factors, lowest, highest, seed=seed, rates=rates, **{"pair_bits": 10, **sizes})
    made.grow(users, items)
    return made


def stream(seed, events=400, users=6, items=8):
    draw = np.random.default_rng(seed)
    times = np.cumsum(draw.integers(0, 5 * MINUTE, size=events))
    return (
        draw.integers(users, size=events),
        draw.integers(items, size=events),
        times,
        draw.integers(1, 11, size=events) / 2,
    )


def planted(seed, events=30_000, users=300, items=200):
    """Biases and two factors, noise of half a star; popular items come more often."""
    draw = np.random.default_rng(seed)
    of_users, of_items = draw.normal(scale=0.4, size=users), draw.normal(scale=0.5, size=items)
    left, right = draw.normal(size=(users, 2)), draw.normal(size=(items, 2))
    who, what = draw.integers(users, size=events), (items * draw.random(events) ** 2).astype(np.int64)
    taste = 0.4 * (left[who] * right[what]).sum(1)
    ratings = 3.2 + of_users[who] + of_items[what] + taste + draw.normal(scale=0.5, size=events)
    return who, what, np.arange(events) * MINUTE, np.clip(np.round(2 * ratings) / 2, 0.5, 5.0)


def predict(made, rated, batch_size):
    size = len(rated[0])
    parts = [
        made.predict_then_learn(*(array[at : at + batch_size] for array in rated)) for at in range(0, size, batch_size)
    ]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def copied(made):
    return {name: array.copy() for name, array in made.state().items()}


def assert_unchanged(made, before):
    after = made.state()
    assert after.keys() == before.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


# --- what it learns ---


def test_planted_tastes_are_learned_beyond_biases_and_the_median_has_the_smaller_absolute_error():
    rated, late = planted(1), slice(15_000, None)

    with_factors, medians = predict(head(300, 200), rated, 512)
    biases_only, _ = predict(head(300, 200, rates=RatingRates(factor_variance=1e-9), remembered=0), rated, 512)

    ratings = rated[3]
    assert np.square(with_factors - ratings)[late].mean() < 0.65 * np.square(biases_only - ratings)[late].mean()
    assert np.sqrt(np.square(with_factors - ratings)[late].mean()) < 0.62  # the noise and its rounding are .52
    assert np.abs(medians - ratings)[late].mean() < np.abs(with_factors - ratings)[late].mean()


def test_from_one_event_to_512_a_batch_the_error_grows_by_less_than_two_percent():
    rated = planted(2, events=6_000, users=100, items=80)

    errors = [np.abs(predict(head(100, 80), rated, size)[0] - rated[3]).mean() for size in (1, 512)]

    assert errors[1] < 1.02 * errors[0]


def test_a_mood_of_the_session_is_followed_at_once_and_gone_after_a_day():
    made = head(40, 50)
    draw = np.random.default_rng(3)
    for visit in range(1500):  # every visit has a mood of its own
        ratings = np.clip(2.75 + draw.choice([-1.5, 1.5]) + draw.normal(scale=0.2, size=4), 0.5, 5.0)
        times = np.full(4, visit * 24 * 60 * MINUTE) + np.arange(4) * 1000
        made.predict_then_learn(np.full(4, visit % 40), draw.integers(50, size=4), times, ratings)
    now = 1500 * 24 * 60 * MINUTE

    def fifth_rating(gap):
        twin = head(40, 50)
        twin.load(copied(made))
        twin.predict_then_learn(np.full(4, 7), np.arange(4), now + np.arange(4) * 1000, np.full(4, 4.25))
        return twin.predict_then_learn(np.array([7]), np.array([9]), np.array([now + gap]), np.array([4.0]))[0][0]

    assert fifth_rating(5_000) > 3.7
    assert fifth_rating(24 * 60 * MINUTE) < 3.4  # the visit's mood was 4.25, the user's mean over all of them 2.75


def test_with_all_times_equal_it_learns_nearly_as_well():
    users, items, times, ratings = planted(4, events=15_000)

    spread, _ = predict(head(300, 200), (users, items, times, ratings), 64)
    equal, _ = predict(head(300, 200), (users, items, np.zeros_like(times), ratings), 64)

    assert np.abs(equal - ratings).mean() < 1.02 * np.abs(spread - ratings).mean()


@pytest.mark.parametrize("batch_size", [7, 64, 400])
def test_with_still_item_factors_the_batch_size_does_not_matter(batch_size):
    still = RatingRates(item_rate=0.0)

    one_by_one = predict(head(rates=still), stream(5), 1)
    batched = predict(head(rates=still), stream(5), batch_size)

    np.testing.assert_allclose(batched, one_by_one, rtol=1e-12)


def test_another_scale_gives_the_same_predictions_stretched():
    users, items, times, ratings = stream(6)

    narrow, _ = predict(head(), (users, items, times, ratings), 16)
    wide, _ = predict(head(lowest=0.0, highest=90.0), (users, items, times, (ratings - 0.5) * 20), 16)

    np.testing.assert_allclose(wide, (narrow - 0.5) * 20, rtol=1e-4, atol=1e-4)


# --- odd streams ---


def test_the_first_prediction_is_the_middle_and_all_stay_on_the_scale():
    predictions, medians = predict(head(), stream(7), 32)

    assert predictions[0] == 2.75
    assert ((predictions >= 0.5) & (predictions <= 5.0)).all()
    assert ((medians >= 0.5) & (medians <= 5.0)).all()


@pytest.mark.parametrize("constant", [0.5, 3.0, 5.0])
def test_constant_ratings_are_predicted_as_they_are_from_the_second_on(constant):
    users, items, times, ratings = stream(8)

    predictions, medians = predict(head(), (users, items, times, np.full_like(ratings, constant)), 32)

    np.testing.assert_allclose(predictions[1:], constant, rtol=1e-12)
    np.testing.assert_array_equal(medians[1:], constant)


@pytest.mark.parametrize(
    "times",
    [
        np.zeros(400, dtype=np.int64),
        np.arange(400)[::-1] * MINUTE,
        np.where(np.arange(400) % 2, 2**63 - 1, 0),
        np.where(np.arange(400) % 2, 2**63 - 1, -(2**63)),
    ],
    ids=["equal", "backwards", "to and fro", "to and fro over the whole range"],
)
def test_times_that_stand_run_back_or_leap_are_fine(times):
    made = head()
    users, items, _, ratings = stream(9)

    predictions, _ = predict(made, (users, items, times, ratings), 32)

    assert np.abs(predictions - ratings).mean() < 1.6
    assert all(np.isfinite(array).all() for array in made.state().values() if array.dtype.kind == "f")


def test_a_rating_beyond_the_scale_is_learned_as_its_end():
    within, beyond = head(), head()
    users, items, times, ratings = stream(10)

    predict(within, (users, items, times, np.clip(ratings, 2.0, 5.0)), 32)
    predict(beyond, (users, items, times, np.where(ratings == 5.0, 1e300, np.clip(ratings, 2.0, 5.0))), 32)

    assert_unchanged(beyond, copied(within))


def test_an_item_rated_by_hundreds_in_one_batch_does_not_diverge():
    made = head()
    users = np.arange(2000) % 6
    ratings = np.where(users < 3, 5.0, 0.5)

    for step in range(20):
        item, times = np.zeros(2000, dtype=np.int64), np.arange(2000) + 2000 * step
        predictions, _ = made.predict_then_learn(users, item, times, ratings)

    assert np.abs(predictions - ratings).mean() < 0.5
    assert np.abs(made.items["factors"]).max() < 10


def test_an_empty_batch_changes_nothing():
    made = head()
    predict(made, stream(11), 50)
    before = copied(made)

    predictions, medians = made.predict_then_learn(*(array[:0] for array in stream(12)))

    assert predictions.shape == medians.shape == (0,)
    assert_unchanged(made, before)


# --- what it refuses ---


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_rating_that_is_not_finite_raises_and_changes_nothing(bad):
    made = head()
    predict(made, stream(13), 50)
    before = copied(made)
    users, items, times, ratings = stream(14, events=10)
    ratings[7] = bad

    with pytest.raises(FloatingPointError, match="ratings have to be finite, got"):
        made.predict_then_learn(users, items, times, ratings)

    assert_unchanged(made, before)


@pytest.mark.parametrize(
    "rates", [RatingRates(item_floor=1e200), RatingRates(item_rate=1e39)], ids=["in the batch", "at its end"]
)
def test_rates_at_which_numbers_run_away_raise_and_change_nothing(rates):
    made = head(rates=rates)
    sane = head()
    predict(sane, stream(15), 50)
    made.load(copied(sane))
    before = copied(made)

    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(FloatingPointError, match="diverged"):
        predict(made, stream(16), 400)

    assert_unchanged(made, before)


# --- forgetting, saving, size ---


def test_a_cleared_user_is_predicted_as_a_stranger():
    made, twin = (head(rates=RatingRates(item_rate=0.0), remembered=0) for _ in range(2))  # and so without pairs
    users, items, times, ratings = stream(17)
    for one in (made, twin):
        one.predict_then_learn(np.where(users == 5, 4, users), items, times, ratings)  # nobody is user 5

    made.clear_users(np.array([4]))
    two = np.array([2, 3]), np.array([times[-1], times[-1] + 1]), np.array([1.0, 4.0])
    of_cleared = made.predict_then_learn(np.array([4, 4]), *two)
    of_stranger = twin.predict_then_learn(np.array([5, 5]), *two)

    np.testing.assert_array_equal(of_cleared, of_stranger)


def test_a_cleared_user_is_gone_from_the_rows_and_from_the_pairs():
    made = head(pair_bits=16)
    users, items, times, ratings = stream(18)
    predict(made, (users % 5, items, times, ratings), 50)  # nobody is user 5
    before = copied(made)
    made.predict_then_learn(np.full(30, 5), np.arange(30) % 8, times[:30], ratings[:30])
    assert (made.pairs.state()["counts"] > 0).sum() >= len(before["pair_counts"])

    made.clear_users(np.array([5]))

    after = made.state()
    for name in (name for name in after if name.startswith("user_") or name in ("median_seen", "median_expected")):
        np.testing.assert_array_equal(after[name][5], before[name][5], err_msg=name)
    np.testing.assert_array_equal(after["pair_keys"], before["pair_keys"])
    np.testing.assert_allclose(after["pair_sums"], before["pair_sums"], atol=1e-4)
    np.testing.assert_array_equal(after["pair_counts"], before["pair_counts"])


def test_clearing_a_user_who_rated_nothing_changes_nothing():
    made = head()
    users, items, times, ratings = stream(19)
    predict(made, (users % 5, items, times, ratings), 50)
    before = copied(made)

    made.clear_users(np.array([5]))

    assert_unchanged(made, before)


def test_saved_and_loaded_it_goes_on_alike_while_it_grows():
    never_saved, loaded = head(), head(users=0, items=0)
    predict(never_saved, stream(20), 30)
    state = copied(never_saved)
    kept = {name: array.copy() for name, array in state.items()}

    loaded.load(state)
    for made in (never_saved, loaded):
        made.grow(100, 90)
    expected, found = (predict(made, stream(21, users=100, items=90), 30) for made in (never_saved, loaded))

    assert np.array_equal(expected, found)
    assert_unchanged(loaded, copied(never_saved))
    assert all(np.array_equal(state[name], array) for name, array in kept.items())


def test_rows_start_alike_whether_they_come_at_once_or_one_by_one():
    at_once, one_by_one = head(40, 50), head(0, 0)

    for rows in range(1, 51):
        one_by_one.grow(min(rows, 40), rows)

    assert_unchanged(one_by_one, copied(at_once))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"factors": 5}, "saved rating factors have width 3, the settings ask for 5"),
        ({"remembered": 7}, "saved ratings remembered a user are 50, the settings ask for 7"),
    ],
)
def test_a_state_of_another_shape_is_refused_and_nothing_of_it_taken(other, message):
    saved, made = head(), head(**other)
    predict(saved, stream(22), 50)
    before = copied(made)

    with pytest.raises(ValueError, match=message):
        made.load(saved.state())

    assert_unchanged(made, before)


def test_a_user_takes_fourteen_hundred_bytes_however_much_is_rated():
    made = RatingHead(16, 1.0, 5.0, seed=0)
    made.grow(10, 100)
    draw = np.random.default_rng(23)

    for step in range(20):
        ratings = draw.integers(1, 6, size=500).astype(float)
        made.predict_then_learn(
            np.zeros(500, dtype=np.int64), draw.integers(100, size=500), np.full(500, step), ratings
        )

    held = sum(array.nbytes for name, array in made.state().items() if name.startswith(("user_", "median_seen")))
    assert made.bytes_per_user == 1400
    assert held + made.state()["median_expected"].nbytes == 1400 * 10
