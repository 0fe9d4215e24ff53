"""The measured part of docs/quality.md: tables, settings and plots, made from the records of the runs.

What people wrote around it is left alone: only what stands between the two marks is replaced.
"""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from benchmarks import ours
from benchmarks.plan import BATCH, PEERS, PREFIX_EVENTS, TEACHES, WITH_CATALOGUE, Run
from benchmarks.workloads import Workload

BEGIN: Final = "<!-- measured: written by benchmarks.quality, do not edit -->"
END: Final = "<!-- end of what was measured -->"
PACKAGES: Final = ("headrace", "torch", "numpy", "numba", "river", "implicit")
PLOTTED_PEERS: Final = ("popularity", "ISGD, recency negatives", "item-kNN, cosine, last 20", "implicit ALS, refitted")

Record = dict[str, Any]
"""What is kept of a run: its fields, its figures, its curve, its settings, the machine's load and the date."""

_RANKING: Final = (
    ("HR@10", "hr@10"),
    ("NDCG@10", "ndcg@10"),
    ("HR@10, second half", "hr@10_second_half"),
    ("NDCG@10, second half", "ndcg@10_second_half"),
    ("MRR", "mrr"),
    ("HR@10, cold users", "hr@10_cold_users"),
    ("HR@10, cold items", "hr@10_cold_items"),
)
_RATINGS: Final = (
    ("MAE", "mae"),
    ("RMSE", "rmse"),
    ("MAE at the median", "mae_median"),
    ("MAE, second half", "mae_second_half"),
    ("RMSE, second half", "rmse_second_half"),
    ("MAE at the median, second half", "mae_median_second_half"),
)


def write(
    path: Path, workloads: Sequence[Workload], records: Sequence[Record], command: str, left_out: Sequence[Run] = ()
) -> None:
    """Put the tables of these records into the page at `path`, new where there is none, and its plots beside it.

    `left_out`: what the command would also run, but these records do not hold; the page says so.
    """
    lines = [BEGIN, "", *_machine(command, records), ""]
    if left_out:
        rows = dict.fromkeys(f"{run.row} on {run.workload}{_kind(run)}" for run in left_out)
        lines += [f"Not run for this page: {'; '.join(rows)}.", ""]
    for workload in workloads:
        own = [record for record in records if record["run"]["workload"] == workload.name]
        if own:
            lines += [*_of_stream(path, workload, own), ""]
    lines += [*_settings(records), "", END]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_placed(path.read_text() if path.exists() else "", "\n".join(lines)))


def _kind(run: Run) -> str:
    """What sets a run apart from the row's main one."""
    kinds = [f"first {PREFIX_EVENTS:,} events"] if run.events == PREFIX_EVENTS else []
    kinds += [f"batch {run.batch}"] if run.batch not in (0, BATCH) else []
    kinds += [f"seed {run.seed}"] if run.seed else []
    kinds += ["strictly before"] if run.strictly_before else []
    return f" ({', '.join(kinds)})" if kinds else ""


def _placed(page: str, measured: str) -> str:
    if BEGIN in page and END in page:
        before, _, rest = page.partition(BEGIN)
        return before + measured + rest.partition(END)[2]
    return f"{page.rstrip() or '# How well it learns'}\n\n{measured}\n"


def _machine(command: str, records: Sequence[Record]) -> list[str]:
    loads = [record["load"] for record in records]
    load = f"load average {min(loads):.1f} to {max(loads):.1f} while it ran" if loads else "no runs"
    dates = ", ".join(dict.fromkeys(record["date"] for record in records))
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    return [
        f"    {command}",
        "",
        f"Run on {dates}; {_processor()}, {os.cpu_count()} cores, one thread; {load}; "
        f"Python {platform.python_version()}, {packages}.",
    ]


def _of_stream(path: Path, workload: Workload, records: Sequence[Record]) -> list[str]:
    repeats = "what a user had stays a candidate" if workload.allow_repeats else "what a user had is no candidate"
    live = [record for record in records if not record["run"]["strictly_before"]]
    longest = max(record["run"]["events"] for record in records)
    whole = [record for record in live if record["run"]["events"] == longest]
    lines = [f"## {workload.name}", "", f"{workload.habits}. In the test {repeats}. {longest:,} events.", ""]
    lines += _ranking_table(whole, [record for record in records if record["run"]["strictly_before"]])
    lines += ["", *_plot(path, workload, whole)]
    if ratings := _ratings_table(whole):
        lines += ["", *ratings]
    if batches := _batch_table(live):
        lines += ["", *batches]
    if speeds := _speed_table([record for record in live if record["run"]["events"] == PREFIX_EVENTS < longest]):
        lines += ["", *speeds]
    return lines


