"""The command line: what each command is called with, and that it comes up quickly."""

import json
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumer import cli
from consumer.config import Settings

COMMANDS = [
    "demo",
    "run",
    "replay",
    "simulate",
    "click",
    "rate",
    "forget",
    "watch",
    "evaluate",
    "topics create",
    "topics describe",
    "dead-letters list",
    "dead-letters replay",
    "checkpoint show",
    "checkpoint verify",
    "explain",
    "config show",
]


@pytest.fixture
def called(monkeypatch):
    """What the command line came to: a list of (invocation, flags, as_json, debug)."""
    calls = []

    def invoke(invocation, flags, *, as_json, debug):
        calls.append((invocation, {name: value for name, value in flags.items() if value is not None}, as_json, debug))
        return 0

    monkeypatch.setattr(cli, "invoke", invoke)
    return calls


def parse(line):
    return CliRunner().invoke(cli.app, line.split())


def help_of(line):
    """The help, wide and without colours, whatever terminal the tests run in."""
    output = CliRunner().invoke(cli.app, [*line.split(), "--help"], env={"COLUMNS": "200"}).output
    return re.sub(r"\x1b\[[0-9;]*m", "", output)


@pytest.mark.parametrize(
    ("line", "module", "function", "options", "flags"),
    [
        ("demo", "demo", "run", {"dataset": "movielens-100k", "rate": None, "limit": None}, {}),
        ("demo --dataset synthetic --k 5", "demo", "run", {"dataset": "synthetic"}, {"k": "5"}),
        ("run", "run", "run", {"until_end": False, "reset": None}, {}),
        (
            "run --until-end --reset earliest --batch-size 64 --checkpoint-dir /x --metrics-port 0 --device cpu",
            "run",
            "run",
            {"until_end": True, "reset": "earliest"},
            {"batch_size": "64", "checkpoint_dir": "/x", "metrics_port": "0", "device": "cpu"},
        ),
        (
            "replay --dataset synthetic --rate 50 --limit 7 --bootstrap-servers b:1",
            "replay",
            "run",
            {"dataset": "synthetic", "events": None, "rate": 50.0, "limit": 7},
            {"bootstrap_servers": "b:1"},
        ),
        ("replay --events a.jsonl", "replay", "run", {"dataset": None, "events": Path("a.jsonl")}, {}),
        (
            "simulate --users 5 --items 6 --rate 7 --seconds 8 --drift 0.5 --seed 9",
            "simulate",
            "run",
            {"users": 5, "items": 6, "rate": 7.0, "seconds": 8.0, "drift": 0.5},
            {"seed": "9"},
        ),
        ("click u1 i9", "click", "run", {"user_id": "u1", "item_id": "i9", "action": "click"}, {}),
        ("click u1 i9 --action like", "click", "run", {"action": "like"}, {}),
        ("rate u1 i9 4.5", "rate", "run", {"user_id": "u1", "item_id": "i9", "rating": 4.5}, {}),
        ("rate u1 i9 -3", "rate", "run", {"user_id": "u1", "item_id": "i9", "rating": -3.0}, {}),
        ("rate u1 i9 -2.5e-1 --rating-min -5", "rate", "run", {"rating": -0.25}, {"rating_min": "-5"}),
        ("rate --rating-max -1 -- -u -i -.5", "rate", "run", {"user_id": "-u", "rating": -0.5}, {"rating_max": "-1"}),
        ("forget u1", "forget", "run", {"user_id": "u1"}, {}),
        ("watch", "watch", "run", {"user_id": None, "from_beginning": False, "limit": None}, {}),
        (
            "watch u1 --from-beginning --limit 3",
            "watch",
            "run",
            {"user_id": "u1", "from_beginning": True, "limit": 3},
            {},
        ),
        (
            "evaluate --dataset movielens-100k --batch-size 512 --encoder recency",
            "evaluate",
            "run",
            {"dataset": "movielens-100k", "events": None, "allow_repeats": False, "strictly_before": False},
            {"batch_size": "512", "encoder": "recency"},
        ),
        (
            "evaluate --events e.jsonl --allow-repeats --history strictly-before --ranks r.csv --limit 9",
            "evaluate",
            "run",
            {
                "events": Path("e.jsonl"),
                "allow_repeats": True,
                "strictly_before": True,
                "ranks": Path("r.csv"),
                "limit": 9,
            },
            {},
        ),
        ("topics create --partitions 3", "topics", "create", {"replication_factor": -1}, {"partitions": "3"}),
        ("topics describe", "topics", "describe", {}, {}),
        ("dead-letters list --limit 5", "dead_letters", "list_letters", {"limit": 5, "reason": None}, {}),
        (
            *("dead-letters replay --again --since 2026-11-29", "dead_letters", "replay"),
            *({"again": True, "reason": None, "since": datetime(2026, 11, 29)}, {}),
        ),
        ("checkpoint show", "checkpoint", "show", {}, {}),
        ("checkpoint verify --checkpoint-dir /x", "checkpoint", "verify", {}, {"checkpoint_dir": "/x"}),
        ("explain u1", "explain", "run", {"user_id": "u1", "item_ids": ()}, {}),
        (
            *("explain u1 i2 i3 --checkpoint-dir /x", "explain", "run"),
            *({"user_id": "u1", "item_ids": ("i2", "i3")}, {"checkpoint_dir": "/x"}),
        ),
        ("config show --log-level debug", "config_show", "run", {}, {"log_level": "debug"}),
    ],
)
def test_a_line_becomes_a_call_of_its_command(called, line, module, function, options, flags):
    result = parse(line)

    assert result.exit_code == 0, result.output
    ((invocation, given, as_json, debug),) = called
    assert (invocation.module, invocation.function) == (module, function)
    assert options.items() <= invocation.options.items()
    assert given == flags
    assert (as_json, debug) == (False, False)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_takes_json_and_debug_and_explains_itself(called, line):
    arguments = {"click": " u i", "rate": " u i 3", "forget": " u", "explain": " u", "replay": " --dataset synthetic"}
    arguments["evaluate"] = arguments["replay"]

    result = parse(f"{line}{arguments.get(line, '')} --json --debug")

    assert result.exit_code == 0, result.output
    assert called[0][0].name == line
    assert called[0][2:] == (True, True)
    assert help_of(line).count("--json") == 1


