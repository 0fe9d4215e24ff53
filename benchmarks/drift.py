"""`python -m benchmarks.drift`: how soon the learner recovers when the world changes, with the answer and without.

Each stream is learned twice by the worker's own learner, with HEADRACE_DRIFT_BOOST as it is set and with 1, which
leaves learning alone. Time to recover: events from the change until the hit ratio of the last WINDOW events is back at
95 % of what it was before. Two streams change at a known moment, two show what the answer costs where nothing does:

    families   people's tastes turn over and, from then on, other items belong together; popularity stays what it was
    tastes     people's tastes turn over, what belongs together stays
    calm       nothing changes but tastes, slowly
    movielens  MovieLens-100K

One line of JSON a stream and seed on standard output, with the settings; a last line with all of them.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumer import config
from consumer.actions import to_model
from consumer.config import Settings
from consumer.modelling import make_learner
from model.interactions import Forget, Interaction
from producer import datasets
from producer.events import Click, Event, Rating
from producer.simulate import simulate

WINDOW: Final = 2_000
BEFORE: Final = 5_000
"""Events before the change whose hit ratio is the one to come back to."""
RECOVERED: Final = 0.95
ALIKE: Final = 25
"""Items of neighbouring popularity among which the dealing is done anew."""
STREAMS: Final = ("families", "tastes", "calm", "movielens")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    settings = config.load({"encoder": options.encoder, "batch_size": options.batch_size})
    rows = []
    for name in options.stream or STREAMS:
        for seed in range(1 if name == "movielens" else options.seeds):
            rows.append(compare(name, settings, events=options.events, users=options.users, seed=seed))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"runs": rows, "settings": settings.shown()}))
    return 0


def compare(name: str, settings: Settings, *, events: int, users: int, seed: int) -> dict[str, Any]:
    """One stream with the answer to drift and without; `turn` is the event of the change, null where there is none."""
    stream, turn = make_stream(name, events=events, users=users, seed=seed)
    row: dict[str, Any] = {"stream": name, "seed": seed, "events": len(stream), "users": users, "turn": turn}
    row |= {name: getattr(settings, name) for name in ("encoder", "embedding_dim", "batch_size", "learning_rate")}
    for label, boost in (("without", 1.0), ("with", settings.drift_boost)):
        row[label] = _learn(stream, turn, settings.model_copy(update={"drift_boost": boost, "seed": seed}))
    if turn is not None:
        row["shorter"] = shorter(row["with"]["recovered_after"], row["without"]["recovered_after"], len(stream) - turn)
    return row


def make_stream(name: str, *, events: int, users: int, seed: int) -> tuple[list[Event], int | None]:
    """The events, and the number of the first one after the change."""
    if name == "movielens":
        return list(datasets.load("movielens-100k").events), None
    if name == "calm":
        return list(simulate(users=users, events=events, seed=seed)), None
    turn = events // 2
    if name == "tastes":
        return list(simulate(users=users, events=events, turnover_at=0.5, seed=seed)), turn
    stream = list(simulate(users=users, events=events, turnover_at=0.5, late_share=0, seed=seed))
    return deal_anew(stream, turn, seed), turn


def deal_anew(stream: Sequence[Event], turn: int, seed: int) -> list[Event]:
    """The stream with every item, from `turn` on, standing in the place of another one of nearly its popularity."""
    chosen = [event for event in stream if isinstance(event, Click | Rating)]
    items = [item for item, _ in Counter(event.item_id for event in chosen).most_common()]
    generator = np.random.default_rng([seed, 5])
    place_of = {}
    for start in range(0, len(items), ALIKE):
        alike = items[start : start + ALIKE]
        place_of.update(zip(alike, generator.permutation(alike).tolist(), strict=True))
    return list(stream[:turn]) + [
        msgspec.structs.replace(event, item_id=place_of[event.item_id]) if isinstance(event, Click | Rating) else event
        for event in stream[turn:]
    ]


def recovered_after(hits: NDArray[np.bool_], turn: int) -> int | None:
    """Events from the change until the newest WINDOW of them are as good again; None where the stream ends before."""
    target = RECOVERED * hits[max(turn - BEFORE, 0) : turn].mean()
    sums = np.concatenate(([0], np.cumsum(hits[turn:])))
    rolling = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    reached = np.flatnonzero(rolling >= target)
    return int(reached[0]) + WINDOW if len(reached) else None


def shorter(ours: int | None, theirs: int | None, most: int) -> float | None:
    """By which share the time became shorter: at least that, where without the answer the stream ended first.

    None where the stream ended first with the answer.
    """
    if ours is None:
        return None
    return round(1 - ours / (most if theirs is None else theirs), 3) + 0.0  # no minus before a 0


def _learn(stream: Sequence[Event], turn: int | None, settings: Settings) -> dict[str, Any]:
    learner = make_learner(settings)
    meanings = [
        to_model(event, settings.action_weights, settings.default_weight, settings.rating_weight) for event in stream
    ]
    hits, alarms = [], []
    started = time.perf_counter()
    for start in range(0, len(meanings), settings.batch_size):
        batch = [one for one in meanings[start : start + settings.batch_size] if isinstance(one, Interaction | Forget)]
        step = learner.test_then_learn(batch)
        hits.append((step.ranks_B < 10)[step.ranked_B])
        seen = start + len(batch)
        alarms += [{"after": seen, "cohort": alarm.cohort, "rise": round(alarm.rise, 3)} for alarm in step.alarms]
    seconds = time.perf_counter() - started
    all_hits = np.concatenate(hits)
    found: dict[str, Any] = {"drift_boost": settings.drift_boost, "hr@10": round(float(all_hits.mean()), 5)}
    if turn is not None:
        found["hr@10_before"] = round(float(all_hits[max(turn - BEFORE, 0) : turn].mean()), 5)
        found["hr@10_after"] = round(float(all_hits[turn:].mean()), 5)
        found["recovered_after"] = recovered_after(all_hits, turn)
    return found | {"alarms": alarms, "seconds": round(seconds, 1)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--stream", action="append", choices=STREAMS, help="only this one; may be given again")
    parser.add_argument("--events", type=int, default=60_000, help="of a simulated stream")
    parser.add_argument("--users", type=int, default=500, help="of a simulated stream")
    parser.add_argument("--seeds", type=int, default=2, help="of a simulated stream")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--batch-size", type=int, default=None)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
