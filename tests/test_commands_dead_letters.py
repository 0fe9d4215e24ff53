"""`dead-letters list` and `replay`, on the in-process broker and on a real Kafka."""

import time
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from broker_clients import SECONDS, produce, produce_with_header_named, read
from confluent_kafka import KafkaError
from conftest import InProcess

from consumer.broker import PRODUCE
from consumer.commands import dead_letters
from consumer.config import Settings
from consumer.publish import LETTER_HEADERS, UNREADABLE_HEADERS, Publisher
from consumer.source import Reset, Source
from producer.client import DeliveryFailed

pytestmark = pytest.mark.usefixtures("quick_producers")

QUICK = {"fetch.wait.max.ms": "2", "enable.idempotence": "false", "max.in.flight": "1"}
"""Seeking does not wait for an empty fetch, nor sending for the number of an idempotent producer."""


class Rejected(NamedTuple):
    record: object
    reason: str
    detail: str


@pytest.fixture
def settings(broker, unique):
    """Settings whose topics exist: events in two partitions, letters in two."""
    return Settings(
        bootstrap_servers=broker.bootstrap_servers,
        group_id=unique("group"),
        events_topic=broker.create_topic(unique("events"), 2),
        dead_letter_topic=broker.create_topic(unique("dlq"), 2),
        librdkafka=QUICK,
    )


def reject(settings, broker, unique, values, *, reason="not-json", key=b"u1", headers=(), times=1):
    """Records with these values become dead letters, as the worker makes them; several `times`, as after crashes."""
    origin = broker.create_topic(unique("origin"))
    produce(settings.bootstrap_servers, origin, values, key=key, headers=headers)
    publisher = Publisher(
        settings.bootstrap_servers, topic="unused", dead_letter_topic=settings.dead_letter_topic, epoch=1
    )
    records = read(settings.bootstrap_servers, origin, len(values))
    for _ in range(times):
        publisher.dead_letter([Rejected(record, reason, f"$: no {reason}") for record in records])
    publisher.flush(SECONDS)
    return origin


def events(settings):
    """Key, value and headers of everything on the events topic."""
    source = Source(settings.bootstrap_servers, settings.events_topic, "tests", librdkafka=settings.librdkafka)
    source.seek(None, Reset.EARLIEST)
    count = sum(source.end_offsets().values())
    found = []
    while len(found) < count:
        found += [(record.key(), record.value(), record.headers() or []) for record in source.take(100, SECONDS)]
    source.close()
    return found


def test_a_letter_is_listed_with_where_it_came_from_why_and_how_it_begins(settings, broker, unique):
    origin = reject(settings, broker, unique, [b"hello \x1b[31m", None])

    listed = dead_letters.list_letters(settings)

    first, second = listed["letters"]
    assert (first["source"], first["reason"], first["detail"]) == (f"{origin}[0]@0", "not-json", "$: no not-json")
    assert (first["key"], first["value"]) == ("u1", "hello \N{REPLACEMENT CHARACTER}[31m")
    assert (second["source"], second["value"]) == (f"{origin}[0]@1", None)
    assert listed["reasons"] == {"not-json": 2}


def test_control_characters_in_the_headers_of_a_letter_that_somebody_else_wrote_do_not_reach_the_terminal(settings):
    values = dict.fromkeys(LETTER_HEADERS, b"a\x1b[31m\nb") | {"source.offset": b"7"}
    produce(settings.bootstrap_servers, settings.dead_letter_topic, [b"{}"], key=b"u", headers=list(values.items()))

    text = dead_letters.as_text(dead_letters.list_letters(settings))

    assert "\x1b" not in text
    assert len(text.splitlines()) == 4, "three of the letter, and the count"


def test_the_newest_letters_are_listed_and_all_are_counted(settings, broker, unique):
    reject(settings, broker, unique, [b"%d" % number for number in range(30)])
    reject(settings, broker, unique, [b"big"], reason="too-large")

    newest = dead_letters.list_letters(settings, limit=2)
    of_a_reason = dead_letters.list_letters(settings, reason="too-large")

    assert len(newest["letters"]) == 2
    assert newest["reasons"] == of_a_reason["reasons"] == {"not-json": 30, "too-large": 1}
    assert [letter["value"] for letter in of_a_reason["letters"]] == ["big"]


def test_no_letters_are_an_empty_list(settings):
    listed = dead_letters.list_letters(settings)

    assert listed == {"topic": settings.dead_letter_topic, "reasons": {}, "repeats": 0, "letters": []}
    assert dead_letters.as_text(listed) == "0 dead letters"


