"""`headrace evaluate`: the honest prequential test, without Kafka, on the learner that the worker runs.

Events in order; each rating and each event of positive weight is ranked before it is learned. What the worker would not
learn is left out and counted. The protocol stands in docs/quality.md.
"""

import csv
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from consumer.actions import to_model
from consumer.catalogue import content_of, user_content_of
from consumer.cold import ColdFigures
from consumer.commands.files import readable, writable
from consumer.commands.learnable import Stream, learnable, lines_of_dataset, lines_of_file
from consumer.config import Settings
from consumer.modelling import make_learner, warm_up
from consumer.quality import LiveQuality
from model.interactions import Forget, Interaction, Interactions
from model.step import Step
from producer import datasets
from producer.events import Event

Meaning = Interaction | Forget | None


class UsageError(ValueError):
    """Wrong usage of a command."""


def run(
    settings: Settings,
    *,
    dataset: str | None = None,
    events: Path | None = None,
    limit: int | None = None,
    allow_repeats: bool = False,
    strictly_before: bool = False,
    ranks: Path | None = None,
    content: bool = False,
) -> dict[str, Any]:
    """Figures over all ranked events, with the settings that made them; `ranks` names a CSV to write, a line an event.

    `events` counts those of the stream, `left_out` those among them that were not learned, by reason: their ranks are
    empty.

    With `content` the learner is told beforehand what the data set says of its items and users.

    The times leave out imports, reading the data and compiling the kernels; `seconds` is the whole command.
    """
    began = time.perf_counter()
    if content and dataset is None:
        raise UsageError("--content: a file of events has no catalogue; name a data set with --dataset")
    if ranks is not None:
        writable("--ranks", ranks)
        if events is not None and ranks.exists() and events.exists() and ranks.samefile(events):
            raise UsageError(f"--ranks: expected another file than --events, got {str(ranks)!r}")
    stream = _read(settings, dataset, events, limit)
    meanings = [_meaning(settings, event) for event in stream.events]
    settings = settings.model_copy(update={"quality_share": 1.0})
    warm_up(settings)
    learn = Evaluation(settings, allow_repeats=allow_repeats, strictly_before=strictly_before)
    if content and dataset is not None:
        data = datasets.load(dataset, seed=settings.seed)
        learn.learner.describe({item.item_id: content_of(item) for item in data.items})
        learn.learner.describe_users({user.user_id: user_content_of(user) for user in data.users})
    with _rank_writer(ranks) as write:
        for start in range(0, len(meanings), settings.batch_size):
            batch = meanings[start : start + settings.batch_size]
            entries = [meaning for meaning in batch if meaning is not None]
            step = learn.learn(Interactions.of(entries))
            learn.cold.observe(entries, step.ranked_B, step.ranks_B)
            if write is not None:
                write.writerows(rank_rows(start, batch, step))
    figures = learn.quality.total()
    learned = len(meanings) - stream.left_out.total()
    return {
        "events": len(meanings),
        "left_out": dict(stream.left_out),
        "ranked": figures.ranked,
        **_ranking(figures.hit_ratio, figures.ndcg),
        "mrr": _number(figures.mrr),
        "mae": _number(figures.mae),
        "rmse": _number(figures.rmse),
        "mae_median": _number(figures.mae_median),
        "seconds": round(time.perf_counter() - began, 3),
        "events_per_second": round(learned / learn.seconds, 1) if learned else 0.0,
        "batch_size": settings.batch_size,
        "encoder": settings.encoder,
        "rating_model": settings.rating_model,
        "settings": {
            **settings.shown(),
            "allow_repeats": allow_repeats,
            "strictly_before": strictly_before,
            "content": content,
        },
        "baselines": {"popularity": _ranking(figures.popularity_hit_ratio, figures.popularity_ndcg)},
        "cold": learn.cold.figures(),
    }


class Evaluation:
    """A learner and the figures of what it was tested on."""

    def __init__(self, settings: Settings, *, allow_repeats: bool, strictly_before: bool) -> None:
        self.learner = make_learner(settings, allow_repeats=allow_repeats, strictly_before=strictly_before)
        self.quality = LiveQuality(window=settings.quality_window)
        self.cold = ColdFigures()
        self.seconds = 0.0
        """Spent on ranking and learning."""

    def learn(self, batch: Interactions) -> Step:
        started = time.perf_counter()
        step = self.learner.test_then_learn(batch)
        self.seconds += time.perf_counter() - started
        self.quality.observe(
            ranked_B=step.ranked_B,
            ranks_B=step.ranks_B,
            popularity_ranks_B=step.popularity_ranks_B,
            ratings_B=step.ratings_B,
            predictions_B=step.predictions_B,
            medians_B=step.medians_B,
        )
        return step


def rank_rows(start: int, batch: Sequence[Meaning], step: Step) -> Iterator[tuple[int, str, str]]:
    """(index, rank, prediction) of each event; empty: a miss or not ranked, and where there is no rating."""
    place = 0
    for index, meaning in enumerate(batch, start):
        if not isinstance(meaning, Interaction):
            yield index, "", ""
            continue
        rank, prediction = step.ranks_B[place], step.predictions_B[place]
        place += 1
        yield index, "" if np.isnan(rank) else str(int(rank)), "" if np.isnan(prediction) else repr(float(prediction))


def _read(settings: Settings, dataset: str | None, events: Path | None, limit: int | None) -> Stream:
    if (dataset is None) == (events is None):
        raise UsageError("name either a data set (--dataset) or a file of events (--events)")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: expected at least 1, got {limit}")
    if events is not None:
        return learnable(lines_of_file(readable("--events", events)), settings, limit)
    return learnable(lines_of_dataset(datasets.load(dataset or "", seed=settings.seed)), settings, limit)


def _meaning(settings: Settings, event: Event | None) -> Meaning:
    if event is None:
        return None
    return to_model(event, settings.action_weights, settings.default_weight, settings.rating_weight)


@contextmanager
def _rank_writer(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield None
        return
    try:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("index", "rank", "prediction"))
            yield writer
    except OSError as error:  # of a full disk it does not say where
        raise OSError(f"--ranks: {path}: {error.strerror}") from error


def _ranking(hit_ratio: float, ndcg: float) -> dict[str, float | None]:
    return {"hr@10": _number(hit_ratio), "ndcg@10": _number(ndcg)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
