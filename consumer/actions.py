"""What an event means to the model: an action's weight, a rating, the wish to be forgotten.

The one place where the wire's words become the model's. Weights come as arguments, from the settings.
"""

from collections.abc import Mapping

from model.interactions import Forget, Interaction
from producer import events
from producer.events import Click, Rating


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
        return Interaction(event.user_id, event.item_id, event.timestamp, weight, None, event.text, event.context)
    if isinstance(event, Rating):
        return Interaction(
            event.user_id, event.item_id, event.timestamp, rating_weight, event.rating, event.text, event.context
        )
    return Forget(event.user_id) if isinstance(event, events.Forget) else None