def _ranking_table(records: Sequence[Record], strict: Sequence[Record]) -> list[str]:
    ranked = [group for group in _groups(records) if group[0]["figures"]["hr@10"] is not None]
    strictly = {_name(group[0]): _mean(group, "hr@10") for group in _groups(strict)}
    heads = [head for head, _ in _RANKING] + (["HR@10, strictly before"] if strict else []) + ["events/s"]
    rows = []
    for group in sorted(ranked, key=_order):
        cells = [_with_spread(group, "hr@10")]
        cells += [_decimals(_mean(group, key)) for _, key in _RANKING[1:]]
        if strict:
            same = _batch(group[0]) in (0, BATCH)
            cells.append(_decimals(strictly.get(_name(group[0])) if same else None))
        rows.append([_label(group[0]), _batch_text(group[0]), *cells, _speed(group), _teaches(group[0])])
    return _table(["", "batch", *heads, "what it teaches"], rows)


def _ratings_table(records: Sequence[Record]) -> list[str]:
    rated = [group for group in _groups(records) if group[0]["figures"]["mae"] is not None]
    # The rating head is the same under every encoder: the default's row speaks for all.
    rated = [group for group in rated if not _batch(group[0]) or _name(group[0]) == ours.DEFAULT]
    rows = [
        [
            _label(group[0]),
            _batch_text(group[0]),
            *(_decimals(_mean(group, key)) for _, key in _RATINGS),
            _speed(group),
            "a filter of each user's state and neighbours, stacked online" if _batch(group[0]) else _teaches(group[0]),
        ]
        for group in sorted(rated, key=lambda group: group[0]["figures"]["rmse"])
    ]
    if not rows:
        return []
    note = "Ratings, best first. Headrace's speed includes ranking each event; the peers' does not."
    return [note, "", *_table(["", "batch", *(head for head, _ in _RATINGS), "events/s", "what it teaches"], rows)]


