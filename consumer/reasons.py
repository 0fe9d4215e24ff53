"""Why a payload is not an event: the slow path of decode, run only for what msgspec refused.

Answers with one of the reasons of the dead-letter contract and a detail: JSON path, what was expected, what came.
Knows nothing of topics and records. Takes any bytes at all and never raises for them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, get_args

from producer.events import MAX_ID_CHARACTERS, Event


class Reason(StrEnum):
    """The header `error.reason` of a dead letter."""

    NOT_JSON = "not-json"
    INVALID = "invalid"
    UNKNOWN_TYPE = "unknown-type"
    TOO_LARGE = "too-large"
    ID_TOO_LONG = "id-too-long"
    OUT_OF_RANGE = "out-of-range"
    FROM_THE_FUTURE = "from-the-future"


EVENT_TYPES: Final[Mapping[type, str]] = {kind: kind.__struct_config__.tag for kind in get_args(Event)}
"""The `type` of each event on the wire, by its struct."""

UNKNOWN_TYPE: Final = "unknown"
"""Stands for the event's type where the payload names none that exists."""


class Explanation(NamedTuple):
    """What is wrong with a payload."""

    reason: Reason
    detail: str
    event_type: str = UNKNOWN_TYPE


_SHOWN_CHARACTERS: Final = 60
_ID: Final = f"a string of 1 to {MAX_ID_CHARACTERS} characters"
_EXPECTED: Final[Mapping[str, str]] = {
    "type": "one of " + ", ".join(EVENT_TYPES.values()),
    "user_id": _ID,
    "item_id": _ID,
    "event_id": _ID,
    "timestamp": "whole milliseconds since 1970, not negative",
    "value": "a finite number",
    "action": "a string",
    "text": "a string",
    "recommendation_id": "a string",
    "context": "an object whose values are strings and finite numbers",
    "position": "a whole number",
    "items": f"a list whose entries are strings of 1 to {MAX_ID_CHARACTERS} characters",
}


def explain(payload: bytes, error: Exception, expected_rating: str = "a finite number") -> Explanation:
    """The reason and the detail for a payload that msgspec refused with `error`."""
    constants: list[str] = []
    try:
        tree = _parse(payload.decode("utf-8"), constants)
    except UnicodeDecodeError as undecodable:
        return _not_json(payload, f"invalid UTF-8 at byte {undecodable.start}")
    except json.JSONDecodeError as malformed:
        return _not_json(payload, f"{malformed.msg} at character {malformed.pos}")
    except RecursionError:
        return Explanation(Reason.INVALID, "$: expected an event, got JSON that is nested too deep")
    if not isinstance(tree, dict):
        return Explanation(Reason.INVALID, f"$: expected an object, got {shown(tree)}")
    named = tree.get("type")
    event_type = named if isinstance(named, str) and named in EVENT_TYPES.values() else UNKNOWN_TYPE
    if isinstance(error, RecursionError):
        return Explanation(Reason.INVALID, "$: expected an event, got JSON that is nested too deep", event_type)
    if constants and " - at `" not in str(error) and "missing required field" not in str(error):
        path, number = next(_non_finite(tree), ("$", constants[0]))  # a repeated key can hide the number
        expected = expected_rating if path == "$.rating" else "finite numbers only"
        return Explanation(Reason.OUT_OF_RANGE, f"{path}: expected {expected}, got {number}", event_type)
    return _invalid(payload, tree, str(error), {**_EXPECTED, "rating": expected_rating}, event_type)


def shown(value: object) -> str:
    """A value as short ASCII JSON, fit for a header and for one line of a log."""
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _parse(text: str, constants: list[str]) -> object:
    """The JSON value; NaN and Infinity, which are no JSON, are let through and noted in `constants`."""

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    return json.loads(text, parse_constant=constant, parse_int=_integer)


def _integer(digits: str) -> int | float:
    # int() refuses more than 4,300 digits; float() turns them into an infinity of the right sign.
    return int(digits) if len(digits) <= 400 else float(digits)


def _not_json(payload: bytes, what: str) -> Explanation:
    beginning = payload[: _SHOWN_CHARACTERS + 1].decode("utf-8", "replace")
    return Explanation(Reason.NOT_JSON, f"$: expected a JSON object in UTF-8, got {shown(beginning)} ({what})")


def _non_finite(tree: object) -> Iterator[tuple[str, float]]:
    """Paths and values of the numbers that are not finite, in document order. Not recursive: depth is the sender's."""
    waiting: list[tuple[str, object]] = [("$", tree)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            yield path, value
        elif isinstance(value, dict):
            waiting.extend((_child(path, key), below) for key, below in reversed(value.items()))
        elif isinstance(value, list):
            waiting.extend((f"{path}[{index}]", value[index]) for index in reversed(range(len(value))))


def _child(path: str, key: str) -> str:
    return f"{path}.{key}" if re.fullmatch(r"[A-Za-z_]\w{0,63}", key, re.ASCII) else f"{path}[{shown(key)}]"


def _invalid(
    payload: bytes, tree: dict[str, object], message: str, expected: Mapping[str, str], event_type: str
) -> Explanation:
    """Sorts msgspec's own words; `tree` is the same payload, so that the detail can show what came."""
    if missing := re.search(r"missing required field `(\w+)`", message):
        field = missing[1]
        reason = Reason.UNKNOWN_TYPE if field == "type" else Reason.INVALID
        return Explanation(reason, f"$.{field}: expected {expected[field]}, got nothing", event_type)
    at = re.search(r" - at `(\$[.\[][^`]*)`$", message)
    if at is None:
        return _not_json(payload, message)
    path, value = _locate(tree, at[1])
    field = re.split(r"[.\[]", path)[1]
    if field == "type" and event_type != UNKNOWN_TYPE:
        return Explanation(Reason.INVALID, f"$.type: expected one type, got several, {shown(value)} last", event_type)
    detail = f"{path}: expected {expected.get(field, 'something else')}, got {shown(value)}"
    return Explanation(_reason(message, field, value), detail, event_type)


def _reason(message: str, field: str, value: object) -> Reason:
    if field == "type":
        return Reason.UNKNOWN_TYPE
    if f"of length <= {MAX_ID_CHARACTERS}" in message:
        return Reason.ID_TOO_LONG
    if field == "timestamp" and isinstance(value, int | float) and value > 0 and "out of range" in message:
        return Reason.FROM_THE_FUTURE
    if "out of range" in message or "Expected `int` >= 0" in message:
        return Reason.OUT_OF_RANGE
    return Reason.INVALID


def _locate(tree: dict[str, object], path: str) -> tuple[str, object]:
    """The value at msgspec's path, and the path; msgspec writes `$.context[...]` and leaves it to us to say where."""
    value: object = tree
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        if name and isinstance(value, dict):
            value = value.get(name)
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
    if path.endswith("[...]") and isinstance(value, dict):
        parent = path.removesuffix("[...]")
        for key, below in value.items():
            if isinstance(below, bool) or not isinstance(below, str | int | float) or not _is_finite(below):
                return _child(parent, key), below
    return path, value


def _is_finite(value: str | int | float) -> bool:
    # Integers past the largest double cannot be converted, which is what makes them unfit as numbers here.
    return isinstance(value, str) or abs(value) <= 1.7976931348623157e308
