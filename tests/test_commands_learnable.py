"""What of a stream would be learned: by the rules of the worker, with the place of what is none."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from consumer.commands import learnable as stream
from consumer.commands.learnable import Line, learnable, lines_of_dataset, lines_of_file
from consumer.config import Settings, load
from consumer.duplicates import CAPACITY
from producer.datasets import Dataset, EventsFileError
from producer.events import Click, Event, Rating

SETTINGS = load({}, environment={})
GOOD = {"type": "click", "user_id": "u", "item_id": "i", "timestamp": 5}
RATING = {"type": "rating", "user_id": "u", "item_id": "i", "rating": 4, "timestamp": 5}


def line(number: int = 1, **fields: object) -> Line:
    return Line(f"events.jsonl, line {number}", json.dumps({**GOOD, **fields}).encode())


def rating(number: object) -> Line:
    return Line("events.jsonl, line 1", json.dumps({**RATING, "rating": number}).encode())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What was logged of events that were left out."""
    entries: list[Mapping[str, Any]] = []

    class Log:
        def warning(self, _text: str, **entry: object) -> None:
            entries.append(entry)

    monkeypatch.setattr(stream, "log", Log())
    return entries


def test_events_come_in_the_order_of_their_lines() -> None:
    lines = [line(item_id=f"i{number}") for number in range(10_000)]

    found = learnable(lines, SETTINGS)

    assert found.events == [Click(user_id="u", item_id=f"i{number}", timestamp=5) for number in range(10_000)]
    assert found.left_out == {}


def test_the_limit_counts_lines_and_reads_no_further() -> None:
    lines = iter([line(), rating(99), Line("there", b"no event")])

    found = learnable(lines, SETTINGS, limit=2)

    assert (len(found.events), found.left_out.total()) == (2, 1)
    assert next(lines).where == "there"


@pytest.mark.parametrize(
    ("bad", "reason", "why"),
    [
        (rating(99), "out-of-range", "$.rating: expected a number from 0.5 to 5, got 99.0"),
        (rating(0), "out-of-range", "$.rating: expected a number from 0.5 to 5, got 0.0"),
        (line(timestamp=10**30), "from-the-future", "(the end of the year 9999), got 1000000000000000000000000000000"),
        (line(timestamp=-1), "out-of-range", "$.timestamp: "),
        (line(text="x" * 1_000_000), "too-large", "$: expected at most 1000000 bytes"),
    ],
)
def test_an_event_that_the_worker_would_not_learn_is_left_out_and_said_with_its_line(
    said: list[Mapping[str, Any]], bad: Line, reason: str, why: str
) -> None:
    found = learnable([line(), bad._replace(where="events.jsonl, line 2"), line(), bad], SETTINGS)

    assert [event is None for event in found.events] == [False, True, False, True]
    assert found.left_out == {reason: 2}
    [entry] = said  # the second one is only counted
    assert (entry["at"], entry["of"]) == ("events.jsonl, line 2", reason)
    assert why in entry["why"]


def test_the_scale_is_that_of_the_settings() -> None:
    found = learnable([rating(8), rating(0.5)], load({"rating_min": 1, "rating_max": 10}, environment={}))

    assert [event is None for event in found.events] == [False, True]


def test_an_event_id_that_came_before_is_a_duplicate(said: list[Mapping[str, Any]]) -> None:
    lines = [line(1, event_id="a"), line(2), line(3, event_id="a"), line(4, event_id="b"), line(5, event_id="a")]

    found = learnable(lines, SETTINGS)

    assert [event is None for event in found.events] == [False, False, True, False, True]
    assert found.left_out == {"duplicate": 2}
    assert [entry["at"] for entry in said] == ["events.jsonl, line 3"]


def test_an_event_id_is_remembered_as_long_as_the_worker_remembers_it() -> None:
    others = [line(event_id=f"e{number}") for number in range(CAPACITY)]

    inside = learnable([line(event_id="a"), *others[1:], line(event_id="a")], SETTINGS)
    outside = learnable([line(event_id="a"), *others, line(event_id="a")], SETTINGS)

    assert (inside.left_out["duplicate"], outside.left_out["duplicate"]) == (1, 0)


def test_an_event_that_is_rejected_takes_no_event_id() -> None:
    rejected = Line("there", json.dumps({**RATING, "rating": 99, "event_id": "a"}).encode())

    found = learnable([rejected, line(event_id="a")], SETTINGS)

    assert found.left_out == {"out-of-range": 1}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"hello", r"\$: expected a JSON object"),
        (b'{"type":"dance"}', r"\$\.type: expected one of"),
        (b'{"type":"click","user_id":"u","item_id":"i"}', r"\$\.timestamp: .* got nothing"),
        (b'{"type":"forget","user_id":"' + b"u" * 257 + b'","timestamp":1}', r"\$\.user_id: expected a string of 1"),
        (b'{"type":"forget","user_id":"u","timestamp":1,"x":"\xff"}', "invalid UTF-8"),
    ],
)
def test_a_line_that_is_no_event_is_an_error_with_its_place_and_path(payload: bytes, why: str) -> None:
    with pytest.raises(EventsFileError, match=rf"^events\.jsonl, line 3: .*{why}"):
        learnable([line(), Line("events.jsonl, line 3", payload)], SETTINGS)


def test_the_lines_of_a_file_are_numbered_with_the_empty_ones_which_are_passed_over(
    tmp_path: Path,
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"b":2}')

    assert list(lines_of_file(file)) == [
        Line(f"{file}, line 1", b'{"a":1}'),
        Line(f"{file}, line 4", b'{"b":2}'),
    ]


def test_a_data_set_is_judged_as_a_file_would_be(said: list[Mapping[str, Any]]) -> None:
    events: list[Event] = [Rating(user_id="u", item_id="i", rating=number, timestamp=1) for number in (3.0, 6.0)]

    found = learnable(lines_of_dataset(Dataset("made", events, {}, [])), SETTINGS)

    assert found.events == [events[0], None]
    assert said[0]["at"] == "made, event 2"


def test_settings_decide_how_large_an_event_may_be() -> None:
    narrow: Settings = load({"max_event_bytes": 100}, environment={})

    assert learnable([line(), line(text="x" * 100)], narrow).left_out == {"too-large": 1}
