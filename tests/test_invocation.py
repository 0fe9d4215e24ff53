"""From a parsed command line to an exit status and the last line of standard output."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import structlog
from worker_process import ROOT, surroundings

from consumer.environment import SettingsError
from consumer.invocation import Invocation, as_text, invoke, to_json


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    """No settings from the machine, and logging as it was."""
    for name in list(filter(lambda name: name.startswith(("HEADRACE_", "KAFKA_")), __import__("os").environ)):
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def command(monkeypatch):
    """A function that makes a command of a function, under a module name of consumer/commands/."""

    def make(run, name="made", **more):
        module = ModuleType(f"consumer.commands.{name}")
        vars(module).update(run=run, **more)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return Invocation(name, name)

    return make


def run(invocation, flags=None, *, as_json=False, debug=False):
    return invoke(invocation, flags or {}, as_json=as_json, debug=debug)


def raising(error):
    def run(_settings):
        raise error

    return run


def test_a_command_that_is_done_gives_its_answer_as_the_last_line(command, capsys):
    def work(settings):
        print("working ...")
        return {"k": settings.k, "hr@10": float("nan")}

    status = run(command(work), {"k": "7"}, as_json=True)

    assert status == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"k": 7, "hr@10": None}


def test_people_get_a_line_a_key(command, capsys):
    status = run(command(lambda _settings: {"step": 3, "offsets": {"recs.events.v1": {0: 5}}}))

    assert status == 0
    assert capsys.readouterr().out == 'step     3\noffsets  {"recs.events.v1":{"0":5}}\n'


def test_a_command_may_have_its_own_text_for_people(command, capsys):
    made = command(lambda _settings: {"n": 3}, as_text=lambda result: f"{result['n']} things")

    run(made)

    assert capsys.readouterr().out == "3 things\n"


def test_a_command_that_shows_its_result_itself_is_not_printed_twice(command, capsys):
    made = command(lambda _settings: {"n": 3})

    run(Invocation(made.name, made.module, shows_result=True))

    assert capsys.readouterr().out == ""


def test_options_and_the_function_are_the_invocations(command, capsys):
    def other(_settings, *, limit, as_json):
        return {"limit": limit, "as_json": as_json}

    made = command(None, other=other)

    run(Invocation("made other", made.module, {"limit": 4}, function="other"), as_json=True)

    assert json.loads(capsys.readouterr().out) == {"limit": 4, "as_json": True}


def test_a_failure_is_one_line_and_exit_status_1(command, capsys):
    status = run(command(raising(RuntimeError("no broker at localhost:9092"))), as_json=True)

    out, err = capsys.readouterr()
    assert status == 1
    assert err == "headrace made: no broker at localhost:9092\n"
    assert json.loads(out) == {"error": "no broker at localhost:9092"}


def test_a_failure_without_words_says_its_kind(command, capsys):
    run(command(raising(ConnectionError())))

    assert capsys.readouterr().err == "headrace made: ConnectionError\n"


def test_a_fault_of_ours_is_told_as_one(command, capsys):
    status = run(command(raising(KeyError("u7"))))

    assert status == 1
    assert capsys.readouterr().err == "headrace made: KeyError: 'u7' (a fault of Headrace; --debug shows where)\n"


@pytest.mark.parametrize("error", [RuntimeError("no broker"), SettingsError(["K: no", "SEED: no"]), KeyError("u7")])
@pytest.mark.parametrize("debug", [False, True])
def test_a_log_of_json_ends_with_an_entry_that_says_why(command, capsys, monkeypatch, error, debug):
    monkeypatch.setenv("HEADRACE_LOG_FORMAT", "JSON")

    status = run(command(raising(error)), debug=debug)

    [line] = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    told = [entry[name] for name in ("event", "level", "command", "status")]
    assert told == ["failed", "error", "made", status]
    assert str(error) in entry["why"]
    assert ("exception" in entry) == (debug and not isinstance(error, SettingsError))


@pytest.mark.parametrize("where", ["variable", "file", "flag"])
def test_settings_that_are_wrong_and_variables_that_are_none_are_entries_too(
    command, capsys, monkeypatch, tmp_path, where
):
    flags = {}
    match where:
        case "variable":
            monkeypatch.setenv("HEADRACE_LOG_FORMAT", "json")
        case "file":
            (tmp_path / "format").write_text("json\n")
            monkeypatch.setenv("HEADRACE_LOG_FORMAT_FILE", str(tmp_path / "format"))
        case "flag":
            flags["log_format"] = "json"
    monkeypatch.setenv("HEADRACE_BATCHSIZE", "7")
    made = command(lambda _settings: {})

    statuses = run(made, flags), run(made, {**flags, "k": "0", "seed": "x"})

    warning, wrong = map(json.loads, capsys.readouterr().err.splitlines())
    assert statuses == (0, 2)
    assert (warning["level"], warning["event"].partition(" is ")[0]) == ("warning", "HEADRACE_BATCHSIZE")
    assert [line.partition(":")[0] for line in wrong["why"].splitlines()] == ["--k", "--seed"]


@pytest.mark.parametrize(("options", "flags"), [({"debug": True}, {}), ({}, {"log_level": "debug"})])
def test_debugging_shows_the_traceback(command, capsys, options, flags):
    status = run(command(raising(RuntimeError("broken"))), flags, **options)

    err = capsys.readouterr().err
    assert status == 1
    assert "Traceback" in err
    assert err.endswith("headrace made: broken\n")


def test_wrong_settings_are_exit_status_2_a_line_each_and_no_traceback(command, capsys):
    status = run(command(lambda _settings: {}), {"k": "x", "batch_size": "0"}, debug=True)

    out, err = capsys.readouterr()
    assert status == 2
    assert [line.split(", got")[0] for line in err.splitlines()] == [
        "headrace made: --batch-size: expected at least 1",
        "headrace made: --k: expected a whole number",
    ]
    assert out == ""


def test_a_command_may_find_the_settings_wrong_too(command):
    assert run(command(raising(SettingsError(["HEADRACE_DEVICE: cuda is not here"])), name="run")) == 2


def test_a_wrong_argument_is_exit_status_2(command, capsys):
    status = run(command(raising(ValueError("rating: expected a number from 0.5 to 5, got 9"))))

    assert status == 2
    assert capsys.readouterr().err == "headrace made: rating: expected a number from 0.5 to 5, got 9\n"


def test_a_value_error_in_the_middle_of_the_workers_work_is_a_failure(command):
    assert run(command(raising(ValueError("shapes do not match")), name="run")) == 1


def test_ctrl_c_is_told_by_the_exit_status(command, capsys):
    status = run(command(raising(KeyboardInterrupt())))

    assert status == 130
    assert capsys.readouterr().err == ""


def test_an_unknown_variable_is_told_and_the_command_runs(command, capsys, monkeypatch):
    monkeypatch.setenv("HEADRACE_BATCHSIZE", "7")

    status = run(command(lambda _settings: {}))

    assert status == 0
    assert "warning: HEADRACE_BATCHSIZE is not a setting" in capsys.readouterr().err


def test_secrets_of_the_settings_do_not_reach_the_log(command, capsys, monkeypatch):
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2-hunter2")

    run(command(lambda _settings: structlog.get_logger().info("with hunter2-hunter2") or {}))

    err = capsys.readouterr().err
    assert "with ********" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, SettingsError])
def test_secrets_of_the_settings_are_in_no_word_about_a_failure(command, capsys, monkeypatch, kind):
    monkeypatch.setenv("KAFKA_SASL_OAUTHBEARER_CONFIG", "principal=ada secret=hunter2")

    run(command(raising(kind("not understood from here on: secret=hunter2"))), as_json=True, debug=True)

    out, err = capsys.readouterr()
    assert "not understood from here on: ********" in err
    assert json.loads(out) == {"error": "not understood from here on: ********"}
    assert "hunter2" not in err


def test_numbers_of_numpy_and_paths_are_plain_json():
    result = {"mean": np.float64(0.5), "counts": np.arange(3), "file": Path("a/b"), "inf": float("inf")}

    assert json.loads(to_json(result)) == {"mean": 0.5, "counts": [0, 1, 2], "file": "a/b", "inf": None}


def test_a_path_that_is_not_utf_8_is_json_too():
    path = os.fsdecode(b"/tmp/\xff")

    assert json.loads(to_json({"error": f"nothing in {path}", "file": Path(path)})) == {
        "error": "nothing in /tmp/?",
        "file": "/tmp/?",
    }


def headrace(*arguments, stdout=subprocess.PIPE, encoding="utf-8"):
    command = [sys.executable, "-m", "consumer", *arguments]
    environment = surroundings(PYTHONIOENCODING=encoding)
    streams = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("wrong", ["--k=0", "--bogus"])
def test_an_error_that_standard_output_does_not_take_keeps_its_status_and_shows_no_traceback(wrong):
    with Path("/dev/full").open("w") as full:
        done = headrace("config", "show", "--json", wrong, stdout=full)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert wrong.partition("=")[0] in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_error_that_standard_error_does_not_take_keeps_its_status_and_is_told_as_json():
    command = f"{sys.executable} -m consumer config show --k=0 --json 2> /dev/full"

    done = subprocess.run(command, shell=True, cwd=ROOT, env=surroundings(), capture_output=True, check=False)

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith("--k: expected")


@pytest.mark.parametrize(("wrong", "status"), [("", 0), ("--k=0", 2)])
def test_closed_streams_are_no_failure_and_no_file_gets_their_place(tmp_path, wrong, status):
    code = (
        "import os, sys; from consumer.__main__ import hold_closed_streams, main; hold_closed_streams()\n"
        f"open({str(tmp_path / 'first')!r}, 'w').fileno() > 2 or sys.exit(9)\n"
        f"sys.argv[1:] = ['config', 'show', *{wrong.split()!r}]\n"
        "main()\n"
    )
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        command = f'{sys.executable} -c "$CODE" {closed}'
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=surroundings(CODE=code), capture_output=True, text=True, check=False
        )
        shown = "" if closed != "2>&-" or wrong else "bootstrap_servers"
        assert (done.returncode, done.stdout.split(" ")[0]) == (status, shown), closed
        assert "Traceback" not in done.stderr


def test_what_the_encoding_of_standard_output_lacks_is_escaped_and_no_failure():
    arguments = ("config", "show", "--checkpoint-dir", "ü\U0001f600")

    plain, as_json = (headrace(*arguments, *more, encoding="ascii") for more in ((), ("--json",)))

    assert (plain.returncode, plain.stderr) == (0, "")
    assert r"\u00fc\ud83d\ude00" in plain.stdout
    assert (as_json.returncode, as_json.stderr) == (0, "")
    assert json.loads(as_json.stdout)["checkpoint_dir"] == "ü\U0001f600"


def test_text_for_people_is_short():
    assert as_text({}) == ""
    assert as_text({"a": None, "bb": True, "c": 0.25, "d": 1 / 3, "e": "x", "f": 2.0}).splitlines() == [
        "a   -",
        "bb  yes",
        "c   0.25",
        "d   0.3333",
        "e   x",
        "f   2",
    ]
