"""What a worker does while it is measured, and the calls that make it do so in a process of its own.

Light to load: the worker with all that it stands on is loaded where it runs, not in every process beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.stream import Stream

if TYPE_CHECKING:
    from benchmarks.service import Service


@dataclass(frozen=True)
class Phase:
    """What the worker does, and for how long: until `events` are learned, or `seconds` after the first step."""

    name: str
    seconds: float
    events: int
    lists: bool
    """Whether the touched users' lists are made and published."""
    ranked_share: float | None = None
    """Share of users ranked before they are learned; None: as the worker's settings have it."""
    topk: Literal["exact", "fast"] | None = None
    """How lists are made; None: as the worker's settings have it."""
    batch_size: int | None = None
    """Most events of a step; None: as the worker's settings have it."""


_open: list[Service] = []  # in the worker's process: one, between its opening and its closing


def open_service(bootstrap_servers: str, stream: Stream, settings: dict[str, object]) -> dict[str, object]:
    """Start the worker with these settings on top of the defaults; all of them as they are."""
    from benchmarks.service import Service
    from consumer import logs

    logs.configure("warning")
    _open.append(Service(bootstrap_servers, stream, settings))
    return _open[0].settings.shown()


def run_phase(phase: Phase) -> dict[str, Any]:
    """Rate and shares of time of one phase."""
    return _open[0].run(phase)


def waits() -> list[float]:
    """How long each event of the newest phase waited for its list, in the order in which lists were settled."""
    return list(_open[0].freshness)


def catch_up() -> int:
    """Learn what is left on the topic, without lists; how many events that were."""
    return _open[0].catch_up()


def close_service() -> None:
    _open.pop().close()


def lists_of_large(items: int, seconds: float) -> dict[str, Any]:
    """Lists out of a catalogue of `items`, in both modes, by the learner alone."""
    from benchmarks.lists import Given, measure

    return dict(measure(Given(items, seconds=seconds, events=20_000)))


def rivals(stream: Stream) -> dict[str, Any]:
    """River and Vowpal Wabbit beside the rating head."""
    from benchmarks.rivals import measure

    return measure(stream)
