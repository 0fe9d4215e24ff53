"""Memory of a row, and the slowest call while rows become many: ids, tables, and all that a user or an item has.

    python -m benchmarks.rows [--ids 1000000] [--width 64] [--encoder blend]

Prints JSON lines. `vocabulary`: `--ids` ids of 8 bytes come in calls of 4,096, and then each call brings as many new
ones as it gives back. `table`: half as many rows of `--width` numbers, with their optimiser's. `users` and `items`: a
learner meets an eighth as many of them, each new one in two events, in steps of 512; bytes are told for each kind of
state, and `resident` is what the system says that the process has grown by (while a checkpoint is made, history,
ratings and last lists are there twice).

Milliseconds are of the slowest call and of the median one, by the clock and by the processor's time of the thread:
other work on the machine is not in the latter, waiting for memory is. Of users and items `growth` is the part of a step
that gets rows for new ids and room for them in all that a learner keeps, and `step_with_lists` the rest.
"""

import argparse
import gc
import json
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.stream import START_MS
from consumer.config import load
from consumer.last_lists import LastLists
from consumer.modelling import learner_settings
from model.ids import Ids
from model.interactions import Interactions
from model.learner import Learner
from model.optimizers import RowOptimizer, make_optimizer
from model.ratings import RatingHead
from model.tables import Table
from model.topk import TopK
from model.vocabulary import Vocabulary

IDS_A_CALL: Final = 4096
EVENTS_A_STEP: Final = 512
OTHERS: Final = 1000
"""Users where items are new, and items where users are."""
WARM_ROWS: Final = 20_000
"""Rows before anything is measured: kernels are compiled by then."""

_BORROWED: Final = ("table", "_items")
"""What holds arrays that belong to another holder."""

Ints = NDArray[np.int64]


class Timed:
    """How long some calls took, in ms."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def call(self, function: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.thread_time()
        function()
        self.wall.append(1e3 * (time.perf_counter() - wall))
        self.processor.append(1e3 * (time.thread_time() - processor))

    def figures(self) -> dict[str, float]:
        return {
            "slowest_ms": round(max(self.wall), 2),
            "median_ms": round(median(self.wall), 2),
            "slowest_processor_ms": round(max(self.processor), 2),
            "median_processor_ms": round(median(self.processor), 2),
        }


def measure_vocabulary(ids: int) -> dict[str, Any]:
    """Ids alone: all of them new, then as many given back as come."""
    vocabulary = Vocabulary()
    vocabulary.rows(numbered("w", np.arange(IDS_A_CALL)))
    vocabulary.remove_rows(np.arange(IDS_A_CALL))
    before, growing, churning = resident_bytes(), Timed(), Timed()
    for numbers in _pieces(ids, IDS_A_CALL):
        names = numbered("u", numbers)
        growing.call(partial(vocabulary.rows, names))
    resident = resident_bytes() - before
    held = bytes_of(vocabulary)
    gone = np.random.default_rng(0).permutation(ids)[: ids // 4]
    for numbers in _pieces(len(gone), IDS_A_CALL):
        names, rows_N = numbered("v", numbers), gone[numbers]
        churning.call(partial(_replace, vocabulary, rows_N, names))
    return {
        "what": "vocabulary",
        "rows": ids,
        "bytes_a_row": round(held / ids, 1),
        "resident_bytes_a_row": round(resident / ids, 1),
        **growing.figures(),
        "given_back": {"rows": len(gone), "bytes_a_row": round(bytes_of(vocabulary) / ids, 1), **churning.figures()},
    }


def measure_table(rows: int, width: int) -> dict[str, Any]:
    """A table of embeddings and its optimiser's rows."""
    table = Table("t", width, spread=0.1, seed=0, device=torch.device("cpu"))
    optimizer = make_optimizer("adagrad", table, 0.1)
    before, growing = resident_bytes(), Timed()
    for numbers in _pieces(rows, IDS_A_CALL):
        growing.call(partial(_grow, table, optimizer, int(numbers[-1]) + 1))
    return {
        "what": "table",
        "rows": rows,
        "width": width,
        "bytes_a_row": round(bytes_of(table, optimizer) / rows, 1),
        "resident_bytes_a_row": round((resident_bytes() - before) / rows, 1),
        **growing.figures(),
    }


