"""Nothing is sent that the worker would accept under no settings: what was encoded is decoded again, and compared."""

from typing import Any, Final

import msgspec

from producer.events import LATEST_TIMESTAMP, MAX_ID_CHARACTERS, Event, Item, User, encode

Message = Event | Item | User

_EVENT_DECODER: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Event)
_ROW_DECODERS: Final[dict[type, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Item, User)
}


def checked(event: Message) -> bytes:
    """The bytes of a message; ValueError, naming the field, for one that the worker accepts under no settings."""
    decoder = _ROW_DECODERS[type(event)] if isinstance(event, Item | User) else _EVENT_DECODER
    try:
        value = encode(event)
        received = decoder.decode(value)
    except msgspec.ValidationError as error:  # its text ends with "at `$.user_id`"
        raise ValueError(f"{name_of(event)}: {error}; it was not sent") from error
    except (TypeError, ValueError) as error:  # no JSON at all: a lone surrogate, a foreign object
        raise ValueError(f"{name_of(event)}: {_unsayable_field(event)}: {error}; it was not sent") from error
    if isinstance(event, Event) and event.timestamp > LATEST_TIMESTAMP:
        expected = f"at most {LATEST_TIMESTAMP} (milliseconds, the end of the year 9999)"
        raise ValueError(f"{name_of(event)}: $.timestamp: expected {expected}, got {event.timestamp}; it was not sent")
    if received != event:
        raise ValueError(f"{name_of(event)}: {_altered_field(event, received)}; it was not sent")
    return value


def checked_id(field: str, name: str) -> str:
    """The id of a row to be removed; ValueError for one that no row can have."""
    if not 1 <= len(name) <= MAX_ID_CHARACTERS:
        raise ValueError(f"$.{field}: expected 1 to {MAX_ID_CHARACTERS} characters, got {len(name)}; it was not sent")
    return name


def name_of(event: Message) -> str:
    return type(event).__name__.lower()


def _unsayable_field(event: Message) -> str:
    for field in event.__struct_fields__:
        try:
            msgspec.json.encode(getattr(event, field))
        except (TypeError, ValueError):
            return f"$.{field}"
    return "$"


def _altered_field(event: Message, received: Message) -> str:
    """NaN and infinity would arrive as null, a tuple as a list."""
    if not isinstance(event, Message):
        raise TypeError(f"expected one of the messages of producer.events, got {type(event).__name__}")
    for field in event.__struct_fields__:
        given, arrived = getattr(event, field), getattr(received, field)
        if given != arrived:
            return f"$.{field}: {given!r} would arrive as {arrived!r}"
    return "$"
