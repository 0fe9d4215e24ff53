"""The wire contract: what messages look like as bytes, and what is refused when they are read."""

import json

import msgspec
import pytest

from producer.events import (
    MAX_ID_CHARACTERS,
    Click,
    Event,
    Forget,
    Impression,
    Item,
    Rating,
    Recommendations,
    ScoredItem,
    SourceEvent,
    User,
    encode,
)

EVENTS = [
    Click(user_id="u1", item_id="i9", timestamp=1),
    Click(
        user_id="u1",
        item_id="i9",
        timestamp=1,
        event_id="e1",
        action="play",
        value=12.5,
        text="héllo",
        context={"device": "phone", "hour": 7.0},
        recommendation_id="r1",
        position=3,
    ),
    Rating(user_id="u1", item_id="i9", rating=4.5, timestamp=1),
    Impression(user_id="u1", recommendation_id="r1", items=["i9", "i3"], timestamp=1),
    Forget(user_id="u1", timestamp=1),
]


def read_event(value: bytes) -> Event:
    return msgspec.json.decode(value, type=Event)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_the_same_after_its_bytes_were_read(event: Event) -> None:
    assert read_event(encode(event)) == event


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (EVENTS[0], '{"type":"click","user_id":"u1","item_id":"i9","timestamp":1}'),
        (EVENTS[2], '{"type":"rating","user_id":"u1","item_id":"i9","rating":4.5,"timestamp":1}'),
        (
            EVENTS[3],
            '{"type":"impression","user_id":"u1","recommendation_id":"r1","items":["i9","i3"],"timestamp":1}',
        ),
        (EVENTS[4], '{"type":"forget","user_id":"u1","timestamp":1}'),
    ],
)
def test_the_bytes_are_those_of_the_contract(event: Event, text: str) -> None:
    assert encode(event).decode() == text


def test_recommendations_have_every_field_of_the_contract() -> None:
    source = SourceEvent(topic="recs.events.v1", partition=0, offset=99, timestamp=5)
    recommendations = Recommendations(
        user_id="u1",
        recommendation_id="r1",
        generated_at=6,
        model_version=7,
        source=source,
        items=[ScoredItem("i9", 0.93)],
    )

    read = json.loads(encode(recommendations))

    assert read == {
        "user_id": "u1",
        "recommendation_id": "r1",
        "generated_at": 6,
        "model_version": 7,
        "source": {"topic": "recs.events.v1", "partition": 0, "offset": 99, "timestamp": 5},
        "items": [{"item_id": "i9", "score": 0.93}],
    }


def test_an_item_is_available_unless_it_says_otherwise() -> None:
    gone = encode(Item(item_id="i9", timestamp=1, available=False))

    assert msgspec.json.decode(b'{"item_id":"i9","timestamp":1}', type=Item).available
    assert not msgspec.json.decode(gone, type=Item).available


def test_a_user_keeps_categories_and_features() -> None:
    user = User(user_id="u1", timestamp=1, categories=["student"], features={"age": 31.0})

    assert msgspec.json.decode(encode(user), type=User) == user


def test_unknown_fields_are_ignored() -> None:
    event = read_event(b'{"type":"click","user_id":"u1","item_id":"i9","timestamp":1,"colour":{"a":[1]}}')

    assert event == Click(user_id="u1", item_id="i9", timestamp=1)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"user_id": ""}, "$.user_id"),
        ({"item_id": "i" * (MAX_ID_CHARACTERS + 1)}, "$.item_id"),
        ({"user_id": 5}, "$.user_id"),
        ({"event_id": ""}, "$.event_id"),
        ({"timestamp": -1}, "$.timestamp"),
        ({"timestamp": 1.5}, "$.timestamp"),
        ({"timestamp": True}, "$.timestamp"),
        ({"context": {"device": ["phone"]}}, "$.context"),
        ({"type": "dance"}, "$.type"),
        ({"type": "rating"}, "rating"),
    ],
)
def test_a_bad_field_is_refused_by_its_json_path(changed: dict[str, object], path: str) -> None:
    fields = {"type": "click", "user_id": "u1", "item_id": "i9", "timestamp": 1, **changed}

    with pytest.raises(msgspec.ValidationError) as refused:
        read_event(json.dumps(fields).encode())

    assert path in str(refused.value)


def test_an_id_may_have_256_characters_of_any_script() -> None:
    longest = "語" * MAX_ID_CHARACTERS

    assert read_event(encode(Forget(user_id=longest, timestamp=1))).user_id == longest


@pytest.mark.parametrize("missing", ["type", "user_id", "item_id", "timestamp"])
def test_a_missing_field_is_named(missing: str) -> None:
    fields = {"type": "click", "user_id": "u1", "item_id": "i9", "timestamp": 1}
    del fields[missing]

    with pytest.raises(msgspec.ValidationError, match=missing):
        read_event(json.dumps(fields).encode())
