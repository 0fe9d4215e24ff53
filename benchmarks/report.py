"""What a run prints: a line for each thing measured, each with its settings, and a last one that sums up."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

Result = dict[str, Any]

TIMES: Final = ("p50_ms", "p99_ms", "p99.9_ms")
PACKAGES: Final = ("headrace", "confluent-kafka", "torch", "numpy", "numba", "msgspec")


def emit(result: Mapping[str, Any], *, as_json: bool) -> None:
    """One object on one line, or spread out for people."""
    print(json.dumps(result, indent=None if as_json else 2), flush=True)


def machine() -> Result:
    """What the figures were measured on; how busy it was already says the load."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        **{name: version(name) for name in PACKAGES},
    }


def short(number: int) -> str:
    """10k for 10,000, 1m for 1,000,000: as figures are named."""
    for unit, size in (("m", 1_000_000), ("k", 1000)):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def median_rate(results: Sequence[Result]) -> float:
    return float(statistics.median(result["events_per_second"] for result in results))


def throughput_ratios(readings: Mapping[int, Mapping[str, Result]], bare: Mapping[int, float]) -> Result:
    """Rates over the bare client's, by the names under which they are followed from version to version.

    `readings`: number of items -> phase -> result, smallest catalogue first; `bare`: number of items -> the bare rate
    read around them.
    """

    def of_bare(items: int, phase: str) -> float:
        return float(round(readings[items][phase]["events_per_second"] / bare[items], 5))

    smallest = next(iter(readings))
    found: Result = {
        "decode_of_bare": of_bare(smallest, "decode"),
        "ingest_learn_of_bare": of_bare(smallest, "learn"),
        "ingest_learn_512_of_bare": of_bare(smallest, "learn, 512"),
    }
    for items in readings:
        found[f"service_{short(items)}_of_bare"] = of_bare(items, "service, fast")
        found[f"service_{short(items)}_exact_of_bare"] = of_bare(items, "service, exact")
        found["topk_recall"] = readings[items]["service, fast"]["topk_recall"]
    found["default_ingest_learn_512_of_bare"] = of_bare(smallest, "default: learn, 512")
    for items in readings:
        found[f"default_service_{short(items)}_of_bare"] = of_bare(items, "default: service, fast")
        found[f"default_service_{short(items)}_exact_of_bare"] = of_bare(items, "default: service, exact")
    found["lists_per_event"] = readings[smallest]["service, fast"]["lists_per_event"]
    return found


def at_most(worker: Result, bare: Sequence[Result], processors: int) -> float:
    """The worker's rate over the bare client's, if worker and broker kept all processors busy and never waited.

    The broker's share is that of a bare reading, which takes every record once.
    """
    broker = statistics.median(result["broker_events_per_cpu_second"] for result in bare)
    rate = processors / (1 / worker["events_per_cpu_second"] + 1 / broker)
    return float(round(rate / median_rate(bare), 5))


def rival_ratios(rivals: Result, ingested: float) -> Result:
    """Rates over those of River's BiasedMF. `rivals`: of `benchmarks.rivals.measure`; `ingested`: events/s, learned."""
    real = rivals["movielens-100k"] or rivals["stream"]
    neighbours = real["headrace"]["events_per_second"] / real["river"]["events_per_second"]
    return {
        "learn_of_river": round(real["headrace, factors"]["events_per_second"] / real["river"]["events_per_second"], 2),
        "neighbours_learn_of_river": round(neighbours, 2),
        "service_of_river": round(ingested / rivals["stream"]["river"]["events_per_second"], 2),
        "rmse": {name: result and result["rmse"] for name, result in real.items()},
        "rivals_on": "movielens-100k" if rivals["movielens-100k"] else "stream",
    }


def freshness_ratios(fresh: Mapping[int, Mapping[float, Result]], hops: Mapping[float, Result], rate: float) -> Result:
    """p99 at `rate` over that of two bare hops, a catalogue each; then all times in milliseconds.

    `fresh`: number of items -> rate -> result; the smallest catalogue may have been run at one more rate, the last.
    `hops`: rate -> result.
    """
    base_ms = hops[rate]["two_hops"]["p99_ms"]
    found: Result = {
        f"freshness_p99_of_two_hops_{short(items)}": round(at[rate]["p99_ms"] / base_ms, 3)
        for items, at in fresh.items()
    }
    smallest = fresh[min(fresh)]
    if len(smallest) > len(hops):
        found["freshness_p99_ms_at_80_percent"] = list(smallest.values())[-1]["p99_ms"]
    rows = {"two hops": {rate: result["two_hops"] for rate, result in hops.items()}}
    rows |= {f"{short(items)} items": dict(at) for items, at in fresh.items()}
    found["freshness_ms"] = {
        row: {f"{rate:g}/s": times(result) for rate, result in at.items()} for row, at in rows.items()
    }
    return found


def middle(goes: Sequence[Result], by: Callable[[Result], float]) -> Result:
    """The one that is in the middle by this number; of an even number of goes the larger of two."""
    return sorted(goes, key=by)[len(goes) // 2]


def times(result: Result) -> Result:
    """p50, p99 and p99.9 in milliseconds."""
    return {name.removesuffix("_ms"): result[name] for name in TIMES}


def processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
