"""Headrace under the test: the learner of `evaluate` and of the worker, with its defaults, and what its steps gave."""

import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from benchmarks.prequential import Outcome
from benchmarks.workloads import Workload
from consumer.actions import to_model
from consumer.catalogue import content_of, user_content_of
from consumer.commands.evaluate import Evaluation
from consumer.config import Settings, load
from consumer.modelling import warm_up
from model.encoders.choice import ENCODERS
from model.interactions import Interactions

DEFAULT: Final[str] = Settings.model_fields["encoder"].default
ENCODER_NAMES: Final = tuple(ENCODERS)

_NOT_OF_THE_MODEL: Final = (
    "bootstrap_servers", "group_id", "events_topic", "items_topic", "users_topic", "recommendations_topic",
    "dead_letter_topic", "partitions", "librdkafka", "batch_wait_seconds", "k", "max_event_bytes",
    "max_future_seconds", "checkpoint_dir", "checkpoint_seconds", "checkpoints_kept", "metrics_host", "metrics_port",
    "freshness_buckets", "quality_window", "log_level", "log_format",
)  # fmt: skip
"""Settings that have no part in what is learned."""


def measure(
    workload: Workload,
    *,
    encoder: str,
    batch_size: int,
    seed: int,
    strictly_before: bool = False,
    content: bool = False,
) -> Outcome:
    """Every event ranked, then learned, in steps of `batch_size`; all other settings as they are by default.

    With `content` the learner is told beforehand what is known of its items and users.
    """
    flags = {"encoder": encoder, "batch_size": batch_size, "seed": seed, "quality_share": 1.0, "device": "cpu"}
    settings = load(flags, environment={})
    warm_up(settings)
    evaluation = Evaluation(settings, allow_repeats=workload.allow_repeats, strictly_before=strictly_before)
    if content:
        evaluation.learner.describe({item.item_id: content_of(item) for item in workload.items})
        evaluation.learner.describe_users({user.user_id: user_content_of(user) for user in workload.users})
    meanings = [
        to_model(event, settings.action_weights, settings.default_weight, settings.rating_weight)
        for event in workload.events
    ]
    batches = [
        Interactions.of([meaning for meaning in meanings[start : start + batch_size] if meaning is not None])
        for start in range(0, len(meanings), batch_size)
    ]
    started = time.process_time()
    steps = [evaluation.learn(batch) for batch in batches]
    seconds = time.process_time() - started
    return Outcome(
        ranks_E=np.concatenate([step.ranks_B for step in steps]),
        predictions_E=np.concatenate([step.predictions_B for step in steps]),
        medians_E=np.concatenate([step.medians_B for step in steps]),
        seconds=seconds,
        settings=model_settings(settings),
    )


def model_settings(settings: Settings) -> Mapping[str, object]:
    """What of the settings has a part in what is learned."""
    return {name: value for name, value in settings.shown().items() if name not in _NOT_OF_THE_MODEL}
