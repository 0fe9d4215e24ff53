"""`python -m benchmarks.saves`: for how long a save of a checkpoint keeps the worker's loop from its steps.

A worker on the in-process broker that knows `--users` users and `--items` items learns from a backlog, lists for
everyone it touches, and saves every `--every` seconds. A line a save: the longest pause, how many pieces it was done
in, how long it took in all, and the bytes of the checkpoint. The last line has the first save's pause, whose memory is
new, and the median and the longest of the others. The save at the end of a run waits for everything; it is left out.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.growth import OUTPUTS
from benchmarks.phases import Phase
from benchmarks.processes import Process, run_alone
from benchmarks.report import Result
from benchmarks.sending import preload
from benchmarks.stream import Stream
from consumer.broker import InProcessBroker

LEAST_SAVES = 2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saves", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=500_000, help="the backlog")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two saves")
    parser.add_argument("--encoder", help="instead of the default one")
    given = parser.parse_args(arguments)
    try:
        stream = Stream(given.events, given.users, given.items)
    except ValueError as error:
        parser.error(str(error))
    settings: dict[str, object] = {"checkpoint_seconds": given.every}
    if given.encoder is not None:
        settings["encoder"] = given.encoder
    with InProcessBroker({stream.topic: stream.partitions, **OUTPUTS}) as broker, Process() as process:
        run_alone(preload, broker.bootstrap_servers, stream)
        saves = process.run(measure, broker.bootstrap_servers, stream, settings)
    if len(saves) < LEAST_SAVES:
        parser.error(f"{len(saves)} saves: more --events, or less time between two, give at least {LEAST_SAVES}")
    for save in saves:
        report.emit({"benchmark": "save", **save}, as_json=True)
    stated = {"stream": asdict(stream), "worker": settings}
    report.emit({"benchmark": "saves", **summed(saves), "machine": report.machine(), "settings": stated}, as_json=True)


def measure(bootstrap_servers: str, stream: Stream, settings: dict[str, object]) -> list[Result]:
    """The saves of a worker that learns all of the stream, in their order."""
    from benchmarks.service import Service
    from consumer import logs

    logs.configure("error")
    service = Service(bootstrap_servers, stream, settings)
    progress = service.worker.progress
    advance, pieces, saves = progress.advance, list[float](), list[Result]()

    def timed(*parts: Any) -> bool:
        started = time.perf_counter()
        is_durable = advance(*parts)
        pieces.append(time.perf_counter() - started)
        if is_durable:
            saves.append(
                {
                    "pause_ms": round(max(pieces) * 1000, 3),
                    "pieces": len(pieces),
                    "median_piece_ms": round(statistics.median(pieces) * 1000, 3),
                    "seconds": round(progress.save_seconds, 3),
                    "bytes": _bytes_of(service.settings.checkpoint_dir),
                }
            )
            pieces.clear()
        return is_durable

    progress.advance = timed  # type: ignore[method-assign]
    service.run(Phase("saves", seconds=600, events=stream.events - 1024, lists=True))
    service.close()
    return saves


def summed(saves: Sequence[Result]) -> Result:
    others = [save["pause_ms"] for save in saves[1:]]
    return {
        "first_pause_ms": saves[0]["pause_ms"],
        "median_pause_ms": round(statistics.median(others), 3),
        "longest_pause_ms": max(others),
        "bytes": saves[-1]["bytes"],
    }


def _bytes_of(folder: Path) -> int:
    """Of the newest checkpoint."""
    newest = max((path for path in folder.rglob("*.safetensors")), key=lambda path: path.stat().st_mtime_ns)
    return newest.stat().st_size


if __name__ == "__main__":
    main()
