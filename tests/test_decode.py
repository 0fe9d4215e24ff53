"""Whatever bytes come: an event, or a reject with a reason of the contract. Never an exception."""

import json
from dataclasses import dataclass
from typing import get_args

import msgspec
import pytest
from columns import each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.decode import TYPE_NAMES, Decoder
from consumer.reasons import EVENT_TYPES, Reason
from consumer.records import Taken
from producer import events
from producer.events import LATEST_TIMESTAMP

NOW = 1_732_430_000_000
CLICK = {"type": "click", "user_id": "u1", "item_id": "i9", "timestamp": NOW}
RATING = {"type": "rating", "user_id": "u1", "item_id": "i9", "timestamp": NOW, "rating": 4.5}


@dataclass
class Record:
    """As much of a Kafka message as decode may look at: headers and key are missing on purpose."""

    payload: bytes | None
    timestamp_ms: int = NOW
    timestamp_type: int = 1

    def value(self):
        return self.payload

    def timestamp(self):
        return self.timestamp_type, self.timestamp_ms


def decode(records, **bounds):
    """The accepted events, each with its record, and the rejects."""
    accepted, rejects = Decoder(**bounds)(Taken(records))
    return each(accepted), rejects


def rejected(payload, **record):
    """The one reject that comes of the payload."""
    accepted, rejects = decode([Record(payload, **record)])
    assert accepted == []
    (reject,) = rejects
    assert reject.detail.isascii()
    assert reject.detail.isprintable()
    assert len(reject.detail) < 400
    return reject


def reason_and_detail(payload, **record):
    reject = rejected(payload, **record)
    return str(reject.reason), reject.detail


def json_of(fields, **changes):
    return json.dumps({**fields, **changes}).encode()


def without(fields, name):
    return json.dumps({key: value for key, value in fields.items() if key != name}).encode()


# --- what is taken in ---


def test_a_click_on_the_wire_becomes_a_click():
    payload = (
        b'{"type":"click","user_id":"u1","item_id":"i9","timestamp":1732430000123,"action":"buy","value":3,'
        b'"context":{"device":"tv","hour":7},"brand-new-field":[1,{"x":null}]}'
    )
    record = Record(payload)

    accepted, rejects = decode([record])

    assert rejects == []
    assert accepted[0].record is record
    assert accepted[0].event == events.Click(
        user_id="u1",
        item_id="i9",
        timestamp=1732430000123,
        action="buy",
        value=3.0,
        context={"device": "tv", "hour": 7},
    )


def test_events_and_rejects_keep_the_order_of_their_records():
    good = [Record(json_of(CLICK, item_id=f"i{n}")) for n in range(3)]
    bad = [Record(b"not json"), Record(None)]

    accepted, rejects = decode([good[0], bad[0], good[1], bad[1], good[2]])

    assert [one.record for one in accepted] == good
    assert [one.record for one in rejects] == bad


def test_no_records_give_no_events_and_no_rejects():
    assert decode([]) == ([], [])


@pytest.mark.parametrize(
    "event",
    [
        events.Click(user_id="u1", item_id="i9", timestamp=NOW),
        events.Click(user_id="u 1", item_id="~", timestamp=0, action="add to cart", event_id="e"),
        events.Rating(user_id="u1", item_id="i9", timestamp=NOW, rating=0.5),
        events.Rating(user_id="u1", item_id="i9", timestamp=NOW, rating=0.5, text="so so", context={}),
        events.Click(user_id="u", item_id="i", timestamp=1, context={"device": "tv", "hour": 7.5, "x": -3}),
        events.Click(user_id="u", item_id="i", timestamp=1, value=-1.25, position=7, recommendation_id="r"),
    ],
)
def test_a_plain_event_is_read_by_the_parser_alone(event, monkeypatch):
    monkeypatch.setattr(Decoder, "_read", None)

    accepted, rejects = decode([Record(events.encode(event)), Record(json.dumps(msgspec.to_builtins(event)).encode())])

    assert rejects == []
    assert [one.event for one in accepted] == [event, event]


@pytest.mark.parametrize(
    "number", [b"0.5", b"5", b"4.75", b"1.0000000000000", b"3.14159265358979", b"0.7", b"2.675", b"1.1", b"4.35"]
)
def test_a_plain_rating_is_rounded_as_by_the_typed_decoder(number):
    (one,), _ = decode([Record(json_of(RATING).replace(b"4.5", number))])

    assert one.event.rating == float(number)


