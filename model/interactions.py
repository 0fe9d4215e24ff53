"""What the model learns from: interactions in stream order, and the wish to be forgotten.

The model knows no topics and no JSON: `consumer.actions` turns events of the wire into these. One by one they are an
`Interaction` or a `Forget`; the learner reads them as columns, `Interactions`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from model.ids import Ids


class Interaction(NamedTuple):
    """A user did something with an item."""

    user_id: str
    item_id: str
    timestamp: int
    """The event's own time, milliseconds since 1970 UTC: the only clock of the model."""
    weight: float
    """Pull on the ranking: positive attracts (and is ranked before it is learned), negative repels, 0 leaves it be."""
    rating: float | None = None
    """On the scale of the settings; None where the user gave none."""
    text: str | None = None
    """What the user wrote: a review, a search."""
    context: Mapping[str, str | float] | None = None
    """Where and how it happened: device, place, hour, ... Read by encoders that say so (`model.encoders.choice`)."""


class Forget(NamedTuple):
    """Erase the user: history, state and row."""

    user_id: str


@dataclass(frozen=True)
class Interactions:
    """Interactions and forgets as columns, one entry each, in stream order (B,)."""

    users: Ids
    items: Ids
    """Of no meaning where `forgets_B`, as everything else but the user."""
    times_B: NDArray[np.int64]
    weights_B: NDArray[np.float64]
    ratings_B: NDArray[np.float64]
    """NaN where there is none."""
    forgets_B: NDArray[np.bool_]
    texts: Ids
    """Of no length where there is none."""
    contexts: Ids
    """JSON objects; of no length where there is none."""

    @classmethod
    def of(cls, batch: Sequence[Interaction | Forget]) -> Self:
        entries = [one if isinstance(one, Interaction) else Interaction(one.user_id, "", 0, 0.0) for one in batch]
        return cls(
            Ids.of([one.user_id for one in entries]),
            Ids.of([one.item_id for one in entries]),
            np.array([one.timestamp for one in entries], dtype=np.int64),
            np.array([one.weight for one in entries], dtype=np.float64),
            np.array([math.nan if one.rating is None else one.rating for one in entries], dtype=np.float64),
            np.array([isinstance(one, Forget) for one in batch], dtype=np.bool_),
            Ids.of([(one.text or "").encode(errors="replace").decode() for one in entries]),
            Ids.of([json.dumps(dict(one.context)) if one.context else "" for one in entries]),
        )

    def __len__(self) -> int:
        return len(self.times_B)

    def __getitem__(self, places: slice | NDArray[np.generic]) -> "Interactions":
        return Interactions(
            self.users[places],
            self.items[places],
            self.times_B[places],
            self.weights_B[places],
            self.ratings_B[places],
            self.forgets_B[places],
            self.texts[places],
            self.contexts[places],
        )

    def stretches(self) -> list[tuple["Interactions", Ids]]:
        """What to learn and whom to forget then, in turn, so that each forget stands behind what its user did before it
        and ahead of what the user does after it. They are as few as that allows: others' events wait for no forget.
        """
        if not self.forgets_B.any():
            return [(self, self.users[:0])]
        ends: list[int] = []
        leaving: set[str] = set()
        for place, (user_id, is_forget) in enumerate(zip(self.users.names(), self.forgets_B.tolist(), strict=True)):
            if is_forget:
                leaving.add(user_id)
            elif user_id in leaving:
                ends.append(place)
                leaving.clear()
        parts = [self[start:end] for start, end in pairwise([0, *ends, len(self)])]
        return [(part[~part.forgets_B], part.users[part.forgets_B]) for part in parts]