WRONG = [
    "nonsense",
    "run --nonsense",
    "run --reset sometime",
    "click u1",
    "rate u1 i9 good",
    "rate u1 i9 -3 -4",
    "rate u1 i9 -3x",
    "rate --ratingmin u1 3",
    "rate u1 i9 -inf",
    "evaluate",
    "evaluate --dataset synthetic --events a.jsonl",
    "evaluate --dataset netflix",
    "replay",
    "replay --dataset synthetic --limit 0",
    "replay --dataset synthetic --rate 0",
    "replay --dataset synthetic --rate inf",
    "replay --dataset synthetic --rate nan",
    "demo --rate inf",
    "simulate --rate nan",
    "evaluate --dataset synthetic --history sometimes",
]


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_exit_status_2_and_calls_nothing(called, line):
    result = parse(line)

    assert (result.exit_code, result.stdout) == (2, "")
    assert called == []


@pytest.mark.parametrize("line", [*WRONG, "topics"])
def test_wrong_usage_with_json_ends_in_one_json_object_and_people_are_told_as_ever(called, line):
    result = parse(f"{line} --json")

    assert result.exit_code == 2
    assert called == []
    (last,) = result.stdout.splitlines()
    said = json.loads(last)
    assert said.keys() == {"error"}
    assert said["error"]
    assert "Usage:" in result.stderr


def test_the_status_of_the_command_is_the_exit_status(monkeypatch):
    monkeypatch.setattr(cli, "invoke", lambda *_, **__: 1)

    assert parse("topics describe").exit_code == 1


def test_config_show_has_a_flag_for_every_setting():
    output = help_of("config show")

    for name in Settings.model_fields:
        assert (f"--{name.replace('_', '-')} " in output) == (name not in ("librdkafka", "from_files")), name


def test_help_says_the_default_of_a_setting():
    output = help_of("run")

    assert "Most events in a step; in `demo` 32 if left out. [default: (512)]" in output


def test_the_console_script_and_the_module_run_without_torch():
    code = (
        "import sys\n"
        "from consumer.cli import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['config', 'show']).exit_code == 0\n"
        "assert 'torch' not in sys.modules and 'river' not in sys.modules and 'numpy' not in sys.modules\n"
    )

    checked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_command_line_is_imported_is_told_by_the_exit_status(number):
    code = (
        "import os, sys\n"
        "from consumer.__main__ import main\n"
        "class Interrupted:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'consumer.config':\n"
        f"            os.kill(os.getpid(), {number})\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_python_m_consumer_is_headrace():
    checked = subprocess.run(
        [sys.executable, "-m", "consumer", "config", "show", "--k", "7", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )

    assert json.loads(checked.stdout.splitlines()[-1])["k"] == 7
