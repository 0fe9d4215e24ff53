"""The parser of plain events: compiled and interpreted alike. What it accepts means the same: see test_decode.py."""

import json

import numpy as np
import pytest

from consumer.kernels import parse
from consumer.kernels.parse import ABSENT, ACTION, CLICK, EVENT_ID, ITEM, NOT_READ, RATING, SPANS, USER
from model.kernels.compiled import interpreted

CLICKED = b'{"type":"click","user_id":"u1","item_id":"i9","timestamp":1732430000123}'
PAYLOADS = [
    CLICKED,
    b' {\n"timestamp" : 0 ,"item_id":"i","action":"","user_id":"u","type":"click","event_id":"e 1" }\t',
    b'{"type":"rating","user_id":"u","item_id":"i","rating":-0.25,"timestamp":999999999999999999}',
    b"",
    b"{}",
    *(CLICKED[:length] for length in range(1, len(CLICKED))),
    *(CLICKED.replace(b"u1", odd) for odd in (b"", b"\\u0041", b"a\x1f", "é".encode(), b"x" * 257, b"x" * 256)),
    *(CLICKED.replace(b"1732430000123", odd) for odd in (b"01", b"-1", b"1.0", b"1e3", b"1" * 19, b"null", b'"1"')),
    CLICKED[:-1] + b',"value":-12.5,"position":-3,"recommendation_id":""}',
    CLICKED[:-1] + b',"value":1e3}',
    CLICKED[:-1] + b',"position":1.0}',
    CLICKED[:-1] + b',"position":03}',
    CLICKED[:-1] + b',"recommendation_id":null}',
    CLICKED[:-1] + b',"text":"hello","context":{"a":"b" , "c" :1.5}}',
    *(
        CLICKED[:-1] + b',"context":' + odd + b"}"
        for odd in (
            b"{",
            b"[]",
            b'{"a":true}',
            b'{"a":{}}',
            b'{"a":1,}',
            b'{"a"}',
            b"{1:2}",
            b'{"a":1e3}',
            b'{"a":01}',
            b"null",
        )
    ),
    CLICKED[:-1] + b',"rating":3}',
    CLICKED[:-1] + b',"user_id":"u2"}',
    CLICKED + b"x",
    CLICKED[:-1] + b",}",
    b'{"type":"rating","user_id":"u","item_id":"i","timestamp":1}',
    b'{"type":"rating","user_id":"u","item_id":"i","timestamp":1,"rating":3,"action":"x"}',
    b'{"type":"forget","user_id":"u","timestamp":1}',
]


def columns(run):
    lengths = np.array([len(payload) for payload in PAYLOADS])
    size = len(PAYLOADS)
    made = (
        np.empty(size, np.int8),
        np.empty((SPANS, size), np.int64),
        np.empty((SPANS, size), np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float64),
    )
    buffer = np.frombuffer(b"".join(PAYLOADS), dtype=np.uint8)
    read = run(buffer, np.cumsum(lengths) - lengths, lengths, 256, *made)
    return read, buffer, *made


def test_compiled_and_interpreted_fill_the_same_columns():
    for one, other in zip(columns(parse.parse_events), columns(interpreted(parse.parse_events)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_read_and_what_is_left_alone():
    read, buffer, types, starts, lengths, times, ratings = columns(parse.parse_events)

    def text(column, place):
        start = starts[column, place]
        return buffer[start : start + lengths[column, place]].tobytes().decode()

    plain = PAYLOADS.index(CLICKED[:-1] + b',"value":-12.5,"position":-3,"recommendation_id":""}')
    longest = PAYLOADS.index(CLICKED.replace(b"u1", b"x" * 256))
    assert np.flatnonzero(types != NOT_READ).tolist() == [0, 1, 2, longest, plain, plain + 5]
    assert read == 6
    assert types[:3].tolist() == [CLICK, CLICK, RATING]
    assert [text(USER, place) for place in range(3)] == ["u1", "u", "u"]
    assert [text(ITEM, place) for place in range(3)] == ["i9", "i", "i"]
    assert lengths[ACTION, :3].tolist() == [ABSENT, 0, ABSENT]
    assert text(EVENT_ID, 1) == "e 1"
    assert times[:3].tolist() == [1732430000123, 0, 999999999999999999]
    assert np.isnan(ratings[:2]).all()
    assert ratings[2] == -0.25


@pytest.mark.parametrize("number", ["0.1", "2.675", "4.35", "1234567.12345678", "0.00000000000001", "5", "-3.5", "0"])
def test_a_number_is_the_double_nearest_to_its_digits(number):
    payload = json.dumps({"type": "rating", "user_id": "u", "item_id": "i", "timestamp": 1, "rating": 7})
    encoded = np.frombuffer(payload.replace("7", number).encode(), dtype=np.uint8)
    ratings = np.empty(1)

    parse.parse_events(
        encoded,
        np.zeros(1, np.int64),
        np.array([len(encoded)]),
        256,
        np.empty(1, np.int8),
        np.empty((SPANS, 1), np.int64),
        np.empty((SPANS, 1), np.int64),
        np.empty(1, np.int64),
        ratings,
    )

    assert ratings[0] == float(number)
