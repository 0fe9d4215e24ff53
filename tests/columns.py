"""Events one by one and events as columns, for tests: from one to the other and back."""

from typing import Any, NamedTuple

import msgspec
from stream_fakes import Record

from consumer.decode import Decoder, Events
from consumer.records import Taken
from producer.events import Click, Event, Forget, Impression, Rating, encode

OPTIONAL = ("event_id", "text", "context")


class One(NamedTuple):
    """An event of the columns, and its record."""

    event: Event
    record: Any


def each(events: Events) -> list[One]:
    """The events one by one; the columns agree with them."""
    return [One(event_at(events, place), events.taken.records[events.place_E[place]]) for place in range(len(events))]


def event_at(events: Events, place: int) -> Event:
    taken = int(events.place_E[place])
    whole = msgspec.json.decode(events.taken.records[taken].value(), type=Event)
    names = {
        name: ids.name(place)
        for name, ids in (
            ("user_id", events.users),
            ("item_id", events.items),
            ("action", events.actions),
            ("event_id", events.event_ids),
            ("text", events.texts),
            ("context", events.contexts),
        )
        if ids.length_B[place] >= 0
    }
    kind = (Click, Rating, Impression, Forget)[events.type_E[place]]
    fields = {**names, "timestamp": int(events.time_E[place])}
    if "context" in fields:
        fields["context"] = msgspec.json.decode(fields["context"])
    if kind is Rating:
        fields["rating"] = float(events.rating_E[place])
    assert type(whole) is kind
    assert {name: getattr(whole, name) for name in fields} == fields
    assert [getattr(whole, name, None) for name in OPTIONAL] == [fields.get(name) for name in OPTIONAL]
    return whole


def events_of(*events: Event, partition: int = 0) -> Events:
    """What the worker makes of these events; the rating scale is wide."""
    records = [Record(partition, offset, encode(event)) for offset, event in enumerate(events)]
    accepted, rejects = Decoder(-1e9, 1e9)(Taken(records))
    assert rejects == []
    return accepted
