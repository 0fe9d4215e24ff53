"""When the world changes: a watch over the live error, and what the learner does about an alarm.

The error of an event is how much more surprised the model was by its item than plain popularity:

    error = -log p(item | model) + log (share of the item among all events so far)

in nats. The difference, and not the loss alone, since streams grow: more items make every model's loss rise. The
watch is a one-sided cumulative sum (Page 1954) over the means of blocks of events, against a mean and a spread that
follow slowly. It keeps a few numbers a cohort: plain arrays, so it stands in the checkpoint, and a step that is made
again raises the same alarms. Beside ADWIN (Bifet and Gavalda 2007) on the same errors it answers a turn-over sooner
and is quiet where the model merely gets better (tests/test_drift.py).

What an alarm does follows from how large the rise is. Old evidence gives way: the strengths of pairs and Adagrad's
sums are scaled down, once. For a bounded number of events the items' rate is raised, by up to `boost`.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.cohorts import COLD_EVENTS
from model.kernels.drift import MEMORY, watch_errors

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

COHORTS: Final = ("cold", "warm")
BLOCK: Final = 32
"""Events whose mean error is one observation, wherever steps were cut."""
LARGEST_ERROR: Final = 9.0
"""Errors count for at most so many nats, either way."""


class Alarm(NamedTuple):
    cohort: str
    rise: float
    """How much the error rose, in nats."""


class Watch:
    """Watches one stream of errors for a lasting rise."""

    def __init__(self) -> None:
        self._numbers = np.zeros(7)
        """Blocks so far, their mean and variance; the sum, and since it left 0: blocks, their total. Events waiting."""
        self._waiting = np.zeros(BLOCK)

    def update(self, errors_B: Doubles, counts_B: NDArray[np.bool_] | None = None) -> list[float]:
        """The rises that these errors (of them those that count) made an alarm of, in nats.

        Errors count for at most LARGEST_ERROR either way. The same however the errors are cut into calls.
        """
        if counts_B is None:
            counts_B = np.ones(len(errors_B), dtype=np.bool_)
        means_N, rises_N = np.empty((2, len(errors_B) // BLOCK + 1))
        alarms = watch_errors(errors_B, counts_B, LARGEST_ERROR, self._waiting, self._numbers, means_N, rises_N)
        rises: list[float] = rises_N[:alarms].tolist()
        return rises

    def state(self) -> dict[str, Doubles]:
        return {"numbers": self._numbers, "waiting": self._waiting}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self._numbers[:] = state["numbers"]
        self._waiting[:] = state["waiting"]


@dataclass(frozen=True)
class DriftSettings:
    boost: float = 3.0
    """What the items' rate is multiplied by after the largest of rises; 1 leaves learning alone, alarms and all."""
    lasting: int = 8192
    """Events until the rate is back where it was."""
    ignored_rise: float = 0.4
    """Nats of a rise that change nothing: an alarm says the rise is at least noticed, and noise is part of it."""
    fade_power: float = 2.0
    """Old evidence keeps exp(-fade_power * rise) of its weight."""


class Drift:
    """The watches of both cohorts, and how far the learner is from its ordinary pace."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self._watches = {cohort: Watch() for cohort in COHORTS}
        self._share_C = np.full(len(COHORTS), 1 / len(COHORTS))
        """Each cohort's share of the newest events."""
        self._strength_and_left = np.zeros(2)

    @property
    def pace(self) -> float:
        """What the items' rate is multiplied by now."""
        strength, left = self._strength_and_left.tolist()
        return 1 + (self.settings.boost - 1) * strength * left / self.settings.lasting

    def update(self, errors_B: Doubles, earlier_events_B: Ints) -> tuple[list[Alarm], float]:
        """The alarms that these events raised, and what old evidence keeps of its weight: 1 where none was raised.

        A NaN error is an event that had none. A rise counts as much as its cohort weighs in the stream.
        """
        self._strength_and_left[1] = max(self._strength_and_left[1] - len(errors_B), 0)
        judged_B = np.isfinite(errors_B)
        cold_B = judged_B & (earlier_events_B < COLD_EVENTS)
        judged, cold = np.count_nonzero(judged_B), np.count_nonzero(cold_B)
        if not judged:
            return [], 1.0
        forgets = 1 - math.exp(-judged / (MEMORY * BLOCK))
        self._share_C += forgets * (np.array([cold, judged - cold]) / judged - self._share_C)
        alarms = [
            Alarm(cohort, rise)
            for cohort, is_its_B in zip(COHORTS, (cold_B, judged_B ^ cold_B), strict=True)
            for rise in self._watches[cohort].update(errors_B, is_its_B)
        ]
        return alarms, self._answer(alarms)

    def _answer(self, alarms: list[Alarm]) -> float:
        if not alarms or self.settings.boost == 1:
            return 1.0
        share = dict(zip(COHORTS, self._share_C.tolist(), strict=True))
        rise = sum(max(alarm.rise - self.settings.ignored_rise, 0.0) * share[alarm.cohort] for alarm in alarms)
        strength, left = self._strength_and_left.tolist()
        before = strength * left / self.settings.lasting
        self._strength_and_left[:] = 1 - (1 - before) * math.exp(-rise), self.settings.lasting
        return math.exp(-self.settings.fade_power * rise)

    def state(self) -> dict[str, NDArray[np.generic]]:
        parts: dict[str, NDArray[np.generic]] = {"shares": self._share_C, "pace": self._strength_and_left}
        for cohort, watch in self._watches.items():
            parts.update({f"{cohort}.{name}": array for name, array in watch.state().items()})
        return parts

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self._share_C[:] = state["shares"]
        self._strength_and_left[:] = state["pace"]
        for cohort, watch in self._watches.items():
            prefix = f"{cohort}."
            watch.load({name.removeprefix(prefix): part for name, part in state.items() if name.startswith(prefix)})


def popularity_losses(enters_B: NDArray[np.bool_], counts_B: Ints, total: int, items: int) -> Doubles:
    """(B,) How surprised plain popularity was by each event's item, in nats.

    `counts_B` is how often the item had been chosen, `total` the sum over all items as of the batch's start.
    """
    total_B = total + np.cumsum(enters_B) - enters_B
    losses_B: Doubles = np.log(total_B + 0.5 * items) - np.log(counts_B + 0.5)
    return losses_B
