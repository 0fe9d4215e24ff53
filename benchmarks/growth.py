"""`python -m benchmarks.growth`: how the worker's events/s change with users, items, partitions and batch size.

Each curve varies one number and leaves the others where they are (`BASE`, `BATCH_SIZE`). A point is a worker in a
process of its own (encoder `recency` at width 64, all else by default) on a topic of its own, measured twice over:
`service` from take to publish, a list for every touched user at every step, and `learn` from take to learn, without
lists. Each is read several times by turns and the best reading counts, as other work on the machine only slows down.

Machines differ: what counts is `of_first`, the rate over that of the curve's first point, and `of_bare`, over the bare
client's in the same run. Where much else runs, `--clock cpu` draws events by seconds of the worker's CPU time (all its
threads) instead; the lines have both. One JSON object a point, with its full settings; the last line sums up. The
picture, `growth.png`, needs matplotlib; without it there are the lines alone. A whole run takes some three minutes,
`--quick` one.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.bare import consume_bare
from benchmarks.phases import Phase, close_service, open_service, run_phase
from benchmarks.processes import Process, run_alone
from benchmarks.report import Result
from benchmarks.sending import preload
from benchmarks.stream import EVENTS_TOPIC, Stream
from consumer.broker import InProcessBroker

BASE: Final = Stream(users=20_000, items=10_000, partitions=16)
BATCH_SIZE: Final = 512
WORKER: Final[dict[str, object]] = {"encoder": "recency", "embedding_dim": 64}
OUTPUTS: Final = {"recs.recommendations.v1": 8, "dlq.recs.events.v1": 1}
BARE: Final = Stream(events=300_000)
KINDS: Final = ("service", "learn")
RATES: Final = {"wall": "events_per_second", "cpu": "events_per_cpu_second"}
OUT: Final = Path("docs/figures")
PICTURE: Final = "growth.png"
LONGEST_SECONDS: Final = 10.0
"""Of a reading."""


@dataclass(frozen=True)
class Plan:
    """What is varied, and how much is read at each point."""

    curves: Mapping[str, Sequence[int]]
    reading_events: int = 3072
    readings: int = 4
    """Of each kind; a topic of one partition holds no more than these (5 MiB)."""
    base: Stream = BASE
    bare: Stream = BARE
    bare_readings: int = 3
    """At the beginning and again at the end."""
    clock: str = "wall"
    """What readings are compared and curves are drawn by, of `RATES`."""


FULL: Final = Plan(
    {
        "users": (1000, 10_000, 100_000),
        "items": (1000, 10_000, 100_000, 1_000_000),
        "partitions": (1, 8, 64),
        "batch_size": (32, 128, 512, 2048),
    }
)
QUICK: Final = Plan(
    {"users": (1000, 100_000), "items": (1000, 100_000), "partitions": (1, 64), "batch_size": (32, 512)},
    readings=2,
    bare_readings=1,
)


@dataclass(frozen=True)
class Point:
    """One worker: the stream it reads, and the batch sizes it is measured with."""

    stream: Stream
    batch_sizes: tuple[int, ...] = (BATCH_SIZE,)


def measure(plan: Plan, tell: Callable[[Result], None]) -> Result:
    """All curves of the plan; `tell` gets each point's line as it is there. The answer is the line that sums up."""
    bare = _bare(plan)
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, values in plan.curves.items():
        lines = curves[name] = {kind: [] for kind in KINDS}
        for value, line in _points(plan, name, values):
            for kind in KINDS:
                lines[kind].append((value, _rate(line[kind], plan)))
                line[kind]["of_first"] = round(lines[kind][-1][1] / lines[kind][0][1], 4)
            tell({"benchmark": f"growth, {name} {report.short(value)}", "curve": name, "value": value, **line})
    rate = report.median_rate([*bare, *_bare(plan)])
    return {
        "benchmark": "growth",
        "bare_events_per_second": round(rate, 1),
        "curves": {
            name: {
                kind: [
                    {
                        name: value,
                        RATES[plan.clock]: found,
                        "of_first": round(found / lines[0][1], 4),
                        "of_bare": round(found / rate, 5),
                    }
                    for value, found in lines
                ]
                for kind, lines in kinds.items()
            }
            for name, kinds in curves.items()
        },
        "machine": report.machine(),
        "settings": {"plan": asdict(plan), "batch_size": BATCH_SIZE, "worker": WORKER},
    }


