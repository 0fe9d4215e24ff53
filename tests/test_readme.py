"""The README is true of the code: its settings, commands, metrics and make targets exist, and its examples run."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from confluent_kafka import Producer
from promql import series_of_the_worker

import consumer.cli
from consumer.broker import InProcessBroker
from consumer.config import Settings
from producer.events import Recommendations, ScoredItem, SourceEvent, encode

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NOT_SETTINGS = {"librdkafka", "from_files"}
"""Fields of Settings that no HEADRACE_ variable sets."""


def settings_table() -> list[str]:
    """The rows of the settings table, as they have to be."""
    rows = []
    for name, field in Settings.model_fields.items():
        if name in NOT_SETTINGS:
            continue
        what = (field.description or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `HEADRACE_{name.upper()}` | `{shown(field.default)}` | {what} |")
    return rows


def shown(value: object) -> str:
    if value is None:
        return "auto"
    if isinstance(value, tuple):
        return ",".join(f"{number:g}" for number in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={number:g}" for key, number in value.items())
    if isinstance(value, Path):
        return f"./{value}"
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def commands() -> dict[str, set[str]]:
    """Every command, as it is typed -> its options."""
    found: dict[str, set[str]] = {}

    def visit(command: Any, words: tuple[str, ...]) -> None:
        found[" ".join(words)] = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, (*words, name))

    visit(typer.main.get_command(consumer.cli.app), ())
    return found


def unknown_commands(text: str) -> list[str]:
    """Lines and code spans that call `headrace` with a command or an option that it does not have."""
    wrong = []
    for call in re.findall(r"(?:^ *(?:\$ )?|`)headrace ([^`\n#]+)", text, re.MULTILINE):
        words = call.split()
        known = [" ".join(words[:count]) for count in range(1, len(words) + 1) if " ".join(words[:count]) in commands()]
        options = set(re.findall(r"(--[a-z-]+)", call))
        if not known or known[-1] in groups() or options - commands()[known[-1]]:
            wrong.append(call)
    return wrong


def groups() -> set[str]:
    """Words that are no command without another one: `topics`, `checkpoint`, ..."""
    return {name.rsplit(" ", 1)[0] for name in commands() if " " in name}


def test_the_settings_table_is_that_of_the_code() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `HEADRACE_")]

    assert rows == settings_table(), "\n".join(["the table should be:", *settings_table()])


def test_every_setting_named_anywhere_exists() -> None:
    named = set(re.findall(r"\bHEADRACE_([A-Z_]*[A-Z])\b", README))

    assert named - {name.upper() for name in Settings.model_fields} - {"REQUIRE_KAFKA"} == set()


def test_every_command_and_option_in_the_readme_exists() -> None:
    assert unknown_commands(README) == []


def test_every_command_that_exists_is_in_the_readme() -> None:
    missing = [name for name in commands() if name and name not in groups() and f"headrace {name}" not in README]

    assert missing == []


@pytest.mark.parametrize("text", ["`headrace fly`", "    headrace run --fast", "$ headrace topics invent"])
def test_a_command_that_does_not_exist_is_caught(text: str) -> None:
    assert len(unknown_commands(text)) == 1


def test_the_metrics_of_the_readme_are_those_of_the_code() -> None:
    tabled = re.findall(r"`(headrace_\w+?)(?:\{([\w,]+)\})?`", README)
    series = {re.sub(r"_(bucket|sum|count)$", "", name): labels for name, labels in series_of_the_worker().items()}

    assert {name for name, _ in tabled} == {name for name in series if name.startswith("headrace_")}
    for name, labels in tabled:
        if name != "headrace_build_info":
            assert set(filter(None, labels.split(","))) == series[name], name


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`)make ([a-z]+)", README, re.MULTILINE))

    assert {"demo", "test"} <= named
    assert named - targets == set()


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http|#)([^)#]+)", README)

    assert len(links) >= 3
    assert [link for link in links if not (ROOT / link).exists()] == []


class Enough(Exception):
    """Ends an example that would go on for ever."""


def example(containing: str, bootstrap_servers: str) -> str:
    blocks = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if containing in block]
    assert len(blocks) == 1, containing
    return blocks[0].replace("localhost:9092", bootstrap_servers)


def test_the_sending_example_delivers_its_events(in_process_broker: Callable[..., InProcessBroker]) -> None:
    broker = in_process_broker({"recs.events.v1": 1})

    printed: list[tuple[object, ...]] = []
    exec(example("EventProducer(", broker.bootstrap_servers), {"print": lambda *words: printed.append(words)})

    assert printed == [(4, "delivered")]


def test_the_reading_example_prints_what_the_topic_holds_as_it_says_and_a_person_who_was_forgotten(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    broker = in_process_broker({"recs.recommendations.v1": 1})
    older = Recommendations(
        user_id="ada",
        recommendation_id="r1",
        generated_at=1,
        model_version=1,
        source=SourceEvent("recs.events.v1", 0, 0, 1),
        items=[ScoredItem("the-wheel", 0.9), ScoredItem("the-river", 0.5)],
    )
    newer = msgspec.structs.replace(older, recommendation_id="r2", model_version=2, items=[ScoredItem("the-sea", 0.9)])
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for value in (encode(older), encode(newer), None):
        producer.produce("recs.recommendations.v1", key="ada", value=value, headers={"headrace.epoch": b"1"})
    producer.flush(10)

    printed: list[str] = []

    def print_and_stop(*words: object) -> None:
        printed.append(" ".join(map(str, words)))
        if len(printed) == 3:
            raise Enough

    code = example("Subscriber(", broker.bootstrap_servers)
    with pytest.raises(Enough):
        exec(code, {"print": print_and_stop})

    assert "# first what the topic still holds, oldest first, " in code
    assert printed == ["ada ['the-wheel', 'the-river']", "ada ['the-sea']", "ada was forgotten"]
