"""Users refreshed a second: their top-k lists made anew, at 10 k, 50 k and 1 M items, in both modes of `model.topk`.

    python -m benchmarks.lists [--items 10000,50000,1000000] [--modes exact,fast] [--encoder recency] [--seconds 10]
                               [--threads 2]

Each learner has met every user and item and then learned a stream (`benchmarks.stream`), because counts are what the
scan lives on; each step of the stream goes on while lists are timed, so that following moved items is part of the
time. Prints a JSON line for each catalogue and mode. Recall is that of the lists of the timed steps against exact
ones of the same step, made outside the time. With `--threads` each step's lists are made by one thread and by so many,
by turns, and `of_one_thread` is how much sooner the latter had them.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.introduction import introduce, steps_of
from benchmarks.stream import Stream
from consumer.config import load
from consumer.modelling import learner_settings
from model.learner import Learner
from model.topk import Lists, Mode, TopK

K: Final = 20
WIDTH: Final = 64
BATCH: Final = 512


@dataclass(frozen=True)
class Given:
    """What makes two measurements different."""

    items: int
    users: int = 100_000
    encoder: str = "recency"
    width: int = WIDTH
    k: int = K
    batch: int = BATCH
    """Events of a step; every user that it touches gets a list."""
    events: int = 100_000
    """Learned before lists are timed."""
    seconds: float = 10.0
    """Time for steps with lists, learning and comparing in it."""
    compared: int = 64
    """Lists of a step that are compared with exact ones."""
    threads: int = 1


def measure(given: Given, modes: tuple[Mode, ...] = ("exact", "fast")) -> dict[str, dict[str, Any]]:
    """Figures of each mode; all modes make their lists after the same steps of one learner."""
    if not modes:
        raise ValueError("modes: expected at least one of exact, fast, got none")
    torch.set_num_threads(1)
    settings = {"encoder": given.encoder, "embedding_dim": given.width, "quality_share": 0.0}
    learner = Learner(learner_settings(load(settings, environment={})))
    stream = Stream(events=given.events + 10**6, users=given.users, items=given.items)
    introduce(learner, stream)
    batches = steps_of(stream, given.batch)
    for _ in range(given.events // given.batch):
        learner.test_then_learn(next(batches))
    top_ks = {mode: TopK(learner, given.k, mode=mode, threads=given.threads) for mode in modes}
    alone = {mode: TopK(learner, given.k, mode=mode) for mode in modes} if given.threads > 1 else {}
    judge = TopK(learner, given.k)
    spent: dict[Mode, list[float]] = {mode: [] for mode in modes}
    waited: dict[Mode, list[tuple[float, float]]] = {mode: [] for mode in modes}
    kept = dict.fromkeys(modes, 0)
    users = listed = steps = 0
    ends = time.perf_counter() + given.seconds
    for batch in batches:
        step = learner.test_then_learn(batch)
        users_U = step.touched_users()
        judged = judge(users_U[: given.compared])
        for mode, top_k in top_ks.items():
            started = time.process_time()  # of this process: other work of the machine is not ours
            lists = top_k(users_U)
            spent[mode].append(time.process_time() - started)
            kept[mode] += _common(judged, lists)
        for mode, one_thread in alone.items():
            in_turn = (one_thread, top_ks[mode]) if steps % 2 else (top_ks[mode], one_thread)
            seconds = {one: _seconds(one, users_U) for one in in_turn}
            waited[mode].append((seconds[one_thread], seconds[top_ks[mode]]))
        steps += 1
        users += len(users_U)
        listed += int(judged.lengths_U.sum())
        if time.perf_counter() > ends:
            break
    return {
        mode: {
            "mode": mode,
            "users_per_second": round(users / sum(spent[mode]), 1),
            "microseconds_a_list": round(1e6 * sum(spent[mode]) / users, 3),
            "slowest_step_ms": round(1e3 * max(spent[mode][1:] or spent[mode]), 3),
            "recall": round(kept[mode] / max(listed, 1), 5),
            "recall_by_itself": round(top_k.recall.value, 5),
            "slack": top_k.recall.slack if mode == "fast" else 1.0,
            **({"of_one_thread": round(float(np.divide(*np.median(waited[mode], 0))), 3)} if alone else {}),
            "lists": users,
            "steps": steps,
            "settings": asdict(given),
        }
        for mode, top_k in top_ks.items()
    }


def _seconds(top_k: TopK, users_U: NDArray[np.int64]) -> float:
    started = time.perf_counter()
    top_k(users_U)
    return time.perf_counter() - started


def _common(exact: Lists, lists: Lists) -> int:
    """How many items of the exact lists are in the first lists here."""
    return sum(
        len(np.intersect1d(ours[:length], theirs[:other]))
        for ours, length, theirs, other in zip(
            exact.codes_UK, exact.lengths_U, lists.codes_UK, lists.lengths_U, strict=False
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="10000,50000,1000000", help="catalogue sizes, separated by commas")
    parser.add_argument("--modes", default="exact,fast", help="exact, fast or both")
    parser.add_argument("--encoder", default="recency")
    parser.add_argument("--events", type=int, default=Given(1).events, help="learned before lists are timed")
    parser.add_argument("--seconds", type=float, default=Given(1).seconds, help="for each catalogue")
    parser.add_argument("--threads", type=int, default=1, help="that make lists at the same time")
    asked = parser.parse_args()
    given = Given(1, encoder=asked.encoder, events=asked.events, seconds=asked.seconds, threads=asked.threads)
    for items in asked.items.split(","):
        for figures in measure(replace(given, items=int(items)), tuple(asked.modes.split(","))).values():
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