@pytest.mark.parametrize("number", [b"4.", b".5", b"04", b"+4", b"4e", b"4.5.5", b"4 5", b"--4", b"0x4"])
def test_what_is_no_number_is_no_rating(number):
    assert rejected(json_of(RATING).replace(b"4.5", number)).reason == "not-json"


def test_events_are_counted_by_type():
    accepted, _ = Decoder()(Taken([Record(json_of(CLICK)), Record(json_of(RATING)), Record(json_of(CLICK, text="x"))]))

    assert accepted.counts() == {"click": 2, "rating": 1}
    assert TYPE_NAMES == ("click", "rating", "impression", "forget")


# --- what is no event at all ---


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"not json",
        b"{",
        b'{"type":"click",',
        b"[1, 2",
        b'"click',
        json_of(CLICK)[:-1] + b",}",
        json_of(CLICK) + b" x",
        json_of(CLICK) + json_of(CLICK),
        b"\xef\xbb\xbf" + json_of(CLICK),
        json.dumps(CLICK).encode("utf-16"),
        json_of(CLICK).replace(b"u1", b"u\xff"),
        json_of(CLICK).replace(b"u1", b"\xed\xa0\x80"),
        json_of(CLICK).replace(b"u1", b"a\nb"),
        json_of(CLICK).replace(b"u1", b"\\ud800"),
        json_of(CLICK, extra="x").replace(b'"x"', b'"\xff"'),
        b"\x00" * 40,
        b'{"type":"nonsense"',
    ],
)
def test_what_is_no_json_in_utf8_is_not_json(payload):
    assert rejected(payload).reason == "not-json"


def test_the_detail_of_not_json_shows_the_beginning_and_the_place():
    assert reason_and_detail(b"hello world") == (
        "not-json",
        '$: expected a JSON object in UTF-8, got "hello world" (Expecting value at character 0)',
    )


@pytest.mark.parametrize("payload", [b"[]", b"3", b"null", b'"click"', b"true", b"NaN", b"[" + b"1," * 9000 + b"1]"])
def test_json_that_is_no_object_is_invalid(payload):
    reason, detail = reason_and_detail(payload)

    assert reason == "invalid"
    assert detail.startswith("$: expected an object, got ")


def test_a_tombstone_is_invalid():
    assert reason_and_detail(None) == ("invalid", "$: expected an event, got no value at all (a tombstone)")


@pytest.mark.parametrize(
    "payload",
    [
        json_of(CLICK)[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json_of(CLICK)[:-1] + b',"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        json_of(CLICK)[:-1] + b',"context":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
        b'{"type":' * 50_000,
    ],
)
def test_a_deeply_nested_message_is_invalid(payload):
    assert rejected(payload).reason == "invalid"


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (without(CLICK, "user_id"), "$.user_id: expected a string of 1 to 256 characters, got nothing"),
        (without(RATING, "rating"), "$.rating: expected a number from 0.5 to 5, got nothing"),
        (without(CLICK, "timestamp"), "$.timestamp: expected whole milliseconds since 1970, not negative, got nothing"),
        (json_of(CLICK, user_id=""), '$.user_id: expected a string of 1 to 256 characters, got ""'),
        (json_of(CLICK, event_id=""), '$.event_id: expected a string of 1 to 256 characters, got ""'),
        (json_of(CLICK, user_id=7), "$.user_id: expected a string of 1 to 256 characters, got 7"),
        (json_of(CLICK, item_id=None), "$.item_id: expected a string of 1 to 256 characters, got null"),
        (json_of(RATING, rating="good"), '$.rating: expected a number from 0.5 to 5, got "good"'),
        (json_of(RATING, rating=True), "$.rating: expected a number from 0.5 to 5, got true"),
        (json_of(RATING, rating=None), "$.rating: expected a number from 0.5 to 5, got null"),
        (
            json_of(CLICK, timestamp=1.0),
            "$.timestamp: expected whole milliseconds since 1970, not negative, got 1.0",
        ),
        (
            json_of(CLICK, timestamp="2024-11-24T08:00:00Z"),
            '$.timestamp: expected whole milliseconds since 1970, not negative, got "2024-11-24T08:00:00Z"',
        ),
        (
            json_of(CLICK, context={"device": "tv", "place": {"x": 1}}),
            "$.context.place: expected an object whose values are strings and finite numbers, got an object of 1",
        ),
        (
            json_of(CLICK, context={"a b": True}),
            '$.context["a b"]: expected an object whose values are strings and finite numbers, got true',
        ),
        (
            json_of({**CLICK, "type": "impression"}, recommendation_id="r", items=["a", 3]),
            "$.items[1]: expected a list whose entries are strings of 1 to 256 characters, got 3",
        ),
        (
            json_of({**CLICK, "type": "impression"}, recommendation_id="r", items="a"),
            '$.items: expected a list whose entries are strings of 1 to 256 characters, got "a"',
        ),
        (json_of(CLICK)[:-1] + b',"type":"rating"}', '$.type: expected one type, got several, "rating" last'),
    ],
)
def test_wrong_types_and_missing_fields_are_invalid_and_say_where(payload, detail):
    assert reason_and_detail(payload) == ("invalid", detail)


