"""What an event means to the model: an action's weight, a rating, the wish to be forgotten.

The one place where the wire's words become the model's. Weights come as arguments, from the settings.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.parse import FORGET, IMPRESSION, RATING
from model.interactions import Forget, Interaction, Interactions
from model.vocabulary import Vocabulary
from producer import events
from producer.events import Click, Rating

if TYPE_CHECKING:
    from consumer.decode import Events

DEFAULT_ACTION = "click"
"""The action of a click that names none (`producer.events.Click`)."""


class Meaning(NamedTuple):
    """What the events of a step mean to the model."""

    interactions: Interactions
    place_B: NDArray[np.int64]
    """The place of each entry's event among the events: impressions have no entry."""


class Interpreter:
    """`to_model` for columns."""

    def __init__(self, action_weights: Mapping[str, float], default_weight: float, rating_weight: float) -> None:
        self._actions = Vocabulary()
        listed = self._actions.rows(list(action_weights))
        self._weights_A = np.full(len(action_weights) + 1, default_weight, dtype=np.float64)
        """By the action's row; the last one, which -1 finds, is for those that are not listed."""
        self._weights_A[listed] = list(action_weights.values())
        self._of_default_action = action_weights.get(DEFAULT_ACTION, default_weight)
        self._of_rating = rating_weight

    def __call__(self, found: "Events") -> Meaning:
        place_B = np.flatnonzero(found.type_E != IMPRESSION)
        if len(place_B) < len(found):
            found = found[place_B]
        weights_B = np.full(len(found), self._of_default_action)
        named = np.flatnonzero(found.actions.length_B >= 0)
        if len(named):
            weights_B[named] = self._weights_A[self._actions.find(found.actions[named])]
        weights_B[found.type_E == RATING] = self._of_rating
        forgets_B = found.type_E == FORGET
        return Meaning(
            Interactions(found.users, found.items, found.time_E, weights_B, found.rating_E, forgets_B), place_B
        )


def to_model(
    event: events.Event,
    action_weights: Mapping[str, float],
    default_weight: float,
    rating_weight: float,
) -> Interaction | Forget | None:
    """The interaction of a click or rating, the forgetting of a user, or None: an impression is without effect.

    An action that `action_weights` does not list has `default_weight`; every rating has `rating_weight`, whatever its
    number.
    """
    if isinstance(event, Click):
        weight = action_weights.get(event.action, default_weight)
        return Interaction(event.user_id, event.item_id, event.timestamp, weight)
    if isinstance(event, Rating):
        return Interaction(event.user_id, event.item_id, event.timestamp, rating_weight, event.rating)
    return Forget(event.user_id) if isinstance(event, events.Forget) else None