def test_a_replayed_letter_is_the_record_that_came(settings, broker, unique):
    settings = settings.model_copy(update={"librdkafka": {}})  # the client as it is without a word of the user's
    reject(settings, broker, unique, [b"\xff\x00", None], key=b"u\xff", headers=[("trace", b"7"), ("empty", None)])

    answer = dead_letters.replay(settings)

    began = datetime.fromisoformat(answer.pop("began")).replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - began).total_seconds()) < 60
    assert answer == {"replayed": 2, "passed_over": 0, "repeats": 0, "topic": settings.events_topic}
    own = [("trace", b"7"), ("empty", None)]
    assert events(settings) == [(b"u\xff", b"\xff\x00", own), (b"u\xff", None, own)]


@pytest.mark.parametrize("own", [("error.reason", b"mine"), ("source.offset", b"9"), ("error.detail", None)])
def test_a_records_own_header_of_a_name_of_ours_stays_its_own(settings, broker, unique, own):
    reject(settings, broker, unique, [b"one"], headers=[own, own])

    dead_letters.replay(settings)

    assert events(settings) == [(b"u1", b"one", [own, own])]
    assert dead_letters.list_letters(settings)["reasons"] == {"not-json": 1}


def test_a_letter_that_a_crash_repeated_is_sent_and_counted_once(settings, broker, unique):
    reject(settings, broker, unique, [b"one", b"one", None], times=3)

    listed, answer = dead_letters.list_letters(settings), dead_letters.replay(settings)

    assert (answer["replayed"], answer["repeats"]) == (3, 6)
    assert [value for _, value, _ in events(settings)] == [b"one", b"one", None]
    assert (listed["reasons"], listed["repeats"], len(listed["letters"])) == ({"not-json": 3}, 6, 3)


def test_a_repeat_that_came_after_its_letter_was_replayed_is_not_sent(settings, broker, unique):
    origin = reject(settings, broker, unique, [b"one"])
    dead_letters.replay(settings)
    headers = zip(LETTER_HEADERS, (b"not-json", b"$: no", origin.encode(), b"0", b"0"), strict=True)
    produce(settings.bootstrap_servers, settings.dead_letter_topic, [b"one"], key=b"u1", headers=[*headers])

    answer = dead_letters.replay(settings)

    assert (answer["replayed"], answer["repeats"]) == (0, 1)
    assert len(events(settings)) == 1


def test_a_topic_made_anew_has_other_records_at_the_same_places(settings):
    places = [*zip(LETTER_HEADERS, (b"not-json", b"$: no", b"events", b"0", b"7"), strict=True)]
    produce(settings.bootstrap_servers, settings.dead_letter_topic, [b"old", b"new"], headers=places)

    assert dead_letters.replay(settings)["replayed"] == 2


def test_a_letter_that_does_not_say_where_it_came_from_is_never_a_repeat(settings):
    produce(settings.bootstrap_servers, settings.dead_letter_topic, [b"one", b"one"])

    assert dead_letters.replay(settings)["replayed"] == 2


def test_a_letter_whose_headers_cannot_be_read_is_listed_and_sent_without_them(settings):
    broker, topic = settings.bootstrap_servers, settings.dead_letter_topic
    for _ in range(20):
        produce_with_header_named(broker, topic, b"\xff\xfe", b"one", key=b"u1")

    listed, answer = dead_letters.list_letters(settings), dead_letters.replay(settings)

    assert listed["reasons"] == {"-": 20}
    assert {letter["detail"] for letter in listed["letters"]} == {UNREADABLE_HEADERS}
    assert answer["replayed"] == 20
    assert events(settings) == [(b"u1", b"one", [])] * 20


def test_a_second_replay_sends_only_what_came_since(settings, broker, unique):
    reject(settings, broker, unique, [b"one", b"two"])
    dead_letters.replay(settings)
    reject(settings, broker, unique, [b"three"])

    answers = [dead_letters.replay(settings)["replayed"] for _ in range(2)]

    assert answers == [1, 0]
    assert sorted(value for _, value, _ in events(settings)) == [b"one", b"three", b"two"]


def test_replaying_again_begins_with_the_first(settings, broker, unique):
    reject(settings, broker, unique, [b"one"])
    dead_letters.replay(settings)

    answer = dead_letters.replay(settings, again=True)

    assert answer["replayed"] == 1
    assert len(events(settings)) == 2


def test_letters_of_other_reasons_are_passed_over_and_stay_within_reach(settings, broker, unique):
    reject(settings, broker, unique, [b"one"])
    reject(settings, broker, unique, [b"big"], reason="too-large")

    answer = dead_letters.replay(settings, reason="too-large")
    rest = dead_letters.replay(settings, reason="not-json", again=True)

    assert (answer["replayed"], answer["passed_over"]) == (1, 1)
    assert (rest["replayed"], rest["passed_over"]) == (1, 1)


