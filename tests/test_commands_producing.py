"""The commands that send and the one that watches, on the in-process broker."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from typer.testing import CliRunner

from consumer.broker import PRODUCE, InProcessBroker
from consumer.cli import app
from consumer.commands import click, forget, rate, replay, sending, simulate, watch
from consumer.commands.sending import deliver
from consumer.config import Settings, load
from consumer.invocation import Invocation, invoke
from producer.client import DeliveryFailed
from producer.datasets import Dataset, DatasetUnavailable
from producer.datasets import load as load_dataset
from producer.events import EPOCH_HEADER, Click, Event, Forget, Rating, Recommendations, ScoredItem, SourceEvent, encode
from producer.subscriber import Forgotten

EVENTS, LISTS = "recs.events.v1", "recs.recommendations.v1"


@pytest.fixture
def broker(in_process_broker: Callable[..., InProcessBroker]) -> InProcessBroker:
    return in_process_broker({EVENTS: 1, LISTS: 1})


@pytest.fixture
def settings(broker: InProcessBroker) -> Settings:
    return settings_for(broker.bootstrap_servers)


def settings_for(bootstrap_servers: str, **flags: object) -> Settings:
    return load({"bootstrap_servers": bootstrap_servers, **flags}, environment={})


def sent(settings: Settings, number: int) -> list[Event]:
    """The first so many events of the topic."""
    return [msgspec.json.decode(message.value() or b"", type=Event) for message in messages(settings, number)]


def messages(settings: Settings, number: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "reader", "fetch.wait.max.ms": 5})
    consumer.assign([TopicPartition(settings.events_topic, 0, 0)])
    found: list[Message] = []
    deadline = time.monotonic() + 20
    while len(found) < number and time.monotonic() < deadline:
        found += consumer.consume(number - len(found), 0.1)
    consumer.close()
    return found


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- click, rate, forget ---


def test_click_sends_one_click_of_now(settings: Settings) -> None:
    before = now_ms()

    answer = click.run(settings, "u1", "i9", action="play")

    (event,) = sent(settings, 1)
    assert event == Click(user_id="u1", item_id="i9", action="play", timestamp=event.timestamp)
    assert before <= event.timestamp <= now_ms()
    assert answer == {
        "sent": 1,
        "topic": EVENTS,
        "event": {
            "type": "click", "user_id": "u1", "item_id": "i9", "action": "play", "timestamp": event.timestamp
        },
    }  # fmt: skip
    assert json.loads(json.dumps(answer)) == answer


def test_rate_sends_one_rating_of_now(settings: Settings) -> None:
    answer = rate.run(settings, "u1", "i9", 4.5)

    (event,) = sent(settings, 1)
    assert event == Rating(user_id="u1", item_id="i9", rating=4.5, timestamp=event.timestamp)
    assert answer["event"]["rating"] == 4.5
    assert abs(event.timestamp - now_ms()) < 60_000


def test_forget_sends_one_request(settings: Settings) -> None:
    answer = forget.run(settings, "u1")

    (event,) = sent(settings, 1)
    assert event == Forget(user_id="u1", timestamp=event.timestamp)
    assert answer["sent"] == 1


@pytest.mark.parametrize("rating", [0.4, 5.1, float("nan"), float("inf")])
def test_a_rating_off_the_scale_is_not_sent(rating: float) -> None:
    with pytest.raises(ValueError, match=r"rating: expected a number from 0\.5 to 5, got"):
        rate.run(settings_for("127.0.0.1:1"), "u1", "i9", rating)


def test_the_scale_is_that_of_the_settings(broker: InProcessBroker) -> None:
    answer = rate.run(settings_for(broker.bootstrap_servers, rating_min=0, rating_max=100), "u1", "i9", 80)

    assert answer["event"]["rating"] == 80


@pytest.mark.parametrize(
    ("command", "arguments", "path"),
    [
        (click.run, ("", "i9"), r"\$\.user_id"),
        (click.run, ("u1", "i" * 257), r"\$\.item_id"),
        (rate.run, ("u1", "", 3.0), r"\$\.item_id"),
        (forget.run, ("",), r"\$\.user_id"),
    ],
)
def test_a_bad_id_is_not_sent_and_is_named(
    command: Callable[..., object], arguments: tuple[object, ...], path: str
) -> None:
    with pytest.raises(ValueError, match=path):
        command(settings_for("127.0.0.1:1", librdkafka={"log_level": "0"}), *arguments)


def test_no_broker_is_said_in_bounded_time() -> None:
    nobody = settings_for("127.0.0.1:1", librdkafka={"log_level": "0"})

    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 .* 0\.2 seconds; is HEADRACE_BOOTSTRAP_SERVERS right"):
        deliver(nobody, Forget(user_id="u1", timestamp=1), timeout_seconds=0.2)


def test_an_event_that_the_broker_refuses_is_a_failure(broker: InProcessBroker, settings: Settings) -> None:
    broker.fail_next_requests(PRODUCE, [KafkaError.POLICY_VIOLATION] * 100)

    with pytest.raises(DeliveryFailed, match="POLICY_VIOLATION"):
        click.run(settings, "u1", "i9")


# --- replay ---


def write_events(path: Path, number: int) -> list[Event]:
    events: list[Event] = [Click(user_id="u1", item_id=f"i{index}", timestamp=index) for index in range(number)]
    path.write_bytes(b"".join(encode(event) + b"\n" for event in events))
    return events


def test_replay_sends_a_file_in_its_order(settings: Settings, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.jsonl", 50)

    answer = replay.run(settings, events=tmp_path / "events.jsonl")

    assert sent(settings, 50) == events
    assert answer.keys() == {"sent", "failed", "seconds", "events_per_second", "topic"}
    assert (answer["sent"], answer["failed"], answer["topic"]) == (50, 0, EVENTS)
    assert answer["events_per_second"] == pytest.approx(50 / answer["seconds"])


def test_replay_sends_the_beginning_of_a_data_set(settings: Settings) -> None:
    answer = replay.run(settings.model_copy(update={"seed": 3}), dataset="synthetic", limit=100)

    assert answer["sent"] == 100
    assert sent(settings, 100) == list(load_dataset("synthetic", seed=3).events[:100])


def test_replay_keeps_a_rate(settings: Settings, tmp_path: Path) -> None:
    write_events(tmp_path / "events.jsonl", 41)

    answer = replay.run(settings, events=tmp_path / "events.jsonl", rate=100)

    assert answer["seconds"] >= 0.4


@pytest.mark.parametrize("both", [{}, {"dataset": "synthetic", "events": Path("events.jsonl")}])
def test_replay_wants_either_a_data_set_or_a_file(both: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"either --dataset or --events FILE\.jsonl"):
        replay.run(settings_for("127.0.0.1:1"), **both)  # type: ignore[arg-type]


def test_replay_of_an_unknown_data_set_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="movielens-100k, synthetic"):
        replay.run(settings_for("127.0.0.1:1"), dataset="netflix")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"type":"dance"}', r".*`\$\.type`"),
        (
            b'{"type":"click","user_id":"u","item_id":"i","timestamp":253402300800000}',
            r"click: \$\.timestamp: expected at most .*; it was not sent",
        ),
    ],
)
def test_replay_of_a_broken_file_names_the_line_and_says_how_much_was_sent_before(
    settings: Settings, tmp_path: Path, line: bytes, why: str
) -> None:
    events = write_events(tmp_path / "events.jsonl", 3)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(line + b"\n")

    with pytest.raises(RuntimeError, match=rf"events\.jsonl, line 4: {why}; 3 events before it were sent$"):
        replay.run(settings, events=tmp_path / "events.jsonl")

    assert sent(settings, 3) == events


def test_replay_of_a_broken_file_says_also_what_did_not_arrive(
    broker: InProcessBroker, settings: Settings, tmp_path: Path
) -> None:
    write_events(tmp_path / "events.jsonl", 3)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b"{}\n")
    broker.fail_next_requests(PRODUCE, [KafkaError.POLICY_VIOLATION] * 100)

    with pytest.raises(RuntimeError, match=r"; 0 events before it were sent, and 3 did not arrive$"):
        replay.run(settings, events=tmp_path / "events.jsonl")


@pytest.mark.parametrize(
    ("sound", "status", "said"), [(0, 2, "nothing was sent"), (3, 1, "3 events before it were sent")]
)
def test_a_broken_file_is_wrong_usage_until_something_was_sent(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sound: int,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr("consumer.logs.configure", lambda *_, **__: None)
    file = tmp_path / "events.jsonl"
    write_events(file, sound)
    with file.open("ab") as lines:
        lines.write(b"{}\n")
    flags = {"bootstrap_servers": settings.bootstrap_servers}

    left = invoke(Invocation("replay", "replay", {"events": file}), flags, as_json=False, debug=False)

    assert left == status
    assert re.search(rf"events\.jsonl, line {sound + 1}: .*; {said}\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("sound", "kind", "said"), [(0, ValueError, "nothing was sent"), (3, RuntimeError, "3 events before it were sent")]
)
def test_an_event_that_is_too_large_is_named_by_its_number(
    settings: Settings, tmp_path: Path, sound: int, kind: type[Exception], said: str
) -> None:
    file = tmp_path / "events.jsonl"
    events = write_events(file, sound)
    with file.open("ab") as lines:
        lines.write(encode(Click(user_id="u1", item_id="i1", timestamp=1, text="x" * 2_000_000)) + b"\n")

    with pytest.raises(kind, match=rf"^event {sound + 1}: click: 20000\d\d bytes are more than .*; {said}$"):
        replay.run(settings, events=file)

    assert sent(settings, sound) == events


def a_folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    del path


@pytest.mark.parametrize("make", [nothing, a_folder])
def test_a_file_that_cannot_be_read_is_wrong_usage_before_a_broker_is_asked(
    tmp_path: Path,
    closed_port: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
) -> None:
    monkeypatch.setattr("consumer.logs.configure", lambda *_, **__: None)
    monkeypatch.setattr(sending, "REACH_SECONDS", 0.5)
    file = tmp_path / "events.jsonl"
    make(file)
    flags = {"bootstrap_servers": closed_port}

    status = invoke(Invocation("replay", "replay", {"events": file}), flags, as_json=False, debug=False)

    assert status == 2
    assert f"--events: expected a file that can be read, got {str(file)!r}" in capsys.readouterr().err


def test_replay_reads_a_pipe(settings: Settings, tmp_path: Path) -> None:
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    events = [Click(user_id="u1", item_id=f"i{index}", timestamp=index) for index in range(3)]
    writer = Thread(target=lambda: pipe.write_bytes(b"".join(encode(event) + b"\n" for event in events)))
    writer.start()

    answer = replay.run(settings, events=pipe)

    writer.join()
    assert answer["sent"] == 3
    assert sent(settings, 3) == events


def test_replay_says_when_a_data_set_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str, seed: int) -> None:
        raise DatasetUnavailable(f"{name} {seed} is not here")

    monkeypatch.setattr(replay, "load", unavailable)

    with pytest.raises(DatasetUnavailable, match="movielens-100k 0 is not here"):
        replay.run(settings_for("127.0.0.1:1"), dataset="movielens-100k")


def test_replay_fails_when_events_did_not_arrive(broker: InProcessBroker, settings: Settings, tmp_path: Path) -> None:
    write_events(tmp_path / "events.jsonl", 3)
    broker.fail_next_requests(PRODUCE, [KafkaError.POLICY_VIOLATION] * 100)

    with pytest.raises(RuntimeError, match=f"3 of 3 events did not reach {EVENTS}: .*POLICY_VIOLATION"):
        replay.run(settings, events=tmp_path / "events.jsonl")


# --- simulate ---


def test_simulate_sends_at_its_rate_for_its_time_stamped_with_now(settings: Settings) -> None:
    before = now_ms()

    answer = simulate.run(settings, users=20, items=50, rate=200, seconds=0.5)

    events = sent(settings, 100)
    assert (answer["sent"], answer["failed"]) == (100, 0)
    assert answer["seconds"] >= 0.49
    assert all(before <= event.timestamp <= now_ms() for event in events)
    assert events[-1].timestamp - events[0].timestamp >= 450


def test_simulate_sends_the_same_for_the_same_seed_but_for_the_time(broker: InProcessBroker) -> None:
    streams = []
    for topic, seed in (("a", 1), ("b", 1), ("c", 2)):
        broker.create_topic(topic, 1)
        settings = settings_for(broker.bootstrap_servers, events_topic=topic, seed=seed)
        simulate.run(settings, rate=10_000, seconds=0.02)
        streams.append([(type(event), event.user_id) for event in sent(settings, 200)])

    assert len(streams[0]) == 200
    assert streams[0] == streams[1]
    assert streams[0] != streams[2]


@pytest.mark.parametrize(
    ("environment", "flag", "seed"),
    [
        ({}, [], 0),
        ({"HEADRACE_SEED": "41"}, [], 41),
        ({"HEADRACE_SEED_FILE": "{file}"}, [], 42),
        ({"HEADRACE_SEED_FILE": "{file}"}, ["--seed", "43"], 43),
    ],
)
def test_the_seed_of_what_is_made_up_is_that_of_the_settings_wherever_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], flag: list[str], seed: int
) -> None:
    (tmp_path / "seed").write_text("42\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(file=tmp_path / "seed"))
    monkeypatch.setattr("consumer.logs.configure", lambda *_, **__: None)
    seeds: list[int] = []
    for module, maker in ((simulate, "simulate"), (replay, "load")):
        monkeypatch.setattr(
            module, maker, lambda *_, **given: seeds.append(given["seed"]) or Dataset("made", [], {}, [])
        )
        monkeypatch.setattr(module, "send_all", lambda *_, **__: {})

    statuses = [
        CliRunner().invoke(app, [*command, *flag]).exit_code
        for command in (["simulate"], ["replay", "--dataset", "synthetic"])
    ]

    assert statuses == [0, 0]
    assert seeds == [seed, seed]


def test_simulated_ratings_are_on_the_scale_of_the_settings(broker: InProcessBroker) -> None:
    settings = settings_for(broker.bootstrap_servers, rating_min=1, rating_max=10)

    simulate.run(settings, rate=10_000, seconds=0.02, rating_share=1.0)

    ratings = {event.rating for event in sent(settings, 200) if isinstance(event, Rating)}
    assert ratings <= set(range(1, 11))
    assert max(ratings) > 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0}, "rate: expected a number above 0, got 0"),
        ({"rate": float("nan")}, "rate: expected a number above 0, got nan"),
        ({"rate": float("inf")}, "rate: expected a number above 0, got inf"),
        ({"seconds": -1}, "seconds: expected a number above 0, got -1"),
        ({"seconds": float("inf")}, "seconds: expected a number above 0, got inf"),
        (
            {"seconds": 1e300, "rate": 1e300},
            r"seconds: expected a number above 0, got 1e\+300 at 1e\+300 events a second",
        ),
        ({"users": 0}, "users: expected 1 or more, got 0"),
        ({"drift": 2}, "drift: expected a number from 0 to 1, got 2"),
        ({"turnover_at": 0.5}, "turnover_at: .* give --seconds as well"),
    ],
)
def test_simulate_names_a_wrong_argument(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate.run(settings_for("127.0.0.1:1"), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_endless_simulation_ends_in_peace_when_told_to(settings: Settings, number: signal.Signals) -> None:
    program = (
        "from consumer.commands import simulate; from consumer.config import load; import json\n"
        f"print(json.dumps(simulate.run(load({{'bootstrap_servers': {settings.bootstrap_servers!r}}}, {{}}))))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    first = sent(settings, 1)

    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=20)

    answer = json.loads(output)
    assert first
    assert process.returncode == 0
    assert answer["failed"] == 0
    assert len(sent(settings, answer["sent"])) == answer["sent"] >= 1


def test_the_sending_commands_load_nothing_of_the_model() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'river', 'numba'): sys.modules[name] = None\n"
        "from consumer.commands import click, forget, rate, replay, sending, simulate, watch\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


# --- watch ---


def recommendations(user_id: str, version: int, *items: str) -> Recommendations:
    return Recommendations(
        user_id=user_id,
        recommendation_id=f"r{version}",
        generated_at=1_000,
        model_version=version,
        source=SourceEvent(EVENTS, 0, version, 1_000),
        items=[ScoredItem(item, 1 - place / 10) for place, item in enumerate(items)],
    )


def publish(settings: Settings, *news: Recommendations | str) -> None:
    """Lists, and tombstones where only the user's id is given."""
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for one in news:
        user_id, value = (one, None) if isinstance(one, str) else (one.user_id, encode(one))
        producer.produce(LISTS, value=value, key=user_id.encode(), headers={EPOCH_HEADER: b"1"})
    assert producer.flush(10) == 0


