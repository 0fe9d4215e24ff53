"""Events one by one and events as columns, for tests: from one to the other and back."""

from typing import Any, NamedTuple

from stream_fakes import Record

from consumer.decode import Decoder, Events
from consumer.kernels.parse import IMPRESSION
from consumer.records import Taken
from producer.events import Click, Event, Forget, Impression, Rating, encode


class One(NamedTuple):
    """An event of the columns, and its record."""

    event: Event
    record: Any


def each(events: Events) -> list[One]:
    """The events, put together again from their columns; where the whole event was kept, the columns agree with it."""
    return [One(event_at(events, place), events.taken.records[events.place_E[place]]) for place in range(len(events))]


def event_at(events: Events, place: int) -> Event:
    whole = events.structs.get(int(events.place_E[place]))
    names = {
        name: ids.name(place)
        for name, ids in (
            ("user_id", events.users),
            ("item_id", events.items),
            ("action", events.actions),
            ("event_id", events.event_ids),
        )
        if ids.length_B[place] >= 0
    }
    kind = (Click, Rating, Impression, Forget)[events.type_E[place]]
    fields = {**names, "timestamp": int(events.time_E[place])}
    if kind is Rating:
        fields["rating"] = float(events.rating_E[place])
    if whole is not None:
        assert type(whole) is kind
        assert {name: getattr(whole, name) for name in fields} == fields
        return whole
    assert events.type_E[place] < IMPRESSION
    return kind(**fields)


def events_of(*events: Event, partition: int = 0) -> Events:
    """What the worker makes of these events; the rating scale is wide."""
    records = [Record(partition, offset, encode(event)) for offset, event in enumerate(events)]
    accepted, rejects = Decoder(-1e9, 1e9)(Taken(records))
    assert rejects == []
    return accepted
