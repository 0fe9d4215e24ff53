"""`python -m benchmarks.saves`: what a save costs the worker's loop."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is not part of the package

from benchmarks.saves import main, summed  # noqa: E402


def test_each_save_is_told_and_the_last_line_sums_up() -> None:
    command = [sys.executable, "-m", "benchmarks.saves", "--users", "300", "--items", "60", "--events", "8000"]

    done = subprocess.run([*command, "--every", "0.05"], cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    *saves, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(saves) >= 2
    assert all(save["pieces"] >= 2 and 0 < save["median_piece_ms"] <= save["pause_ms"] for save in saves)
    assert all(save["bytes"] > 10_000 for save in saves)
    assert last["first_pause_ms"] == saves[0]["pause_ms"]
    assert last["settings"]["worker"] == {"checkpoint_seconds": 0.05}


def test_the_first_save_whose_memory_is_new_is_told_apart() -> None:
    saves = [{"pause_ms": pause_ms, "bytes": size} for pause_ms, size in ((90.0, 5), (3.0, 6), (8.0, 7), (4.0, 8))]

    assert summed(saves) == {"first_pause_ms": 90.0, "median_pause_ms": 4.0, "longest_pause_ms": 8.0, "bytes": 8}


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--items", "0"], "items: expected 1 to"), (["--events", "2000"], "saves: more --events")]
)
def test_what_gives_no_figure_is_refused(arguments, says, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--users", "50"])

    assert ended.value.code == 2
    assert says in capsys.readouterr().err
