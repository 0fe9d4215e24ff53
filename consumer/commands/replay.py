"""`headrace replay`: a data set or a file of JSON lines onto the events topic."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from consumer.commands.files import readable
from consumer.commands.sending import send_all
from consumer.config import Settings
from producer.datasets import load, load_events_file
from producer.events import Event


def run(
    settings: Settings,
    *,
    dataset: str | None = None,
    events: Path | None = None,
    rate: float | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Send the events in their order, as fast as the broker takes them or `rate` a second.

    A data set that is made up is that of the settings' seed.

    What comes back: see `send_all`. Raises also ValueError for wrong arguments, DatasetUnavailable.
    """
    return send_all(settings, _stream(dataset, events, settings.seed), rate=rate, limit=limit)


def _stream(dataset: str | None, events: Path | None, seed: int) -> Iterable[Event]:
    if (dataset is None) == (events is None):
        raise ValueError("give either --dataset or --events FILE.jsonl")
    if events is not None:
        return load_events_file(readable("--events", events))
    return load(dataset or "", seed=seed).events