def test_a_reason_that_is_none_is_refused_before_all_letters_are_passed_over(settings, broker, unique):
    reject(settings, broker, unique, [b"one"])

    for command in (dead_letters.replay, dead_letters.list_letters):
        with pytest.raises(ValueError, match=r"--reason: expected one of not-json, .*, got 'notjson'"):
            command(settings, reason="notjson")

    assert dead_letters.replay(settings)["replayed"] == 1


def test_a_letter_that_cannot_be_sent_is_an_error_and_is_sent_next_time(in_process: InProcess, unique):
    settings = Settings(
        bootstrap_servers=in_process.bootstrap_servers,
        events_topic=in_process.create_topic("events"),
        dead_letter_topic=in_process.create_topic("dlq"),
        librdkafka=QUICK,
    )
    reject(settings, in_process, unique, [b"one"])
    in_process.faults.fail_next_requests(PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])

    with pytest.raises(DeliveryFailed):
        dead_letters.replay(settings)

    assert dead_letters.replay(settings)["replayed"] == 1
    assert [value for _, value, _ in events(settings)] == [b"one"]


def test_letters_that_left_the_topic_unreplayed_are_told(broker, settings, unique):
    reject(settings, broker, unique, [b"one"])
    dead_letters.replay(settings)
    reject(settings, broker, unique, [b"two", b"three"])
    ends = {letter["partition"]: letter["offset"] + 1 for letter in dead_letters.list_letters(settings)["letters"]}
    for partition, end in ends.items():
        broker.delete_records(settings.dead_letter_topic, partition, end)

    with pytest.raises(RuntimeError, match="2 dead letters have left the topic before they were replayed; --again"):
        dead_letters.replay(settings)


def days_later(days=3.0):
    return lambda: time.time() + 86_400 * days


def test_where_a_replay_may_have_been_forgotten_nothing_is_sent_before_a_person_says_so(settings, broker, unique):
    reject(settings, broker, unique, [b"one", b"two"])

    with pytest.raises(dead_letters.ReplayUnknown, match=r"has 2 dead letters, .*--again sends all.*--since YYYY-"):
        dead_letters.replay(settings, now_seconds=days_later())

    assert events(settings) == []
    assert dead_letters.replay(settings, again=True, now_seconds=days_later())["replayed"] == 2


def test_once_a_replay_is_known_old_letters_are_no_question(settings, broker, unique):
    reject(settings, broker, unique, [b"one"])
    dead_letters.replay(settings)
    reject(settings, broker, unique, [b"two"])

    answer = dead_letters.replay(settings, now_seconds=days_later())

    assert answer["replayed"] == 1


def test_no_letters_or_young_ones_are_no_question(settings, broker, unique):
    assert dead_letters.replay(settings, now_seconds=days_later())["replayed"] == 0

    # Even of no letters it is remembered where they begin.
    reject(settings, broker, unique, [b"one"])

    assert dead_letters.replay(settings, now_seconds=days_later())["replayed"] == 1


def test_since_a_replay_that_was_forgotten_only_newer_letters_are_sent(settings, broker, unique):
    reject(settings, broker, unique, [b"replayed", b"replayed too"])
    replayed_at = datetime.now(UTC).replace(tzinfo=None)
    reject(settings, broker, unique, [b"new"])

    answers = [dead_letters.replay(settings, since=since, now_seconds=days_later()) for since in (replayed_at, None)]

    assert [(answer["replayed"], answer["passed_over"]) for answer in answers] == [(1, 2), (0, 0)]
    assert [value for _, value, _ in events(settings)] == [b"new"]


def test_people_see_a_letter_in_three_lines():
    letter = {"partition": 1, "offset": 7, "source": "e[0]@5", "reason": "invalid", "detail": "$: no", "value": "{}"}

    text = dead_letters.as_text({"topic": "dlq", "reasons": {"invalid": 2}, "repeats": 1, "letters": [letter]})

    assert text == "dlq[1]@7  invalid  from e[0]@5\n    $: no\n    {}\n2 dead letters: 2 invalid, 1 repeat left out"


def test_people_see_what_was_replayed():
    answer = {"replayed": 3, "passed_over": 2, "repeats": 4, "topic": "recs.events.v1", "began": "2026-11-29T12:00:00"}

    text = dead_letters.as_text(answer)

    sent = "3 dead letters sent to recs.events.v1 again, 2 passed over, 4 repeats left out"
    assert text == f"{sent}; begun at 2026-11-29T12:00:00 (UTC)"