def without_age(text: str) -> str:
    return re.sub(r"\d+\.\d{3} s", "0.000 s", text)


def test_watch_shows_one_users_list_and_marks_what_changed(settings: Settings) -> None:
    publish(
        settings,
        recommendations("u1", 1, "a", "b", "c"),
        recommendations("u2", 1, "x"),
        recommendations("u1", 2, "c", "b", "d"),
        "u1",
    )
    texts: list[str] = []

    answer = watch.run(settings, "u1", from_beginning=True, limit=3, write=texts.append)

    assert answer == {"lists": 2, "forgotten": 1, "malformed": 0}
    assert without_age(texts[0]).splitlines() == [
        "u1  version 1, 0.000 s after the event",
        "   1     1.0000  a",
        "   2     0.9000  b",
        "   3     0.8000  c",
    ]
    assert texts[1].splitlines()[1:] == [
        "   1     1.0000  c  up 2",
        "   2     0.9000  b",
        "   3     0.8000  d  new",
        "      gone: a",
    ]
    assert texts[2] == "u1  forgotten"


def test_watch_shows_everybody_in_a_line_each(settings: Settings) -> None:
    publish(
        settings,
        recommendations("u1", 1, "a", "b"),
        recommendations("u2", 1, "x"),
        recommendations("u1", 2, "b", "c"),
        recommendations("u1", 3, "c", "b"),
    )
    texts: list[str] = []

    watch.run(settings, from_beginning=True, limit=4, write=texts.append)

    assert [without_age(text).partition("event: ")[2] for text in texts] == [
        "new of a b",
        "new of x",
        "+c -a of b c",
        "reordered of c b",
    ]