def _points(plan: Plan, name: str, values: Sequence[int]) -> Iterator[tuple[int, Result]]:
    """Each value of the curve with what was read there, smallest value first."""
    if name == "batch_size":
        found = _measured(Point(plan.base, tuple(values)), plan)
        yield from ((value, found[value]) for value in values)
        return
    for value in values:
        point = Point(replace(plan.base, **{name: value}))
        yield value, _measured(point, plan)[BATCH_SIZE]


def _measured(point: Point, plan: Plan) -> dict[int, Result]:
    """The best reading of each kind, by batch size."""
    stream = topic_of(point, plan)
    with InProcessBroker({EVENTS_TOPIC: stream.partitions, **OUTPUTS}) as broker, Process() as process:
        process.run(preload, broker.bootstrap_servers, stream)
        settings = process.run(open_service, broker.bootstrap_servers, stream, WORKER)
        process.run(run_phase, _phase("service", plan.reading_events, max(point.batch_sizes)))  # not counted
        found: dict[int, Result] = {}
        for size in point.batch_sizes:
            phases = {kind: _phase(kind, plan.reading_events, size) for kind in KINDS}
            read = [
                {kind: process.run(run_phase, phase) for kind, phase in phases.items()} for _ in range(plan.readings)
            ]
            best = {kind: max((one[kind] for one in read), key=lambda one: _rate(one, plan)) for kind in KINDS}
            every = {kind: [_rate(one[kind], plan) for one in read] for kind in KINDS}
            found[size] = {
                **{kind: {**best[kind], "readings": every[kind]} for kind in KINDS},
                "settings": {"batch_size": size, "stream": asdict(stream), "worker": settings},
            }
        process.run(close_service)
    return found


def topic_of(point: Point, plan: Plan) -> Stream:
    """The stream with as many events as all readings of a point may take."""
    each = plan.reading_events + max(point.batch_sizes)  # steps overshoot
    readings = 1 + len(point.batch_sizes) * len(KINDS) * plan.readings
    return replace(point.stream, events=readings * each)


def _phase(kind: str, events: int, batch_size: int) -> Phase:
    return Phase(kind, LONGEST_SECONDS, events, lists=kind == "service", batch_size=batch_size)


def _rate(reading: Result, plan: Plan) -> float:
    return float(reading[RATES[plan.clock]])


def _bare(plan: Plan) -> list[Result]:
    with InProcessBroker({EVENTS_TOPIC: plan.bare.partitions}) as broker:
        run_alone(preload, broker.bootstrap_servers, plan.bare)
        return [run_alone(consume_bare, broker.bootstrap_servers, plan.bare) for _ in range(plan.bare_readings)]


def draw(summed: Result, path: Path) -> None:
    """The picture of what `measure` gave, as PNG at `path`; ImportError without matplotlib."""
    from benchmarks.plots import Panel, plot_panels  # matplotlib comes with an extra, and only pictures need it

    plan = summed["settings"]["plan"]
    rate = RATES[plan["clock"]]
    labels = {"service": "take to publish, lists for all", "learn": "take to learn, no lists"}
    panels = [
        Panel(
            name.replace("_", " "),
            {
                labels[kind]: [(point[name], point["of_first"], _noted(point[rate])) for point in line]
                for kind, line in kinds.items()
            },
        )
        for name, kinds in summed["curves"].items()
    ]
    fixed = ", ".join(f"{plan['base'][name]:,} {name}" for name in ("users", "items", "partitions"))
    unit = "events/s" if plan["clock"] == "wall" else "events/CPU second"
    plot_panels(
        path,
        f"{unit} of the worker, first point = 1 (otherwise {fixed}, batch {summed['settings']['batch_size']})",
        panels,
    )


def _noted(rate: float) -> str:
    return f"{rate / 1000:.3g} k/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything was measured, drawn or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of {PICTURE} ({OUT})")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter points, about a minute")
    parser.add_argument("--clock", choices=tuple(RATES), default="wall", help="what rates are by (wall)")
    given = parser.parse_args(arguments)
    can_draw = importlib.util.find_spec("matplotlib") is not None
    if not can_draw:
        print(f"matplotlib is missing, so there will be no {PICTURE}: pip install '.[worker,peers]'", file=sys.stderr)
    plan = replace(QUICK if given.quick else FULL, clock=given.clock)
    summed = measure(plan, lambda line: report.emit(line, as_json=True))
    if can_draw:
        draw(summed, given.out / PICTURE)
    report.emit({**summed, "picture": str(given.out / PICTURE) if can_draw else None}, as_json=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
