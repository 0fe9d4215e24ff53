"""`headrace rate USER ITEM RATING`: one rating, now."""

import time
from typing import Any

from consumer.commands.sending import deliver
from consumer.config import Settings
from producer.events import Rating


def run(settings: Settings, user_id: str, item_id: str, rating: float) -> dict[str, Any]:
    """Send it; what comes back and what is raised: see `deliver`.

    A rating off the scale of the settings is a ValueError: the worker would only dead-letter it.
    """
    low, high = settings.rating_min, settings.rating_max
    if not low <= rating <= high:
        raise ValueError(f"rating: expected a number from {low:g} to {high:g}, got {rating:g}")
    return deliver(settings, Rating(user_id=user_id, item_id=item_id, rating=rating, timestamp=int(time.time() * 1000)))
