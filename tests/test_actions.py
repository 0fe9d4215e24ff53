"""What each event means to the model."""

import pytest

from consumer.actions import to_model
from model.interactions import Forget, Interaction
from producer import events

WEIGHTS = {"click": 1.0, "purchase": 3.0, "dislike": -1.0}


def meaning(event):
    return to_model(event, WEIGHTS, default_weight=0.25, rating_weight=2.0)


@pytest.mark.parametrize(("action", "weight"), [("click", 1.0), ("purchase", 3.0), ("dislike", -1.0), ("hum", 0.25)])
def test_a_click_weighs_as_much_as_its_action(action, weight):
    event = events.Click(user_id="u", item_id="i", timestamp=7, action=action)

    assert meaning(event) == Interaction("u", "i", 7, weight, None)


def test_a_rating_keeps_its_number_and_has_the_weight_of_ratings():
    event = events.Rating(user_id="u", item_id="i", timestamp=7, rating=0.5)

    assert meaning(event) == Interaction("u", "i", 7, 2.0, 0.5)


def test_what_a_user_writes_and_the_context_go_along():
    said = {"text": "red shoes", "context": {"device": "phone", "hour": 7}}
    search = events.Click(user_id="u", item_id="i", timestamp=7, action="search", **said)
    review = events.Rating(user_id="u", item_id="i", timestamp=7, rating=0.5, **said)

    assert meaning(search) == Interaction("u", "i", 7, 0.25, None, "red shoes", {"device": "phone", "hour": 7})
    assert meaning(review) == Interaction("u", "i", 7, 2.0, 0.5, "red shoes", {"device": "phone", "hour": 7})


def test_a_forget_names_its_user():
    assert meaning(events.Forget(user_id="u", timestamp=7)) == Forget("u")


def test_an_impression_has_no_effect():
    event = events.Impression(user_id="u", recommendation_id="r", items=["i"], timestamp=7)

    assert meaning(event) is None