def test_watch_says_that_a_list_is_empty() -> None:
    one, all_users = watch.Changes(one_user=True), watch.Changes(one_user=False)

    texts = [changes.text(recommendations("u1", 1), now_ms=1_000) for changes in (one, all_users)]

    assert texts[0].splitlines()[1].startswith("      no items: ")
    assert ": no items: " in texts[1]


def test_watch_ends_in_peace_when_told_to(settings: Settings) -> None:
    publish(settings, recommendations("u1", 1, "a"))
    program = (
        "from consumer.commands import watch; from consumer.config import load; import json\n"
        f"settings = load({{'bootstrap_servers': {settings.bootstrap_servers!r}}}, {{}})\n"
        "print(json.dumps(watch.run(settings, from_beginning=True)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()

    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=20)

    assert first.startswith("u1  version 1")
    assert process.returncode == 0
    assert json.loads(output) == {"lists": 1, "forgotten": 0, "malformed": 0}


def test_watch_refuses_a_user_whom_nobody_can_be() -> None:
    with pytest.raises(ValueError, match=r"^USER: expected a user_id, got an empty one"):
        watch.run(settings_for("127.0.0.1:1"), "")


def test_watch_refuses_a_limit_below_one() -> None:
    with pytest.raises(ValueError, match="limit: expected 1 or more, got 0"):
        watch.run(settings_for("127.0.0.1:1"), limit=0)


def test_control_characters_of_an_id_do_not_reach_the_terminal() -> None:
    changes = watch.Changes(one_user=True)

    text = changes.text(recommendations("u\x1b[31m", 1, "i\x07é"), now_ms=2_500)

    assert text == "u\\x1b[31m  version 1, 1.500 s after the event\n   1     1.0000  i\\x07é"


def test_watch_remembers_a_bounded_number_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LISTS_REMEMBERED", 2)
    changes = watch.Changes(one_user=False)
    for user_id in ("u1", "u2", "u1", "u3"):
        changes.text(recommendations(user_id, 1, "a"), now_ms=1_000)

    still_known, dropped = (changes.text(recommendations(user_id, 2, "b"), now_ms=1_000) for user_id in ("u1", "u2"))

    assert "+b -a of b" in still_known
    assert "new of b" in dropped


def test_after_being_forgotten_a_users_list_is_new() -> None:
    changes = watch.Changes(one_user=False)
    changes.text(recommendations("u1", 1, "a"), now_ms=1_000)
    changes.text(Forgotten("u1"), now_ms=1_000)

    assert "new of b" in changes.text(recommendations("u1", 2, "b"), now_ms=1_000)
