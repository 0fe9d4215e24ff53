"""`headrace demo` as people start it: a process of its own, on a small stream; and what goes wrong with it."""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from worker_process import ROOT, START_SECONDS, surroundings
from worker_site import tastes

from consumer.broker import CLIENT_PROPERTIES
from consumer.commands import demo
from consumer.commands.explain import UnknownUser
from consumer.config import Settings, load
from consumer.invocation import Invocation, invoke
from consumer.worker import Worker
from producer import datasets
from producer import replay as replay_module
from producer.datasets import Dataset, DatasetUnavailable
from producer.events import Item, User

KEYS = {
    *("events", "learned", "duplicates", "dead_letters", "recommendations", "unchanged", "seconds"),
    *("events_per_second", "freshness_seconds", "hr@10", "ndcg@10", "mae", "popularity_hr@10", "checkpoint"),
}


@contextmanager
def demo_process(folder: Path, *options: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A demo on the synthetic stream that keeps its temporary files in `folder`; killed if it is still there after."""
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "demo", "--dataset=synthetic", "--device=cpu", "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=surroundings(TMPDIR=str(folder), PYTHONUNBUFFERED="1", **variables),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def assert_consistent(answer: dict[str, Any]) -> None:
    assert set(answer) == KEYS
    assert answer["learned"] + answer["duplicates"] + answer["dead_letters"] == answer["events"]
    assert answer["events_per_second"] == pytest.approx(answer["events"] / answer["seconds"], rel=0.01)
    assert 0 < answer["freshness_seconds"]["p50"] <= answer["freshness_seconds"]["p99"]
    assert answer["checkpoint"] >= answer["events"] / 32  # steps have 32 events at most


def test_a_small_demo_learns_everything_and_sums_up(tmp_path: Path) -> None:
    with demo_process(tmp_path, "--limit=3000", "--metrics-port=0") as process:
        output, errors = process.communicate(timeout=START_SECONDS)

    answer = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, errors
    assert_consistent(answer)
    assert (answer["events"], answer["learned"]) == (3_000, 3_000)
    assert answer["recommendations"] > 1_000
    assert answer["hr@10"] > 2 * answer["popularity_hr@10"] > 0
    assert 0 < answer["ndcg@10"] < answer["hr@10"]
    assert 0 < answer["mae"] < 1.5
    assert "\x1b" not in output  # no terminal, so lines without colours
    assert "3,000: 3,000 learned, 0 duplicates, 0 dead letters" in output
    assert re.search(
        r"\nWhy that list .* User (\S+): .*\n\n   1  .*\n      score .*history .*\n      lower without ", output
    )
    assert "What to try next" in output
    assert all(json.loads(line)["level"] == "info" for line in errors.splitlines())
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_ctrl_c_ends_the_demo_with_what_was_done_so_far_and_a_busy_port_does_not_stop_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with demo_process(tmp_path, f"--metrics-port={port}", "--rate=500") as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            address = next(
                found[1] for line in lines if (found := re.search(r"(http://127\.0\.0\.1:\d+/metrics)", line))
            )
            wait_until_learned(address, 200)
            readiness = urllib.request.urlopen(address.replace("metrics", "readyz")).status
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=START_SECONDS)

    answer = json.loads(output.splitlines()[-1])
    assert f":{port}/" not in address
    assert readiness == 200
    assert process.returncode == 0, errors
    assert_consistent(answer)
    assert 200 <= answer["events"] < 100_000
    assert f"{answer['events']:,}: {answer['learned']:,} learned" in output
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_it_compiles_ends_the_demo_with_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    folder, kernels = tmp_path / "temporary", tmp_path / "kernels"  # nothing is compiled yet
    folder.mkdir()
    with demo_process(folder, "--metrics-port=0", NUMBA_CACHE_DIR=str(kernels)) as process:
        deadline = time.monotonic() + START_SECONDS
        while not any(kernels.rglob("*.nbc")):
            assert time.monotonic() < deadline
            time.sleep(0.02)

        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=START_SECONDS)

    answer = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, errors
    assert output.splitlines()[2:-1] == ["Told to stop before the first event."]
    assert "looking for the topics" not in errors  # what comes after the kernels
    assert set(answer) == KEYS
    assert (answer["events"], answer["learned"], answer["checkpoint"], answer["hr@10"]) == (0, 0, 0, None)
    assert list(folder.iterdir()) == []


def wait_until_learned(address: str, count: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    learned = 0.0
    while learned < count:
        assert time.monotonic() < deadline
        scraped = urllib.request.urlopen(address).read().decode()
        counted = re.findall(r'^headrace_events_total\{.*outcome="learned".*\} (\S+)', scraped, re.MULTILINE)
        learned = sum(map(float, counted))
        time.sleep(0.02)


# --- in this process, to make things go wrong ---


@pytest.fixture
def settings() -> Settings:
    return load({"device": "cpu", "metrics_port": 0}, environment={})


@pytest.fixture(scope="module")
def titles() -> Mapping[str, str]:
    """Of items that are made up anew here, so that a test has no data set to load."""
    return {f"i{number}": f"Film number {number}" for number in range(40)}


@pytest.fixture(autouse=True)
def _small_data_set(monkeypatch: pytest.MonkeyPatch, titles: Mapping[str, str]) -> None:
    events = list(tastes(1_000))
    monkeypatch.setattr(demo, "load", lambda name, seed: Dataset(f"{name} {seed}", events, titles, []))


def test_a_data_set_that_cannot_be_had_is_one_line_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consumer.logs.configure", lambda *_, **__: None)
    monkeypatch.setattr(demo, "load", datasets.load)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as if there were no network

    status = invoke(Invocation("demo", "demo", {"dataset": "movielens-100k"}), {}, as_json=True, debug=False)

    printed = capsys.readouterr()
    [line] = [line for line in printed.err.splitlines() if "warning" not in line]
    assert status == 1
    assert line.startswith("headrace demo: ")
    assert "Ways out: try again" in line
    assert "--dataset synthetic" in line
    assert json.loads(printed.out.splitlines()[-1])["error"] in line


def test_a_data_set_that_is_made_up_is_that_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str, seed: int) -> None:
        raise DatasetUnavailable(f"{name} {seed} is not here")

    monkeypatch.setattr(demo, "load", unavailable)

    with pytest.raises(DatasetUnavailable, match="synthetic 7 is not here"):
        demo.run(load({"seed": 7}, environment={}), dataset="synthetic")


def test_the_demo_sends_no_faster_than_it_is_told_and_by_default_at_its_own_pace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[object] = []

    def noted(*given: Any, **options: Any) -> Any:
        rates.append(options["rate"])
        return replay_module.replay(*given, **options)

    monkeypatch.setattr(demo, "replay", noted)

    demo.run(settings, limit=64)
    slow = demo.run(settings, limit=64, rate=100)

    assert rates == [demo.EVENTS_PER_SECOND, 100]
    assert slow["seconds"] >= 0.6


@pytest.mark.parametrize(("given", "most"), [({}, 32), ({"batch_size": 64}, 64), ({"batch_size": 512}, 512)])
def test_the_demo_ranks_everybody_and_keeps_steps_small_where_nobody_set_their_size(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, object], most: int
) -> None:
    made: list[Settings] = []
    worker = demo.Worker
    monkeypatch.setattr(demo, "Worker", lambda settings, **given: made.append(settings) or worker(settings, **given))
    settings = load(
        {"device": "cpu", "metrics_port": 0, "quality_share": 0, "librdkafka": {"client.id": "x"}, **given},
        environment={},
    )

    answer = demo.run(settings, limit=100)

    [used] = made
    assert (used.batch_size, used.quality_share, used.librdkafka) == (most, 1.0, CLIENT_PROPERTIES)
    assert used.bootstrap_servers != settings.bootstrap_servers
    assert not used.checkpoint_dir.exists()  # a folder of its own, gone with the demo
    assert answer["hr@10"] >= 0


def test_what_is_known_of_items_and_users_is_there_before_the_first_event(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Worker] = []
    worker = demo.Worker
    monkeypatch.setattr(demo, "Worker", lambda *given, **more: made.append(worker(*given, **more)) or made[-1])
    items = [Item(item_id=f"i{n}", timestamp=0, title=f"Film number {n}") for n in range(40)]
    users = [User(user_id=f"u{n}", timestamp=0, categories=["a person"]) for n in range(5)]
    data = Dataset("small", list(tastes(200)), {}, items, users)
    monkeypatch.setattr(demo, "load", lambda *_, **__: data)

    demo.run(settings)

    content, said = made[0].learner.ranking.content, made[0].learner.said.content
    assert content is not None
    assert said is not None
    assert (content.ids.in_use, said.ids.in_use) == (40, 5)
    assert content.born_cold_X[content.row_I[: content.items]].all()


def test_events_that_did_not_arrive_fail_the_demo(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(*given: Any, **options: Any) -> Any:
        return replay_module.replay(*given, **options)._replace(failed=3)

    monkeypatch.setattr(demo, "replay", lossy)

    with pytest.raises(RuntimeError, match="3 events did not reach the in-process broker"):
        demo.run(settings, limit=50)


def test_told_to_stop_while_it_starts_the_demo_leaves_no_thread_no_folder_and_no_broker(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Settings] = []
    worker = demo.Worker

    def interrupted(settings: Settings, **given: Any) -> Worker:
        made.append(settings)
        signal.raise_signal(signal.SIGINT)
        return worker(settings, **given)

    monkeypatch.setattr(demo, "Worker", interrupted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads, handler = set(threading.enumerate()), signal.getsignal(signal.SIGINT)

    answer = demo.run(settings)

    [used] = made
    host, port = used.bootstrap_servers.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    assert set(answer) == KEYS
    assert capsys.readouterr().out.splitlines()[2:] == ["Told to stop before the first event."]
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= threads
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("part", ["_Sender", "_Reader"])
def test_a_background_that_breaks_ends_the_demo_with_its_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def breaking(*_: object, **__: object) -> Callable[..., Any]:
        raise ArithmeticError("no such luck")

    monkeypatch.setattr(demo, {"_Sender": "replay", "_Reader": "Subscriber"}[part], breaking)

    with pytest.raises(ArithmeticError, match="no such luck"):
        demo.run(settings, limit=50)


def test_one_persons_list_is_shown_with_the_titles_of_the_data_set(
    settings: Settings,
    titles: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "Screen", partial(demo.Screen, every_seconds=1e-9))

    demo.run(settings, limit=500)

    output = capsys.readouterr().out
    shown = re.findall(r"; first for user \S+: (.+)$", output, re.MULTILINE)
    explained = re.findall(r"^   [1-3]  (.+)$", output, re.MULTILINE)
    assert shown
    assert len(explained) == 3
    assert {*shown, *explained} <= set(titles.values())


def test_a_person_who_is_dropped_before_the_end_is_not_explained(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As HEADRACE_MAX_USERS may do."""

    def dropped(_settings: Settings, *, user_id: str) -> NoReturn:
        raise UnknownUser(user_id)

    monkeypatch.setattr(demo.explain, "run", dropped)

    assert demo.run(settings, limit=50)["events"] == 50
    assert "What to try next" in capsys.readouterr().out