def _batch_table(records: Sequence[Record]) -> list[str]:
    """HR@10 of the same first events under several micro-batches: what staleness costs."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        if record["run"]["batch"] and record["run"]["events"] == PREFIX_EVENTS and not record["run"]["seed"]:
            found.setdefault(_name(record), {})[_batch(record)] = record
    found = {name: by_batch for name, by_batch in found.items() if len(by_batch) > 1}
    if not found:
        return []
    batches = sorted({batch for by_batch in found.values() for batch in by_batch})
    rows = []
    for name, by_batch in found.items():
        hits = [by_batch[batch]["figures"]["hr@10"] if batch in by_batch else None for batch in batches]
        speeds = [f"{_speed([by_batch[batch]])}" if batch in by_batch else "" for batch in batches]
        first, last = hits[0], hits[-1]
        change = f"{(last / first - 1.0) * 100:+.1f} %" if first and last else ""
        rows.append([f"**{name}**" if name == ours.DEFAULT else name, *map(_decimals, hits), change, *speeds])
    heads = ["", *(f"HR@10, batch {batch}" for batch in batches), f"{batches[-1]} against {batches[0]}"]
    heads += [f"events/s, batch {batch}" for batch in batches]
    return [
        f"The first {PREFIX_EVENTS:,} events in other micro-batches, the same settings throughout.",
        "",
        *_table(heads, rows),
    ]


def _speed_table(records: Sequence[Record]) -> list[str]:
    """Events in a second of processor time, over the same first events for all."""
    timed = [group for group in _groups(records) if _speed(group) and _batch(group[0]) in (0, BATCH)]
    if not timed:
        return []
    timed.sort(key=lambda group: -group[0]["figures"]["events_per_second"])
    rows = [[_label(group[0]), _batch_text(group[0]), _speed(group)] for group in timed]
    note = f"Speed over the first {PREFIX_EVENTS:,} events, by processor time: ranking or predicting, and learning."
    return [note, "", *_table(["", "batch", "events/s"], rows)]


def _plot(path: Path, workload: Workload, records: Sequence[Record]) -> list[str]:
    shown = {
        _name(record): record["curve"]
        for record in sorted(records, key=lambda record: -(record["figures"]["hr@10"] or 0.0))
        if record["curve"] and not record["run"]["seed"] and (_batch(record) == BATCH or _name(record) in PLOTTED_PEERS)
    }
    if not shown:
        return []
    from benchmarks.plots import plot_curves  # matplotlib comes with the extra, and only plots need it

    image = path.parent / "img" / f"quality-{workload.name}.png"
    events = max(record["run"]["events"] for record in records)
    plot_curves(
        image,
        f"{workload.name}: HR@10 over time",
        shown,
        ours=frozenset((*ours.ENCODER_NAMES, WITH_CATALOGUE)),
        events=events,
    )
    return [f"![HR@10 over time on {workload.name}](img/{image.name})"]


def _settings(records: Sequence[Record]) -> list[str]:
    """Everything that has a part in a figure: what Headrace's rows share once, then what sets each row apart."""
    own = [record["settings"] for record in records if record["run"]["batch"]]
    shared = {
        name: value
        for name, value in (own[0] if own else {}).items()
        if name not in ("encoder", "batch_size", "seed") and all(other.get(name) == value for other in own)
    }
    lines = ["## Settings", "", "Headrace, all rows; encoder, batch_size and seed are those of the row:", ""]
    lines += ["```json", json.dumps(shared, indent=1), "```", "", "The peers, which learn event by event:", ""]
    peers = {record["run"]["row"]: record["settings"] for record in records if not record["run"]["batch"]}
    return [*lines, *(f"- {name}: `{json.dumps(settings)}`" for name, settings in peers.items())]


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Records that differ only by their seed, together."""
    groups: dict[tuple[str, int, int], list[Record]] = {}
    for record in records:
        groups.setdefault((_name(record), _batch(record), record["run"]["events"]), []).append(record)
    return list(groups.values())


def _order(group: Sequence[Record]) -> tuple[bool, float]:
    """Headrace's rows, then the peers', the best first."""
    return not _batch(group[0]), -(_mean(group, "hr@10") or 0.0)


def _name(record: Record) -> str:
    return str(record["run"]["row"])


def _batch(record: Record) -> int:
    return int(record["run"]["batch"])


def _label(record: Record) -> str:
    return f"**{_name(record)}** (the default)" if _batch(record) and _name(record) == ours.DEFAULT else _name(record)


def _batch_text(record: Record) -> str:
    return str(_batch(record) or 1)


def _teaches(record: Record) -> str:
    if not _batch(record):
        return PEERS[_name(record)].teaches
    if _name(record) == WITH_CATALOGUE:
        return "what is known of items and users, told before the first event: see the cold ones"
    return TEACHES.get(_name(record), "") if _batch(record) == BATCH else f"the same in steps of {_batch(record)}"


def _mean(group: Sequence[Record], key: str) -> float | None:
    values = [record["figures"][key] for record in group if record["figures"][key] is not None]
    return statistics.fmean(values) if values else None


def _with_spread(group: Sequence[Record], key: str) -> str:
    """The mean over seeds and half their range."""
    values = [record["figures"][key] for record in group]
    spread = f" ± {(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _speed(group: Sequence[Record]) -> str:
    """The median over seeds, to three digits."""
    rates = [rate for record in group if (rate := record["figures"]["events_per_second"]) is not None]
    if not rates:
        return ""
    rate = statistics.median(rates)
    return f"{float(f'{rate:.3g}'):,.0f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns that are empty in every row are left out."""
    filled = [not place or any(row[place] for row in rows) for place in range(len(heads))]
    lines = [
        [cell for cell, keeps in zip(line, filled, strict=True) if keeps]
        for line in (heads, ["---"] * len(heads), *rows)
    ]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def fields_of(run: Run) -> dict[str, str | int | bool]:
    return asdict(run)


def as_record(
    run: Run, figures: Mapping[str, float | None], curve: Sequence[float], settings: Mapping[str, object]
) -> Record:
    return {
        "run": fields_of(run),
        "figures": dict(figures),
        "curve": list(curve),
        "settings": dict(settings),
        "load": round(os.getloadavg()[0], 1),
        "date": f"{datetime.now(UTC):%d %B %Y}",
    }
