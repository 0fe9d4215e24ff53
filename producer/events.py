"""The wire contract: every message that travels over Headrace's topics, as msgspec structs.

Values are JSON. Times are integer milliseconds since 1970 UTC. Ids are strings of 1 to 256 characters.
Unknown extra fields are ignored, so that producers may be newer than the worker. This file knows
nothing of Kafka, of the settings (the rating scale is checked by the worker) and of the model.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

MAX_ID_CHARACTERS: Final = 256
MAX_NUMBERS: Final = 4096
"""Numbers of a vector, and features, that an item or a user may have."""
LATEST_TIMESTAMP: Final = 253_402_300_799_999
"""The end of the year 9999: an event of a later time is never accepted. Far inside int64 and float64."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
Milliseconds = Annotated[int, Meta(ge=0, description="milliseconds since 1970-01-01 UTC")]

Features = Annotated[dict[str, float], Meta(max_length=MAX_NUMBERS)]
Vector = Annotated[list[float], Meta(max_length=MAX_NUMBERS)]

EPOCH_HEADER: Final = "headrace.epoch"
"""Header of every recommendation record: the run that made it, as decimal digits. Newer runs are higher."""


class Click(Struct, tag="click", frozen=True, kw_only=True, omit_defaults=True):
    """A user acted on an item: clicked, viewed, bought, skipped, ... `action` says which."""

    user_id: Id
    item_id: Id
    timestamp: Milliseconds
    event_id: Id | None = None
    """Makes a repeated delivery recognisable: the worker learns each `event_id` once."""
    action: str = "click"
    value: float | None = None
    """How much of the action, in the action's own unit: dwell seconds, a price, a share watched."""
    text: str | None = None
    context: dict[str, str | float] | None = None
    recommendation_id: str | None = None
    position: int | None = None


class Rating(Struct, tag="rating", frozen=True, kw_only=True, omit_defaults=True):
    """A user gave an item a number on the scale of the settings (HEADRACE_RATING_MIN..MAX)."""

    user_id: Id
    item_id: Id
    rating: float
    timestamp: Milliseconds
    event_id: Id | None = None
    value: float | None = None
    text: str | None = None
    context: dict[str, str | float] | None = None
    recommendation_id: str | None = None
    position: int | None = None


class Impression(Struct, tag="impression", frozen=True, kw_only=True, omit_defaults=True):
    """A list was shown to a user: these items, in this order."""

    user_id: Id
    recommendation_id: str
    items: list[Id]
    timestamp: Milliseconds
    event_id: Id | None = None


class Forget(Struct, tag="forget", frozen=True, kw_only=True, omit_defaults=True):
    """Erase what the model holds of a user."""

    user_id: Id
    timestamp: Milliseconds
    event_id: Id | None = None


Event = Click | Rating | Impression | Forget


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the catalogue, on the compacted items topic."""

    item_id: Id
    timestamp: Milliseconds
    title: str | None = None
    text: str | None = None
    categories: list[str] | None = None
    features: Features | None = None
    vector: Vector | None = None
    available: bool = True


class User(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a user besides behaviour, on the compacted users topic."""

    user_id: Id
    timestamp: Milliseconds
    categories: list[str] | None = None
    features: Features | None = None


class ScoredItem(Struct, frozen=True):
    item_id: str
    score: float


class SourceEvent(Struct, frozen=True):
    """The newest event of the user that a list reflects."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """The Kafka record timestamp of that event, milliseconds: the start of the freshness clock."""


class Recommendations(Struct, frozen=True, kw_only=True):
    """A user's top-k list, best first."""

    user_id: str
    recommendation_id: str
    generated_at: int
    model_version: int
    source: SourceEvent
    items: list[ScoredItem]


_encoder = msgspec.json.Encoder()


def encode(message: Event | Item | User | Recommendations) -> bytes:
    """The JSON bytes of a message; fields at their defaults are left out."""
    return _encoder.encode(message)
