"""What the model learns from: interactions in stream order, and the wish to be forgotten.

The model knows no topics and no JSON: `consumer.actions` turns an event of the wire into one of these.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Interaction(NamedTuple):
    """A user did something with an item."""

    user_id: str
    item_id: str
    timestamp: int
    """The event's own time, milliseconds since 1970 UTC: the only clock of the model."""
    weight: float
    """Pull on the ranking: positive attracts (and is ranked before it is learned), negative repels, 0 leaves it be."""
    rating: float | None = None
    """On the scale of the settings; None where the user gave none."""
    text: str | None = None
    """What the user wrote: a review, a search."""
    context: Mapping[str, str | float] | None = None
    """Where and how it happened: device, place, hour, ..."""


class Forget(NamedTuple):
    """Erase the user: history, state and row."""

    user_id: str
