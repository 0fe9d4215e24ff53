"""`python -m benchmarks.profiled`: where the worker's time goes, function by function.

Under cProfile, which makes Python slower and leaves native code as it is, so read the shares for what is called, and
the shares of stages (printed without the profiler) for how long it takes. With `--flame FILE.svg` by samples of the
loop's thread instead, at almost its own speed, as a flame graph (`benchmarks.flame`); `--folded FILE` keeps the samples
for other tools. What other threads do is in neither.
"""

import argparse
import cProfile
import pstats
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import flame, report
from benchmarks.growth import OUTPUTS
from benchmarks.phases import Phase
from benchmarks.processes import run_alone
from benchmarks.sending import preload
from benchmarks.service import Service
from benchmarks.stream import EVENTS_TOPIC, Stream
from consumer import logs
from consumer.broker import InProcessBroker

ROOT = Path(__file__).parent.parent
ROWS = 30
LOOP, SAVE = "consumer/loop.py:run", "consumer/loop.py:save_progress"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiled", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="longest time under the profiler")
    parser.add_argument("--no-lists", action="store_true", help="from take to learn only")
    parser.add_argument(
        "--ranked-share", type=_share, default=1.0, help="share of users ranked live; auto: as `headrace run` does"
    )
    parser.add_argument("--encoder", help="instead of the default one; `recency` is taken at width 64")
    parser.add_argument("--flame", type=Path, metavar="FILE.svg", help="a flame graph instead of cProfile's table")
    parser.add_argument("--folded", type=Path, metavar="FILE", help="with --flame: the samples, a line a stack")
    given = parser.parse_args()
    if given.folded is not None and given.flame is None:
        parser.error("--folded: without --flame nothing is sampled")
    worker: dict[str, object] = {} if given.encoder is None else {"encoder": given.encoder}
    if given.encoder == "recency":
        worker["embedding_dim"] = 64  # as in the other benchmarks
    logs.configure("warning")
    stream = Stream(events=given.events, items=given.items)
    phase = Phase("profiled", given.seconds, given.events // 2 - 1024, not given.no_lists, given.ranked_share)
    with InProcessBroker({EVENTS_TOPIC: stream.partitions, **OUTPUTS}) as broker:
        run_alone(preload, broker.bootstrap_servers, stream)
        service = Service(broker.bootstrap_servers, stream, worker)
        plain = service.run(phase)
        report.emit(
            {"benchmark": phase.name, **plain, "settings": asdict(phase) | asdict(stream) | worker}, as_json=False
        )
        if given.flame is None:
            sys.stdout.writelines(rows(_under_cprofile(service, phase)))
        else:
            stacks, title = _sample(service, phase)
            _write(given.flame, flame.svg(stacks, title))
            if given.folded is not None:
                _write(given.folded, flame.folded(stacks))
        service.close()


def _share(text: str) -> float | None:
    return None if text == "auto" else float(text)


def _under_cprofile(service: Service, phase: Phase) -> cProfile.Profile:
    profiler = cProfile.Profile()
    profiler.enable()
    service.run(replace(phase, name="under the profiler"))
    profiler.disable()
    return profiler


def _sample(service: Service, phase: Phase) -> tuple[Counter[flame.Stack], str]:
    """The stacks of the phase's steps, saves left out, and what they are of."""
    with flame.Sampler(LOOP) as sampler:
        sampled = service.run(replace(phase, name="sampled"))
    steps = Counter({stack: count for stack, count in sampler.stacks.items() if SAVE not in stack})
    lists = "with a list for every touched user" if phase.lists else "without lists"
    return steps, (
        f"The worker's loop, {service.settings.encoder}, {service.worker.learner.items.in_use:,} items, {lists}: "
        f"{sampled['events_per_step']:.0f} events a step ({steps.total():,} samples, saves left out)"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
