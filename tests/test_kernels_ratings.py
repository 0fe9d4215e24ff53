"""The rating kernels: compiled and interpreted agree, and the gathered gradient is that of autograd."""

import copy

import numpy as np
import torch

from model.kernels.compiled import interpreted
from model.kernels.ratings import predict_then_learn, read_at_median
from model.ratings import RatingRates

USERS, ITEMS, FACTORS, EVENTS = 4, 6, 3, 60


def arguments(seed, dtype=np.float32):
    draw = np.random.default_rng(seed)
    return {
        "users_B": draw.integers(USERS, size=EVENTS),
        "items_B": draw.integers(ITEMS, size=EVENTS),
        "ratings_B": draw.random(EVENTS) * 4,
        "rates": RatingRates().live(),
        "overall": np.array([6.0, 3.0, 2.0]),
        "user_bias_U": draw.normal(size=USERS),
        "user_mood_U": draw.normal(size=USERS),
        "user_count_U": draw.integers(50, size=USERS),
        "user_factors_UF": draw.normal(size=(USERS, FACTORS)).astype(dtype),
        "item_bias_I": draw.normal(size=ITEMS),
        "item_count_I": draw.integers(50, size=ITEMS),
        "item_factors_IF": draw.normal(size=(ITEMS, FACTORS)).astype(dtype),
        "start_F": draw.normal(size=FACTORS).astype(dtype),
        "gradient_IF": np.zeros((ITEMS, FACTORS), dtype=dtype),
        "predictions_B": np.zeros(EVENTS),
    }


def test_compiled_and_interpreted_learn_the_same():
    of_compiled = arguments(1)
    of_interpreted = copy.deepcopy(of_compiled)

    predict_then_learn(*of_compiled.values())
    interpreted(predict_then_learn)(*of_interpreted.values())

    for name, value in of_compiled.items():
        np.testing.assert_allclose(value, of_interpreted[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_prediction_is_mean_biases_factors_and_mood_before_the_event_is_learned():
    given = arguments(2, np.float64)
    user, item = given["users_B"][0], given["items_B"][0]
    expected = (
        2.0
        + given["user_bias_U"][user]
        + given["item_bias_I"][item]
        + given["user_factors_UF"][user] @ given["item_factors_IF"][item]
        + RatingRates().mood_weight * given["user_mood_U"][user]
    )

    interpreted(predict_then_learn)(*given.values())

    assert np.isclose(given["predictions_B"][0], expected)


def test_the_gradient_by_item_factors_is_that_of_half_the_squared_error_and_the_pull_to_zero():
    given = arguments(3, np.float64)
    rates = RatingRates()
    items = torch.tensor(given["item_factors_IF"], requires_grad=True)
    loss = torch.zeros((), dtype=torch.float64)
    for place in range(EVENTS):  # event by event, so that the user's side is what the event finds; it is not traced
        user, item = given["users_B"][place], given["items_B"][place]
        of_user = torch.tensor(given["user_factors_UF"][user].copy())
        one = {**given, "users_B": given["users_B"][place : place + 1], "items_B": given["items_B"][place : place + 1]}
        one |= {"ratings_B": given["ratings_B"][place : place + 1], "gradient_IF": np.zeros((ITEMS, FACTORS))}
        one |= {"predictions_B": np.zeros(1)}
        interpreted(predict_then_learn)(*one.values())
        without_factors = float(one["predictions_B"][0]) - (of_user @ items[item]).item()
        prediction = without_factors + of_user @ items[item]
        loss = loss + (given["ratings_B"][place] - prediction) ** 2 / 2 + rates.shrink * (items[item] ** 2).sum() / 2
    loss.backward()

    whole = arguments(3, np.float64)
    interpreted(predict_then_learn)(*whole.values())

    np.testing.assert_allclose(-whole["gradient_IF"], items.grad.numpy(), rtol=1e-9, atol=1e-9)


def median_arguments(seed):
    draw = np.random.default_rng(seed)
    ratings = draw.integers(1, 11, size=800) / 2
    return [np.clip(ratings + draw.normal(size=800), 0.5, 5.0), ratings, 0.5, 5.0, np.zeros((4, 10)), np.zeros(800)]


def test_compiled_and_interpreted_read_the_same_medians():
    of_compiled = median_arguments(4)
    of_interpreted = copy.deepcopy(of_compiled)

    read_at_median(*of_compiled)
    interpreted(read_at_median)(*of_interpreted)

    assert np.array_equal(of_compiled[4], of_interpreted[4])
    assert np.array_equal(of_compiled[5], of_interpreted[5])


def test_a_median_is_that_of_the_earlier_ratings_after_similar_predictions():
    predictions, ratings, *rest = median_arguments(5)

    read_at_median(predictions, ratings, *rest)

    bins = np.minimum(((predictions - 0.5) / 4.5 * 4).astype(int), 3)
    for place in range(0, 800, 7):
        earlier = ratings[:place][bins[:place] == bins[place]]
        lower_median = np.sort(earlier)[(len(earlier) - 1) // 2] if len(earlier) >= 20 else predictions[place]
        assert np.isclose(rest[3][place], lower_median)


def test_a_prediction_outside_the_scale_and_a_rating_at_its_ends_find_their_places():
    table, medians = np.zeros((4, 10)), np.zeros(2)

    read_at_median(np.array([-3.0, 99.0]), np.array([0.5, 5.0]), 0.5, 5.0, table, medians)

    assert medians.tolist() == [0.5, 5.0]
    assert table[0, 0] == table[3, 9] == 1
