"""What is said of users, where anything is: the learner's way to `model.user_content`, which costs nothing before."""

import json
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.entries import ItemContent
from model.ids import Ids
from model.interactions import Interactions
from model.user_content import Note, Said, UserContent, UserContentSettings
from model.vocabulary import Vocabulary

Ints = NDArray[np.int64]


class SaidOfUsers:
    """Of the users of a vocabulary: what the users topic says, and what their events say besides the item."""

    def __init__(
        self,
        width: int,
        settings: UserContentSettings,
        users: Vocabulary,
        *,
        reads_context: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.content: UserContent | None = None
        """None as long as nothing is said."""
        self._width = width
        self._settings = settings
        self._users = users
        self._reads_context = reads_context
        self._device = device
        self._dtype = dtype

    def describe(self, changes: Mapping[str, ItemContent | None]) -> None:
        """Take in what is said of users now: categories and features; None: nothing any more, the user stays."""
        if changes:
            self._begun().describe(changes, self._users)

    def of(self, rows_U: Ints, events_U: Ints) -> Said | None:
        """What is said of these users now; `events_U`: events that each has had."""
        return None if self.content is None else self.content.read(rows_U, events_U, self._users)

    def read_then_note(
        self, users_B: Ints, earlier_B: Ints, enters_B: NDArray[np.bool_], batch: Interactions
    ) -> Said | None:
        """What each event finds said of its user; then what the events say themselves is taken in."""
        notes = self._notes(batch)
        if self.content is None and not notes:
            return None
        return self._begun().read_then_write(users_B, earlier_B, enters_B, notes, self._users)

    def forget(self, user_ids: Ids, rows_N: Ints) -> None:
        """Erase what is said of users, before their rows go; -1 for those who have none."""
        if self.content is not None:
            self.content.forget(user_ids, rows_N)

    def let_go(self, rows_U: Ints) -> None:
        """Erase what these users' events said, before the rows go; what the users topic says stays."""
        if self.content is not None:
            self.content.let_go(rows_U, self._users)

    def state(self) -> dict[str, Tensor]:
        """Empty where nothing is said."""
        return {} if self.content is None else self.content.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replaces everything by what `state` returned."""
        self.content = None
        if state:
            self._begun().load(state)

    def _begun(self) -> UserContent:
        if self.content is None:
            self.content = UserContent(self._width, self._settings, device=self._device, dtype=self._dtype)
        return self.content

    def _notes(self, batch: Interactions) -> dict[int, Note]:
        """What events say besides the item, by their place in the batch."""
        says_B = batch.texts.length_B > 0
        if self._reads_context:
            says_B |= batch.contexts.length_B > 0
        return {
            place: Note(
                batch.texts.name(place) if batch.texts.length_B[place] > 0 else None,
                json.loads(batch.contexts.name(place))
                if self._reads_context and batch.contexts.length_B[place] > 0
                else None,
            )
            for place in np.flatnonzero(says_B).tolist()
        }
