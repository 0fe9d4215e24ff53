"""`python -m benchmarks.on_kafka`: freshness on a real Kafka, which is as it was afterwards."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is not part of the package

from benchmarks.on_kafka import main, summed  # noqa: E402


def measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.on_kafka", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_it_ends_with_the_worker_over_two_hops_and_leaves_no_topic_and_no_group(kafka) -> None:
    done = measure(
        *("--bootstrap-servers", kafka.bootstrap_servers, "--items", "60", "--users", "400"),
        *("--seconds", "1.5", "--rates", "200,400", "--partitions", "2"),
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["benchmark"] for line in lines] == [
        "hops at 200/s",
        "freshness at 200/s",
        "hops at 400/s",
        "freshness at 400/s",
        "summary",
    ]
    assert all(line["unfinished"] == 0 and line["lists_per_event"] > 0.5 for line in lines[1:4:2])
    assert lines[1]["events"] == 300
    assert set(lines[-1]["freshness_p99_of_two_hops"]) == {"200/s", "400/s"}
    made = {line["settings"]["stream"]["topic"] for line in lines[:4]}
    assert len(made) == 4
    assert not {name for name in kafka.admin.list_topics().topics if name.startswith("headrace-benchmark")}
    assert not {group.group_id for group in kafka.admin.list_consumer_groups().result().valid} & made


def test_the_last_line_divides_the_workers_times_by_those_of_two_hops() -> None:
    times = {"p50_ms": 3.0, "p99_ms": 8.0, "p99.9_ms": 9.0}

    found = summed(
        {1000.0: {"one_hop": times, "two_hops": times | {"p99_ms": 4.0}}},
        {1000.0: times | {"events": 7}},
    )

    assert found["freshness_p99_of_two_hops"] == {"1000/s": 2.0}
    assert found["freshness_ms"]["worker"] == {"1000/s": {"p50": 3.0, "p99": 8.0, "p99.9": 9.0}}
    assert found["freshness_ms"]["two hops"] == {"1000/s": {"p50": 3.0, "p99": 4.0, "p99.9": 9.0}}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: --bootstrap-servers"),
        (["--bootstrap-servers", "HERE", "--rates", "fast"], "--rates: expected numbers above 0, .* got 'fast'"),
        (["--bootstrap-servers", "HERE", "--rates", "5,0"], "--rates: expected numbers above 0, .* got '5,0'"),
        (["--bootstrap-servers", "HERE", "--items", "0"], "items: expected 1 to 10000000, got 0"),
        (["--bootstrap-servers", "HERE", "--seconds", "0"], "events: expected 1 to .*, got 0"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line_before_anything_is(arguments, says, closed_port, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument.replace("HERE", closed_port) for argument in arguments])

    assert ended.value.code == 2
    assert re.search(f"error: .*{says}$", capsys.readouterr().err.strip())
