"""`python -m benchmarks.profiled`: where the worker's time goes, function by function, under cProfile.

The profiler makes Python slower and leaves native code as it is, so read the shares for what is called, and the
shares of stages (printed without the profiler) for how long it takes.
"""

import argparse
import cProfile
import pstats
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.phases import Phase
from benchmarks.processes import run_alone
from benchmarks.sending import preload
from benchmarks.service import Service
from benchmarks.stream import EVENTS_TOPIC, Stream
from consumer import logs
from consumer.broker import InProcessBroker

ROOT = Path(__file__).parent.parent
ROWS = 30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiled", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="longest time under the profiler")
    parser.add_argument("--no-lists", action="store_true", help="from take to learn only")
    parser.add_argument("--ranked-share", type=float, default=1.0)
    given = parser.parse_args()
    logs.configure("warning")
    stream = Stream(events=given.events, items=given.items)
    phase = Phase("profiled", given.seconds, given.events // 2 - 1024, not given.no_lists, given.ranked_share)
    with InProcessBroker({EVENTS_TOPIC: stream.partitions}) as broker:
        run_alone(preload, broker.bootstrap_servers, stream)
        service = Service(broker.bootstrap_servers, stream, {})
        plain = service.run(phase)
        profiler = cProfile.Profile()
        profiler.enable()
        service.run(replace(phase, name="under the profiler"))
        profiler.disable()
        service.close()
    report.emit({"benchmark": phase.name, **plain, "settings": asdict(phase) | asdict(stream)}, as_json=False)
    for row in rows(profiler):
        sys.stdout.write(row)


def rows(profiler: cProfile.Profile) -> list[str]:
    """The functions that took most time themselves: share of the whole, calls, name."""
    stats: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    longest = sorted(stats.items(), key=lambda entry: entry[1][2], reverse=True)[:ROWS]
    return [
        f"{own / total:6.1%} {own:8.3f} s own {whole:8.3f} s in all {calls:9,} calls  {_named(*place)}\n"
        for place, (_, calls, own, whole, _) in longest
    ]


def _named(path: str, line: int, function: str) -> str:
    if path.startswith(("~", "<")):
        return function
    inside = Path(path).is_relative_to(ROOT)
    return f"{Path(path).relative_to(ROOT) if inside else Path(path).name}:{line} {function}"


if __name__ == "__main__":
    main()