@pytest.mark.parametrize(
    ("payload", "came"),
    [
        (without(CLICK, "type"), "nothing"),
        (json_of(CLICK, type="clack"), '"clack"'),
        (json_of(CLICK, type=None), "null"),
        (json_of(CLICK, type=3), "3"),
        (json_of(CLICK, type="Click"), '"Click"'),
        (json_of(CLICK, type="x" * 5000), '"' + "x" * 56 + "..."),
    ],
)
def test_a_missing_or_strange_type_is_an_unknown_type(payload, came):
    assert reason_and_detail(payload) == (
        "unknown-type",
        f"$.type: expected one of click, rating, impression, forget, got {came}",
    )


# --- bounds of ids, ratings and numbers ---


@pytest.mark.parametrize("field", ["user_id", "item_id", "event_id"])
def test_an_id_of_256_characters_is_accepted_and_one_more_is_too_long(field):
    longest = Record(json_of(CLICK, **{field: "\U0001f40d" * 256}))

    accepted, _ = decode([longest])

    assert getattr(accepted[0].event, field) == "\U0001f40d" * 256
    assert rejected(json_of(CLICK, **{field: "x" * 257})).reason == "id-too-long"


def test_a_listed_item_with_a_long_id_is_too_long():
    payload = json_of({**CLICK, "type": "impression"}, recommendation_id="r", items=["ok", "x" * 257])

    reason, detail = reason_and_detail(payload)

    assert reason == "id-too-long"
    assert detail.startswith("$.items[1]: ")


@pytest.mark.parametrize("rating", [b"0.49", b"5.0001", b"-1", b"1e308", b"1e999", b"-1e999", b"1" + b"0" * 400])
def test_a_rating_off_the_scale_is_out_of_range(rating):
    reason, detail = reason_and_detail(json_of(RATING).replace(b"4.5", rating))

    assert reason == "out-of-range"
    assert detail.startswith("$.rating: expected a number from 0.5 to 5, got ")


@pytest.mark.parametrize("rating", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_rating_that_is_not_finite_is_out_of_range(rating):
    reason, detail = reason_and_detail(json_of(RATING).replace(b"4.5", rating))

    assert reason == "out-of-range"
    assert detail.startswith("$.rating: expected a number from 0.5 to 5, got ")


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (json_of(CLICK, value=float("nan")), "$.value: "),
        (json_of(CLICK, value=7).replace(b"7}", b"1e999}"), "$.value: "),
        (json_of(CLICK, context={"price": float("inf")}), "$.context.price: "),
        (json_of(CLICK, context={"a": 1, "price": 7}).replace(b"7}", b"-1e999}"), "$.context.price: "),
        (json_of(CLICK, extra=[1, {"deep": float("nan")}]), "$.extra[1].deep: "),
        (json_of(CLICK, timestamp=float("nan")), "$.timestamp: "),
    ],
)
def test_a_number_that_is_not_finite_is_out_of_range_wherever_it_stands(payload, path):
    reason, detail = reason_and_detail(payload)

    assert reason == "out-of-range"
    assert detail.startswith(path)


