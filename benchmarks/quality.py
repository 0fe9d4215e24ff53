"""`python -m benchmarks.quality`: rerun the whole table, Headrace's encoders and the peers, and write docs/quality.md.

Every run is one line of JSON on standard output as it ends. `--keep FILE` also appends it there, and does not repeat
what the file already has of the same code and settings: a run that was cut off goes on where it was. A run of a part
(--quick, --limit, --dataset, --rows) needs --out: what it leaves out would be gone from the page. The peers need the
extra `peers`; one whose library is missing is left out, and said to be.
"""

import argparse
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import ours, page, workloads
from benchmarks.figures import curve, figures_of
from benchmarks.page import Record
from benchmarks.plan import PEERS, WITH_CATALOGUE, Run, encoders, execute, runs_for
from benchmarks.workloads import WORKLOADS, Workload, rows_of
from consumer.config import load

QUICK_EVENTS: Final = 2_000
OUT: Final = Path("docs/quality.md")
PARTIAL: Final = ("quick", "limit", "dataset", "rows")
"""Options that leave runs of the whole table out."""
CODE_OF_ALL: Final = (
    *("benchmarks/workloads.py", "benchmarks/generated.py", "benchmarks/prequential.py", "benchmarks/figures.py"),
    *("producer/simulate.py", "producer/datasets.py"),
)
CODE_OF_OURS: Final = ("model/**/*.py", "consumer/actions.py", "consumer/modelling.py", "benchmarks/ours.py")
CODE_OF_PEERS: Final = ("benchmarks/peers/*.py", "benchmarks/plan.py")
"""What makes streams and figures, our results, and those of the peers."""
ROOT: Final = Path(__file__).parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything asked for is in the page; 2 for wrong usage, and where nothing was run or could be drawn."""
    options = _options(arguments)
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is missing, which draws the plots: pip install '.[worker,peers]'", file=sys.stderr)
        return 2
    limit = options.limit or (QUICK_EVENTS if options.quick else None)
    streams = [workloads.load(name, limit) for name in options.dataset or WORKLOADS]
    plans = [(stream, list(_planned(stream, options))) for stream in streams]
    records = [record for stream, runs in plans for record in _records_of(stream, runs, options)]
    if not records:
        print(f"nothing was run, so {options.out} stays as it is", file=sys.stderr)
        return 2
    planned = [run for _, runs in plans for run in runs]
    done = {json.dumps(record["run"], sort_keys=True) for record in records}
    left_out = [run for run in planned if json.dumps(page.fields_of(run), sort_keys=True) not in done]
    page.write(options.out, streams, records, _command(options), left_out)
    print(json.dumps({"runs": len(records), "page": str(options.out)}))
    return 0


def _planned(stream: Workload, options: argparse.Namespace) -> Iterator[Run]:
    for run in runs_for(stream, rows_of(stream.events), seeds=options.seeds, quick=options.quick):
        if not options.rows or {run.row, "ours" if run.ours else "peers"} & set(options.rows):
            yield run


def _records_of(stream: Workload, runs: Sequence[Run], options: argparse.Namespace) -> Iterator[Record]:
    kept = _kept(options.keep)
    others = {key for key, _ in kept}
    for run in runs:
        record = kept.get((run.key, made_by(run.ours)))
        if record is None and run.key in others:
            print(f"{run.key} is kept of other code or settings only, and so not used", file=sys.stderr)
        if record is None and not options.no_runs:
            record = _measure(run, stream)
            if record is not None:
                _announce(run, record, options.keep)
        if record is not None:
            yield record


def _measure(run: Run, stream: Workload) -> Record | None:
    workload = stream.first(run.events)
    rows = rows_of(workload.events)
    try:
        outcome = execute(run, workload, rows)
    except ImportError as error:
        print(f"{run.row} is left out: {error}. Install it with: pip install '.[worker,peers]'", file=sys.stderr)
        return None
    ranked = not np.isnan(outcome.ranks_E).all()
    return page.as_record(run, figures_of(rows, outcome), curve(outcome.ranks_E) if ranked else [], outcome.settings)


def _announce(run: Run, record: Record, keep: Path | None) -> None:
    print(json.dumps({"run": run.key, **record["figures"]}), flush=True)
    if keep is not None:
        with keep.open("a") as file:
            file.write(json.dumps({"key": run.key, "made_by": made_by(run.ours), **record}) + "\n")


def _kept(file: Path | None) -> dict[tuple[str, str], Record]:
    """By the run's key and what it was made by; "" where that was not written down."""
    if file is None or not file.exists():
        return {}
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return {(record["key"], record.get("made_by", "")): record for record in records}


@functools.cache
def made_by(is_ours: bool) -> str:
    """A digest of what a run's result depends on besides its key: the code, and for our rows the default settings."""
    digest = hashlib.sha256()
    for pattern in (*CODE_OF_ALL, *(CODE_OF_OURS if is_ours else CODE_OF_PEERS)):
        for path in sorted(ROOT.glob(pattern)):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    if is_ours:
        digest.update(json.dumps(ours.model_settings(load({}, environment={})), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _command(options: argparse.Namespace) -> str:
    parts = ["python -m benchmarks.quality"]
    parts += ["--quick"] if options.quick else []
    parts += [f"--dataset {name}" for name in options.dataset or ()]
    parts += [f"--rows '{row}'" for row in options.rows or ()]
    parts += [f"--limit {options.limit}"] if options.limit else []
    return " ".join([*parts, f"--seeds {options.seeds}"])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_EVENTS} events a stream, one seed, one micro-batch"
    )
    parser.add_argument("--dataset", action="append", choices=tuple(WORKLOADS), help="only this stream; repeatable")
    parser.add_argument(
        "--rows", action="append", choices=_row_names(), metavar="ROW", help="only this, or `peers`, `ours`; repeatable"
    )
    parser.add_argument("--limit", type=_count, help="only so many events of each stream")
    parser.add_argument("--seeds", type=_count, default=3, help="seeds of Headrace's rows on MovieLens (3)")
    parser.add_argument("--out", type=Path, help=f"the page ({OUT} of a whole run); its plots go to img/ beside it")
    parser.add_argument("--keep", type=Path, help="JSON lines: runs that are done, read and appended to")
    parser.add_argument("--no-runs", action="store_true", help="only write the page, from what --keep has")
    options = parser.parse_args(arguments)
    partial = [name for name in PARTIAL if getattr(options, name)]
    if partial and options.out is None:
        parser.error(f"--{partial[0]} leaves out what {OUT} holds: name another page with --out")
    options.out = options.out or OUT
    return options


def _row_names() -> list[str]:
    """What --rows may name."""
    return ["peers", "ours", *PEERS, *encoders(), WITH_CATALOGUE]


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
