"""Commands as processes of their own, and `headrace run` as one to be killed and to be sent signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from consumer.config import Settings

START_SECONDS = 240.0
"""A machine may be busy, and a first start compiles for more than a minute: this long is a failure, not slowness."""

FLAGS = (
    *("bootstrap_servers", "group_id", "events_topic", "recommendations_topic", "dead_letter_topic", "k"),
    *("batch_size", "embedding_dim", "device", "checkpoint_dir", "checkpoint_seconds", "checkpoints_kept"),
)
VARIABLES = ("rating_dim", "history_window", "max_event_bytes", "max_staleness_seconds")


ROOT = Path(__file__).parent.parent


def surroundings(**variables: str) -> dict[str, str]:
    """The environment of a command: this one's without settings, and these variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "KAFKA_"))}
    return {**inherited, **variables}


class WorkerProcess:
    """A running worker. Leaving the `with` kills what is still there."""

    def __init__(self, settings: Settings, log_file: Path, *options: str) -> None:
        flags = [f"--{name.replace('_', '-')}={getattr(settings, name)}" for name in FLAGS]
        variables = {f"HEADRACE_{name.upper()}": str(getattr(settings, name)) for name in VARIABLES}
        self._log_file = log_file
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", *flags, "--metrics-port=0", "--json", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=surroundings(**variables),
            )

    def log(self) -> list[dict[str, Any]]:
        """What it has said so far: a JSON object a line."""
        lines = self._log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def is_working(self) -> bool:
        return any(entry["event"] == "working" for entry in self.log())

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Return once it is so; a worker that ends first, or never gets there, fails the test."""
        deadline = time.monotonic() + START_SECONDS
        while not happened():
            assert self._process.poll() is None, self._log_file.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log_file.read_text()[-3000:]
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._process.kill()
        self._process.communicate()

    def end(self, within_seconds: float = START_SECONDS) -> tuple[int, str]:
        """Wait for its end: exit status and standard output. subprocess.TimeoutExpired where it takes longer."""
        output, _ = self._process.communicate(timeout=within_seconds)
        return self._process.returncode, output.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