def test_a_not_finite_number_that_a_repeated_key_hides_is_out_of_range():
    assert rejected(json_of(CLICK)[:-1] + b',"value":NaN,"value":1}').reason == "out-of-range"


@pytest.mark.parametrize("rating", [0.5, 5, 5.0, 3])
def test_a_rating_at_the_ends_of_the_scale_is_accepted(rating):
    accepted, _ = decode([Record(json_of(RATING, rating=rating))], rating_min=0.5, rating_max=5)

    assert accepted[0].event.rating == rating


def test_the_scale_is_the_settings():
    accepted, rejects = decode(
        [Record(json_of(RATING, rating=10)), Record(json_of(RATING, rating=0.5))], rating_min=1, rating_max=10
    )

    assert len(accepted) == 1
    assert rejects[0].detail == "$.rating: expected a number from 1 to 10, got 0.5"


# --- times, and how long a value may be ---


@pytest.mark.parametrize("timestamp", [b"-1", b"-" + b"9" * 30, b"-" + b"9" * 6000])
def test_a_negative_time_is_out_of_range(timestamp):
    payload = json_of(CLICK).replace(str(NOW).encode(), timestamp)

    assert rejected(payload).reason == "out-of-range"


@pytest.mark.parametrize("timestamp", [NOW + 600_001, 2**53, 2**63, 2**64, 10**30])
def test_a_time_past_the_bound_is_from_the_future(timestamp):
    reason, detail = reason_and_detail(json_of(CLICK, timestamp=timestamp))

    assert reason == "from-the-future"
    assert detail.startswith(f"$.timestamp: expected at most {NOW + 600_000} ")


def test_a_time_of_thousands_of_digits_is_from_the_future():
    assert rejected(json_of(CLICK).replace(str(NOW).encode(), b"9" * 6000)).reason == "from-the-future"


@pytest.mark.parametrize("timestamp", [0, 1, NOW - 10**11, NOW, NOW + 600_000])
def test_an_old_time_and_one_just_within_the_bound_are_accepted(timestamp):
    accepted, rejects = decode([Record(json_of(CLICK, timestamp=timestamp))])

    assert rejects == []
    assert accepted[0].event.timestamp == timestamp


@pytest.mark.parametrize(("timestamp_type", "timestamp_ms"), [(0, -1), (0, 0), (1, -1)])
def test_a_record_without_a_time_of_its_own_takes_the_event_time_up_to_the_year_9999(timestamp_type, timestamp_ms):
    records = [
        Record(json_of(CLICK, timestamp=timestamp), timestamp_ms, timestamp_type)
        for timestamp in (LATEST_TIMESTAMP, LATEST_TIMESTAMP + 1)
    ]

    accepted, rejects = decode(records)

    assert [one.record for one in accepted] == records[:1]
    assert [reject.reason for reject in rejects] == [Reason.FROM_THE_FUTURE]


@pytest.mark.parametrize("timestamp_ms", [2**63 - 1, 2**63 - 600_000, 2**62])
def test_a_record_time_beyond_all_reason_lets_a_good_event_through(timestamp_ms):
    accepted, rejects = decode([Record(json_of(CLICK), timestamp_ms)])

    assert (len(accepted), rejects) == (1, [])


def test_a_record_time_beyond_all_reason_does_not_let_a_huge_event_time_through():
    assert rejected(json_of(CLICK, timestamp=2**62), timestamp_ms=2**62).reason == "from-the-future"


def test_a_value_of_exactly_the_limit_is_accepted_and_one_byte_more_is_too_large():
    padding = 1_000_000 - len(json_of(CLICK, text=""))
    at_the_limit = json_of(CLICK, text="x" * padding)

    accepted, _ = decode([Record(at_the_limit)])

    assert len(accepted) == 1
    assert reason_and_detail(at_the_limit + b" ") == ("too-large", "$: expected at most 1000000 bytes, got 1000001")


def test_text_beyond_ascii_is_accepted():
    payload = json.dumps({**CLICK, "text": "café 日本 🎬"}, ensure_ascii=False).encode()

    accepted, _ = decode([Record(payload)])

    assert accepted[0].event.text == "café 日本 🎬"


# --- rejects, and what holds of any payload ---


