"""Reads the events that nearly all events are, many at once, straight into columns.

It knows one shape: an object of known fields, each once, strings of printable ASCII without escapes, plain numbers.
Whatever else a payload is, valid or not, it leaves to the typed decoder (`consumer.decode`): what is accepted here
means there exactly the same.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_with_arrays

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Types = NDArray[np.int8]
Floats = NDArray[np.float64]

CLICK, RATING, IMPRESSION, FORGET = range(4)
NOT_READ = -1
"""The type of a payload that is left to the typed decoder."""

USER, ITEM, ACTION, EVENT_ID, TEXT, CONTEXT = range(6)
"""The columns of spans. A context is a flat JSON object, brackets included; the others are what stands in quotes."""
SPANS = 6
ABSENT = -1
"""The length of a string that is not there."""

_TYPE, _TIME, _RATING, _VALUE, _POSITION, _RECOMMENDATION = 64, 128, 256, 512, 1024, 2048
"""Fields seen, beside 1 << column for those that are spans."""
_NUMBERS, _WHOLE = _TIME | _RATING | _VALUE | _POSITION, _TIME | _POSITION
_IDS = 1 << USER | 1 << ITEM | 1 << EVENT_ID
_MOST_WHOLE_DIGITS = 18
_MOST_DIGITS = 15
"""So many digits fit into the 53 bits of a double, and a power of ten as large too: their quotient is rounded once."""


@compiled
def _is_blank(byte: int) -> bool:
    return byte == 32 or byte == 10 or byte == 13 or byte == 9  # a tuple costs time here


@compiled
def _skip_blanks(buffer: Bytes, place: int, end: int) -> int:
    while place < end and _is_blank(buffer[place]):
        place += 1
    return place


@compiled
def _end_of_string(buffer: Bytes, place: int, end: int) -> int:
    """Where the closing quote of a plain string stands; -1 where the string is not plain, or does not end."""
    while place < end:
        byte = buffer[place]
        if byte == 34:
            return place
        if byte < 32 or byte >= 128 or byte == 92:
            return -1
        place += 1
    return -1


@compiled
def _is(buffer: Bytes, start: int, length: int, word: bytes) -> bool:
    if length != len(word):
        return False
    for place in range(length):  # noqa: SIM110  # all() is not compiled
        if buffer[start + place] != word[place]:
            return False
    return True


@compiled
def _field(buffer: Bytes, start: int, length: int) -> int:
    """The bit of the field of that name; 0 for one that is not known here."""
    if _is(buffer, start, length, b"user_id"):
        return 1 << USER
    if _is(buffer, start, length, b"item_id"):
        return 1 << ITEM
    if _is(buffer, start, length, b"timestamp"):
        return _TIME
    if _is(buffer, start, length, b"type"):
        return _TYPE
    if _is(buffer, start, length, b"rating"):
        return _RATING
    if _is(buffer, start, length, b"action"):
        return 1 << ACTION
    if _is(buffer, start, length, b"value"):
        return _VALUE
    if _is(buffer, start, length, b"context"):
        return 1 << CONTEXT
    if _is(buffer, start, length, b"event_id"):
        return 1 << EVENT_ID
    if _is(buffer, start, length, b"text"):
        return 1 << TEXT
    if _is(buffer, start, length, b"position"):
        return _POSITION
    if _is(buffer, start, length, b"recommendation_id"):
        return _RECOMMENDATION
    return 0


@compiled
def _column(field: int) -> int:
    """The column of a field that is a span."""
    column = 0
    while field > 1:
        field >>= 1
        column += 1
    return column


@compiled
def _end_of_number(buffer: Bytes, place: int, end: int, whole: bool, digits_2: Ints) -> int:
    """Where a plain number ends, -1 where it is not plain; its digits as one number, and how many follow the point.

    A sign is left out of the digits. Of digits there may be no more than can be read exactly. What follows is not
    looked at: callers refuse whatever may not stand behind a value, an exponent too.
    """
    place += buffer[place] == 45
    first = place
    number = 0
    digits = 0
    fraction = 0
    after_point = False
    while place < end:
        byte = int(buffer[place])
        if 48 <= byte <= 57:
            number = number * 10 + (byte - 48)
            digits += 1
            fraction += after_point
        elif byte == 46 and not whole and digits > 0 and not after_point:
            after_point = True
        else:
            break
        if digits > (_MOST_WHOLE_DIGITS if whole else _MOST_DIGITS):
            return -1
        place += 1
    if digits == 0 or (after_point and fraction == 0):
        return -1
    if buffer[first] == 48 and digits - fraction > 1:
        return -1
    digits_2[0] = number
    digits_2[1] = fraction
    return place


@compiled
def _end_of_context(buffer: Bytes, place: int, end: int, digits_2: Ints) -> int:
    """One past a flat object of plain strings and numbers that begins here; -1 where it is something else."""
    place = _skip_blanks(buffer, place + 1, end)
    if place < end and buffer[place] == 125:
        return place + 1
    while True:
        if place >= end or buffer[place] != 34:
            return -1
        place = _end_of_string(buffer, place + 1, end)
        if place < 0:
            return -1
        place = _skip_blanks(buffer, place + 1, end)
        if place >= end or buffer[place] != 58:
            return -1
        place = _skip_blanks(buffer, place + 1, end)
        if place >= end:
            return -1
        if buffer[place] == 34:
            place = _end_of_string(buffer, place + 1, end)
            if place < 0:
                return -1
            place += 1
        else:
            place = _end_of_number(buffer, place, end, False, digits_2)
            if place < 0:
                return -1
        place = _skip_blanks(buffer, place, end)
        if place >= end:
            return -1
        if buffer[place] == 125:
            return place + 1
        if buffer[place] != 44:
            return -1
        place = _skip_blanks(buffer, place + 1, end)


@compiled
def _parse_one(
    buffer: Bytes,
    place: int,
    end: int,
    most_id: int,
    start_S: Ints,
    length_S: Ints,
    time_1: Ints,
    rating_1: Floats,
    digits_2: Ints,
) -> int:
    """The type of one event, with its spans, time and rating filled in; NOT_READ where it is left alone."""
    for column in range(SPANS):
        start_S[column] = 0
        length_S[column] = ABSENT
    time_1[0] = 0
    rating_1[0] = np.nan
    kind = NOT_READ
    seen = 0
    place = _skip_blanks(buffer, place, end)
    if place >= end or buffer[place] != 123:
        return NOT_READ
    place += 1
    while True:
        place = _skip_blanks(buffer, place, end)
        if place >= end or buffer[place] != 34:
            return NOT_READ
        first = place + 1
        place = _end_of_string(buffer, first, end)
        if place < 0:
            return NOT_READ
        field = _field(buffer, first, place - first)
        if field == 0 or seen & field:
            return NOT_READ
        seen |= field
        place = _skip_blanks(buffer, place + 1, end)
        if place >= end or buffer[place] != 58:
            return NOT_READ
        first = _skip_blanks(buffer, place + 1, end)
        if first >= end:
            return NOT_READ
        if field & _NUMBERS:
            negative = buffer[first] == 45
            if negative and field == _TIME:
                return NOT_READ
            place = _end_of_number(buffer, first, end, field & _WHOLE != 0, digits_2)
            if place < 0:
                return NOT_READ
            if field == _TIME:
                time_1[0] = digits_2[0]
            elif field == _RATING:
                power = 1.0
                for _ in range(digits_2[1]):
                    power *= 10.0
                value = float(digits_2[0]) / power
                rating_1[0] = -value if negative else value
        elif field == 1 << CONTEXT:
            if buffer[first] != 123:
                return NOT_READ
            place = _end_of_context(buffer, first, end, digits_2)
            if place < 0:
                return NOT_READ
            start_S[CONTEXT] = first
            length_S[CONTEXT] = place - first
        else:
            if buffer[first] != 34:
                return NOT_READ
            first += 1
            place = _end_of_string(buffer, first, end)
            if place < 0:
                return NOT_READ
            length = place - first
            place += 1
            if field == _TYPE:
                if _is(buffer, first, length, b"click"):
                    kind = CLICK
                elif _is(buffer, first, length, b"rating"):
                    kind = RATING
                else:
                    return NOT_READ
            elif field != _RECOMMENDATION:
                if field & _IDS and not 1 <= length <= most_id:
                    return NOT_READ
                column = _column(field)
                start_S[column] = first
                length_S[column] = length
        place = _skip_blanks(buffer, place, end)
        if place >= end:
            return NOT_READ
        if buffer[place] == 44:
            place += 1
            continue
        if buffer[place] != 125:
            return NOT_READ
        break
    if _skip_blanks(buffer, place + 1, end) != end:
        return NOT_READ
    needed = _TYPE | _TIME | 1 << USER | 1 << ITEM
    if kind == RATING:
        needed |= _RATING
    unfit = 1 << ACTION if kind == RATING else _RATING
    return kind if seen & needed == needed and not seen & unfit else NOT_READ


@compiled_with_arrays
def parse_events(
    buffer: Bytes,
    start_R: Ints,
    length_R: Ints,
    most_id: int,
    type_R: Types,
    spans_start_SR: Ints,
    spans_length_SR: Ints,
    time_R: Ints,
    rating_R: Floats,
) -> int:
    """Fill the columns of each payload; how many were read. `most_id` is the longest id, in characters."""
    start_S, length_S = np.empty(SPANS, np.int64), np.empty(SPANS, np.int64)
    time_1, rating_1, digits_2 = np.empty(1, np.int64), np.empty(1, np.float64), np.empty(2, np.int64)
    read = 0
    for place in range(start_R.shape[0]):
        kind = NOT_READ
        if length_R[place] > 0:
            kind = _parse_one(
                buffer,
                start_R[place],
                start_R[place] + length_R[place],
                most_id,
                start_S,
                length_S,
                time_1,
                rating_1,
                digits_2,
            )
        type_R[place] = kind
        read += kind != NOT_READ
        for column in range(SPANS):
            spans_start_SR[column, place] = start_S[column]
            spans_length_SR[column, place] = length_S[column]
        time_R[place] = time_1[0]
        rating_R[place] = rating_1[0]
    return read