def measure_state(kind: str, rows: int, encoder: str) -> dict[str, Any]:
    """All that a learner, and the worker beside it, keep of each user or item."""
    settings = load({"encoder": encoder}, environment={})
    learner = Learner(learner_settings(settings))
    last_lists, top_k = LastLists(), TopK(learner, settings.k)

    growing, learning = Timed(), Timed()

    def learn(numbers: Ints) -> None:
        events = _events(kind, numbers)
        growing.call(partial(_grow_all, learner, events))
        learning.call(partial(learn_and_list, events))

    def learn_and_list(events: Interactions) -> None:
        step = learner.test_then_learn(events)
        lists = top_k(step.touched_users())
        last_lists.replace(lists.users_U, lists.codes_UK, lists.lengths_U)

    for numbers in _pieces(WARM_ROWS, EVENTS_A_STEP // 2):
        learn(numbers)
    parts = _parts_of_users(learner) if kind == "users" else _parts_of_items(learner, top_k)
    first, before = {name: bytes_of(*holders) for name, holders in parts.items()}, resident_bytes()
    listed = last_lists_bytes(last_lists)
    growing, learning = Timed(), Timed()
    for numbers in _pieces(rows, EVENTS_A_STEP // 2):
        learn(WARM_ROWS + numbers)
    by_kind = {name: (bytes_of(*holders) - first[name]) / rows for name, holders in parts.items()}
    if kind == "users":
        by_kind["last list"] = (last_lists_bytes(last_lists) - listed) / rows
    return {
        "what": kind,
        "rows": rows,
        "encoder": encoder,
        "bytes_a_row": round(sum(by_kind.values()), 1),
        "by_kind": {name: round(value, 1) for name, value in by_kind.items()},
        "resident_bytes_a_row": round((resident_bytes() - before) / rows, 1),
        "growth": growing.figures(),
        "step_with_lists": learning.figures(),
    }


def _grow_all(learner: Learner, events: Interactions) -> None:
    """What a step begins with: rows for new ids, and room for them."""
    learner.users.rows(events.users)
    learner.items.rows(events.items)
    users, items = len(learner.users), len(learner.items)
    learner.live.grow(users, items)
    learner.ranking.parameters.grow(items)
    learner.ratings.grow(users, items)
    learner.means.grow(users)


def _replace(vocabulary: Vocabulary, gone_N: Ints, names: Ids) -> None:
    vocabulary.remove_rows(gone_N)
    vocabulary.rows(names)


def _grow(table: Table, optimizer: RowOptimizer, rows: int) -> None:
    table.grow(rows)
    optimizer.reset(rows - 1)


def _parts_of_users(learner: Learner) -> dict[str, list[object]]:
    assert isinstance(learner.ratings, RatingHead), "the default"
    return {
        "id": [learner.users],
        "history": [learner.live.history],
        "seen items": [learner.live.seen],
        "ratings": [learner.ratings.users, learner.ratings.median.users],
        "mean of ratings": [learner.means],
    }


def _parts_of_items(learner: Learner, top_k: TopK) -> dict[str, list[object]]:
    assert isinstance(learner.ratings, RatingHead), "the default"
    ranking = learner.ranking
    optimizers = list(ranking.parameters.optimizers.values())
    return {
        "id": [learner.items],
        "embedding": [ranking.items, ranking.biases],
        "optimizer": [optimizer._squares for optimizer in optimizers if hasattr(optimizer, "_squares")],
        "pairs": [ranking.cooccurrence] if ranking.cooccurrence is not None else [],
        "counts": [learner.live.counts, ranking.sampled],
        "ratings": [learner.ratings.items],
        "order of lists": [top_k._index],
    }


def _events(kind: str, numbers: Ints) -> Interactions:
    """Two events of each of these new users (or items), one of them a rating."""
    others = np.concatenate((numbers, numbers + 1)) % OTHERS
    numbers = np.concatenate((numbers, numbers))
    users_B, items_B = (numbers, others) if kind == "users" else (others, numbers)
    nothing = Ids(np.zeros(0, dtype=np.uint8), np.zeros(len(numbers), dtype=np.int64), np.zeros_like(numbers))
    return Interactions(
        numbered("u", users_B),
        numbered("i", items_B),
        START_MS + numbers,
        np.ones(len(numbers)),
        np.where(np.arange(len(numbers)) % 2, 0.5 + numbers % 10 / 2, np.nan),
        np.zeros(len(numbers), dtype=np.bool_),
        nothing,
        nothing,
    )


def numbered(letter: str, numbers: Ints) -> Ids:
    """Ids of 8 bytes: a letter and seven digits."""
    text_BC = np.empty((len(numbers), 8), dtype=np.uint8)
    text_BC[:, 0] = ord(letter)
    text_BC[:, 1:] = ord("0") + numbers[:, None] // 10 ** np.arange(6, -1, -1) % 10
    return Ids(text_BC.ravel(), 8 * np.arange(len(numbers)), np.full(len(numbers), 8))


def bytes_of(*holders: object) -> int:
    """Bytes of all arrays and tensors that these objects hold, each array once."""
    found: dict[int, int] = {}
    for holder in holders:
        for array in _arrays(holder, set()):
            start = array.__array_interface__["data"][0]
            found[start] = max(found.get(start, 0), array.nbytes)
    return sum(found.values())


def last_lists_bytes(last_lists: LastLists) -> int:
    return sum(array.nbytes for array in vars(last_lists).values() if isinstance(array, np.ndarray))


def _arrays(holder: object, passed: set[int]) -> Iterator[NDArray[Any]]:
    if id(holder) in passed:
        return
    passed.add(id(holder))
    if isinstance(holder, np.ndarray):
        yield holder
    elif isinstance(holder, Tensor):
        yield holder.numpy()
    elif isinstance(holder, dict | list | tuple):
        for part in holder.values() if isinstance(holder, dict) else holder:
            yield from _arrays(part, passed)
    elif type(holder).__module__.startswith("model."):
        for name, part in vars(holder).items():
            if name not in _BORROWED:
                yield from _arrays(part, passed)


def resident_bytes() -> int:
    """Memory that the system has given the process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _pieces(count: int, size: int) -> Iterator[Ints]:
    """0 to count - 1, so many at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def measure(ids: int, width: int, encoder: str) -> Iterable[dict[str, Any]]:
    """A line for each of vocabulary, table, users and items."""
    if ids < 10 * EVENTS_A_STEP:
        raise ValueError(f"--ids: expected at least {10 * EVENTS_A_STEP}, got {ids}")
    torch.set_num_threads(1)
    gc.freeze()  # what was imported is not looked through for garbage, which takes 150 ms each time
    yield measure_vocabulary(ids)
    yield measure_table(ids // 2, width)
    yield measure_state("users", ids // 8, encoder)
    yield measure_state("items", ids // 8, encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--encoder", default="blend")
    asked = parser.parse_args()
    for line in measure(asked.ids, asked.width, asked.encoder):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
