"""What each event means to the model."""

import numpy as np
import pytest
from columns import events_of

from consumer.actions import DEFAULT_ACTION, Interpreter, to_model
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


def test_a_forget_names_its_user():
    assert meaning(events.Forget(user_id="u", timestamp=7)) == Forget("u")


def test_an_impression_has_no_effect():
    event = events.Impression(user_id="u", recommendation_id="r", items=["i"], timestamp=7)

    assert meaning(event) is None


def test_columns_mean_what_each_event_means():
    batch = [
        events.Click(user_id="u", item_id="i", timestamp=7),
        events.Impression(user_id="u", recommendation_id="r", items=["i"], timestamp=7),
        events.Rating(user_id="v", item_id="j", timestamp=9, rating=0.5),
        events.Click(user_id="u", item_id="k", timestamp=8, action="hum"),
        events.Click(user_id="u", item_id="k", timestamp=8, action=""),
        events.Forget(user_id="v", timestamp=7),
        events.Click(user_id="u", item_id="l", timestamp=8, action="dislike", text="never again"),
    ]
    expected = [(place, meaning(event)) for place, event in enumerate(batch) if meaning(event) is not None]

    found = Interpreter(WEIGHTS, 0.25, 2.0)(events_of(*batch))

    columns = found.interactions
    assert found.place_B.tolist() == [place for place, _ in expected]
    assert columns.users.names() == [one.user_id for _, one in expected]
    assert columns.forgets_B.tolist() == [isinstance(one, Forget) for _, one in expected]
    for place, (_, one) in enumerate(expected):
        if isinstance(one, Interaction):
            rating = None if np.isnan(columns.ratings_B[place]) else columns.ratings_B[place]
            assert one == Interaction(
                columns.users.name(place),
                columns.items.name(place),
                columns.times_B[place],
                columns.weights_B[place],
                rating,
            )


def test_the_default_action_weighs_what_is_listed_for_it_or_the_default():
    click = events_of(events.Click(user_id="u", item_id="i", timestamp=7))

    assert Interpreter({"click": 4.0}, 0.25, 2.0)(click).interactions.weights_B.tolist() == [4.0]
    assert Interpreter({"view": 4.0}, 0.25, 2.0)(click).interactions.weights_B.tolist() == [0.25]


def test_the_default_action_is_that_of_a_click():
    assert events.Click(user_id="u", item_id="i", timestamp=7).action == DEFAULT_ACTION