@pytest.mark.parametrize(
    ("payload", "event_type"),
    [
        (json_of(RATING, rating=9), "rating"),
        (json_of(RATING, rating="x"), "rating"),
        (json_of(CLICK, timestamp=2**60), "click"),
        (json_of(CLICK, value=float("nan")), "click"),
        (json_of(CLICK, type="clack"), "unknown"),
        (json_of(CLICK, type=["click"]), "unknown"),
        (b"nonsense", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_reject_names_the_type_of_event_it_would_have_been(payload, event_type):
    assert rejected(payload).event_type == event_type


def test_the_types_are_those_of_the_wire():
    assert set(EVENT_TYPES) == set(get_args(events.Event))
    assert set(EVENT_TYPES.values()) == {"click", "rating", "impression", "forget"}


# Machines are shared: how long an example takes says nothing of the code.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
times = st.integers(0, NOW + 600_000)
finite = st.floats(allow_nan=False, allow_infinity=False)
options = {
    "event_id": st.none() | ids,
    "value": st.none() | finite,
    "text": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    "context": st.none() | st.dictionaries(ids, ids | finite, max_size=4),
    "recommendation_id": st.none() | ids,
    "position": st.none() | st.integers(),
}
any_event = st.one_of(
    st.builds(events.Click, user_id=ids, item_id=ids, timestamp=times, action=ids, **options),
    st.builds(events.Rating, user_id=ids, item_id=ids, timestamp=times, rating=st.floats(0.5, 5), **options),
    st.builds(events.Impression, user_id=ids, recommendation_id=ids, items=st.lists(ids, max_size=5), timestamp=times),
    st.builds(events.Forget, user_id=ids, timestamp=times, event_id=st.none() | ids),
)


@calm
@given(any_event)
def test_every_valid_event_comes_back_from_the_wire_as_it_was(event):
    accepted, rejects = decode([Record(events.encode(event))])

    assert rejects == []
    assert accepted[0].event == event


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=5), below, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from([*RATING, "event_id", "value", "context", "position", "text", "items", "action"])
nearly_an_event = st.builds(
    lambda fields, changes, ascii_only: json.dumps({**fields, **changes}, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    ),
    st.sampled_from([CLICK, RATING, {**CLICK, "type": "impression", "recommendation_id": "r", "items": []}]),
    st.dictionaries(field_names, any_json, max_size=3),
    st.booleans(),
)
one_byte_changed = st.builds(
    lambda payload, place, byte: payload[: place % len(payload)] + byte + payload[place % len(payload) + 1 :],
    nearly_an_event,
    st.integers(0, 500),
    st.binary(max_size=2),
)


@calm
@given(st.binary() | nearly_an_event | one_byte_changed)
def test_any_bytes_become_an_event_or_a_reject_with_a_known_reason(payload):
    accepted, rejects = decode([Record(payload)])

    assert len(accepted) + len(rejects) == 1
    for reject in rejects:
        assert reject.reason in set(Reason)
        assert reject.detail.startswith("$")
        assert reject.detail.isascii()
        assert reject.detail.isprintable()
    for one in accepted:
        assert json.loads(payload)["user_id"] == one.event.user_id


plain_ids = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=6)
spaces = st.text(" \t\n\r", max_size=2)


@calm
@given(st.lists(st.one_of(st.binary(), nearly_an_event, one_byte_changed, any_event.map(events.encode)), max_size=6))
def test_what_the_parser_reads_is_what_the_typed_decoder_reads(payloads):
    accepted, _ = Decoder()(Taken([Record(payload) for payload in payloads]))

    for one in each(accepted):
        assert one.event == msgspec.json.decode(one.record.payload, type=events.Event)


@calm
@given(plain_ids, plain_ids, st.permutations(["type", "user_id", "item_id", "timestamp", "rating"]), spaces, spaces)
def test_order_and_blanks_between_the_fields_do_not_matter(user, item, order, before, after):
    fields = {**RATING, "user_id": user, "item_id": item}
    text = f"{before},{after}".join(f"{json.dumps(name)}{after}:{before}{json.dumps(fields[name])}" for name in order)

    (one,), _ = decode([Record(f"{before}{{{after}{text}{before}}}{after}".encode())])

    assert one.event == events.Rating(user_id=user, item_id=item, timestamp=NOW, rating=4.5)
