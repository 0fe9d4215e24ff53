"""What is said of users, and what they write, learned into vectors on top of theirs: a new user has sensible lists.

    vector of user u = encoder(history of u) + sum over what is said of u, each times its weight
    features (categories, numbers):   half / (half + events of u)
    each of the last texts of u:      text_half / (text_half + events of u since the text)
    context of the newest event:      1 until the next event of u

What is said is a bag of hashed features (`model.entries`), the rows of one table learned by the same softmax as the
encoder; the table begins at zero, where it says nothing. Texts and context are live user state: they move event by
event, and an event is ranked by those of earlier events alone. Of a text only its features are kept, and a forget
erases them.

Cost: what the batch's users have said of them, entries * width; nothing for users of whom nothing is said.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bag_sums import NONE, pulled_back, sums
from model.encoders.interface import Encoded
from model.entries import Bags, Entries, Features, ItemContent
from model.growth import grown
from model.ids import Ids
from model.kernels.content import add_bags
from model.kernels.entries import find_slots, let_later_find, weigh_slots
from model.optimizers import Adagrad
from model.tables import Table
from model.text import bucket, text_features, words
from model.vocabulary import Vocabulary

Ints = NDArray[np.int64]

MOST_WORDS = 32
"""Words of a user's text that are read."""
MOST_CONTEXT = 64
"""Names of a context that are read."""
UNRESOLVED = -2
"""In place of a row, where it was not looked up yet whether there is one."""

FEATURES = 0
"""The slot of a user's features; the context has the last one, texts those between."""


@dataclass(frozen=True)
class UserContentSettings:
    half: float = 50.0
    """Events after which a user's features weigh half."""
    text_half: float = 2.0
    """Events of the user after which a text weighs half."""
    texts: int = 3
    """Newest texts of a user that count."""
    rate: float = 0.02


class Note(NamedTuple):
    """What an event says of its user besides the item."""

    text: str | None = None
    context: Mapping[str, str | float] | None = None


class Found(NamedTuple):
    """What the events of a batch find of their users, those of whom anything is said."""

    events_N: Ints
    """Their places in the batch, ascending."""
    rows_N: Ints
    start_NS: Ints
    """Where what stands in each slot begins, how long it is, and how many events the user had when it was written."""
    length_NS: Ints
    at_NS: Ints


class UserContent:
    """The features and texts of users, in rows of their own: users of whom nothing is said cost nothing."""

    def __init__(self, width: int, settings: UserContentSettings, *, device: torch.device, dtype: torch.dtype) -> None:
        self.settings = settings
        self.device = device
        self.slots = settings.texts + 2
        self.ids = Vocabulary()
        """Users of whom something is said; user number x has the rows `slots` * x and following of `entries`."""
        self.entries = Entries()
        self.table = Table("user content", width, spread=0, seed=0, device=device, dtype=dtype)
        self.optimizer = Adagrad(self.table, settings.rate)
        self._at_XS = np.zeros((0, self.slots), dtype=np.int64)
        """How many events the user had when the slot was written."""
        self._texts_X = np.zeros(0, dtype=np.int64)
        """Texts that the user ever wrote."""
        self._row_U = np.zeros(0, dtype=np.int64)
        """The row in `ids` of each of the learner's users, NONE or UNRESOLVED."""

    # --- what is said ---

    def describe(self, changes: Mapping[str, ItemContent | None], users: Vocabulary) -> None:
        """Take in the features of users; None: nothing is said of them any more. `users`: those that had events."""
        for user_id, content in changes.items():
            if content is None:
                self._remove_features(user_id, users)
                continue
            row = self._add(user_id, users)
            self.entries.replace(row * self.slots + FEATURES, content)
        self.table.grow(self.entries.features)
        self.entries.refresh()

    def read_then_write(
        self,
        users_B: Ints,
        events_B: Ints,
        enters_B: NDArray[np.bool_],
        notes: Mapping[int, Note],
        users: Vocabulary,
    ) -> "Said":
        """What each event of a batch finds said of its user, and then says itself, in stream order.

        `events_B`: events that the user had before, `enters_B`: whether this one counts among them; `notes`: place in
        the batch -> what the event says, where it says anything.
        """
        rows_B = self._rows_of(users_B, users)
        if strangers := {int(users_B[place]): None for place in notes if rows_B[place] == NONE}:
            for user in strangers:
                self._add(users.name(user), users)
            rows_B = self._rows_of(users_B, users)
        found = self._found(rows_B)
        if notes:
            self._write(notes, rows_B, events_B + enters_B, found)
        said = self._said(found, events_B)
        self.entries.tidy()
        self.table.grow(self.entries.features)
        if self.entries.has_new_scale():
            self.entries.refresh()
        return said

    def _write(self, notes: Mapping[int, Note], rows_B: Ints, after_B: Ints, found: "Found") -> None:
        """Take the notes in, in stream order, and let later events find them: `found` is what earlier ones left.

        `after_B`: events that the user has had after each event.
        """
        written = [
            (place, slot, said)
            for place in sorted(notes)
            for slot, said in self._slots_of(int(rows_B[place]), notes[place])
        ]
        places_W = np.array([place for place, _, _ in written], dtype=np.int64)
        slots_W = np.array([slot for _, slot, _ in written], dtype=np.int64)
        rows_W, at_W = rows_B[places_W], after_B[places_W]
        starts_W, lengths_W = self.entries.write(rows_W * self.slots + slots_W, [said for _, _, said in written])
        self._at_XS[rows_W, slots_W] = at_W  # of several writes the last one counts
        let_later_find(
            places_W,
            slots_W,
            starts_W,
            lengths_W,
            at_W,
            found.events_N,
            found.rows_N,
            rows_W,
            found.start_NS,
            found.length_NS,
            found.at_NS,
        )

    def read(self, users_U: Ints, events_U: Ints, users: Vocabulary) -> "Said":
        """What is said of these users now; `events_U`: events that each has had."""
        return self._said(self._found(self._rows_of(users_U, users)), events_U)

    def forget(self, user_ids: Ids, users_N: Ints) -> None:
        """Erase what is said of users; `users_N`: the learner's rows that are given back, -1 where there is none."""
        rows_N = self.ids.find(user_ids)
        self._clear(np.unique(rows_N[rows_N >= 0]), FEATURES)
        self._give_back_rows(users_N)

    def let_go(self, users_U: Ints, users: Vocabulary) -> None:
        """Erase what these users' events said; what the topic of users says of them stays for when they come back."""
        self._give_back_rows(users_U)
        rows_N = self.ids.find(Ids(users.blob, users.start_R[users_U], users.length_R[users_U].astype(np.int64)))
        self._clear(rows_N[rows_N >= 0], FEATURES + 1)

    def _found(self, rows_B: Ints) -> "Found":
        events, shape = len(rows_B), (len(rows_B), self.slots)
        found = Found(
            np.empty(events, dtype=np.int64),
            np.empty(events, dtype=np.int64),
            *(np.empty(shape, dtype=np.int64) for _ in range(3)),
        )
        number = find_slots(rows_B, *self.entries.places(), self._at_XS, *found)
        return found if number == events else Found(*(part[:number] for part in found))

    def _said(self, found: "Found", events_B: Ints) -> "Said":
        bags, settings = self.entries.bags_at(found.start_NS.ravel(), found.length_NS.ravel()), self.settings
        had_N = events_B[found.events_N]
        weigh_slots(bags.starts_N, bags.weights_E, found.at_NS, had_N, settings.half, settings.text_half)
        return Said(self, found.events_N, bags._replace(starts_N=bags.starts_N[:: self.slots].copy()))

    def _slots_of(self, row: int, note: Note) -> list[tuple[int, Features]]:
        """The slots that a note goes to, and what it says there."""
        found = []
        if note.text and (read := words(note.text[: MOST_WORDS * 32])[:MOST_WORDS]):
            slot = 1 + int(self._texts_X[row]) % self.settings.texts
            found.append((slot, Features(text_features(None, " ".join(read), None), {})))
            self._texts_X[row] += 1
        if note.context:
            found.append((self.slots - 1, _context_features(note.context)))
        return found

    def _rows_of(self, users_B: Ints, users: Vocabulary) -> Ints:
        self._row_U = grown(self._row_U, len(users), fill=UNRESOLVED)
        new = users_B[self._row_U[users_B] == UNRESOLVED]
        for user in np.unique(new).tolist() if len(new) else ():
            row = self.ids.row(users.name(user))
            self._row_U[user] = NONE if row is None else row
        rows_B: Ints = self._row_U[users_B]
        return rows_B

    def _add(self, user_id: str, users: Vocabulary) -> int:
        row = self.ids.row(user_id)
        if row is not None:
            return row
        row = int(self.ids.rows([user_id])[0])
        self._at_XS, self._texts_X = grown(self._at_XS, len(self.ids)), grown(self._texts_X, len(self.ids))
        self.entries.grow(len(self.ids) * self.slots)
        user = users.row(user_id)
        if user is not None and user < len(self._row_U):
            self._row_U[user] = row
        return row

    def _remove_features(self, user_id: str, users: Vocabulary) -> None:
        row = self.ids.row(user_id)
        if row is None:
            return
        self.entries.clear(np.array([row * self.slots + FEATURES]))
        if not self.entries.lengths()[row * self.slots : (row + 1) * self.slots].any():
            self._clear(np.array([row]), FEATURES)
            self._give_back_rows(users.find([user_id]))

    def _give_back_rows(self, users_N: Ints) -> None:
        """Of whom these rows of the learner's are, and what is said of them, is to be looked up again; -1 is none."""
        self._row_U[users_N[(users_N >= 0) & (users_N < len(self._row_U))]] = UNRESOLVED

    def _clear(self, rows_N: Ints, first: int) -> None:
        """Empty the slots from `first` on of distinct rows, and give back the rows of whom nothing is said then."""
        self.entries.clear((rows_N[:, None] * self.slots + np.arange(first, self.slots)).ravel())
        self._at_XS[rows_N] = 0  # features have no time
        self._texts_X[rows_N] = 0
        self.ids.remove_rows(rows_N[self.entries.lengths()[rows_N * self.slots + FEATURES] == 0])

    # --- keeping ---

    def state(self) -> dict[str, Tensor]:
        """Views, where that is what is kept."""
        size = len(self.ids)
        arrays: dict[str, NDArray[np.generic]] = {
            "at": self._at_XS[:size],
            "texts": self._texts_X[:size],
            **{f"ids.{name}": array for name, array in self.ids.state().items()},
            **{f"entries.{name}": array for name, array in self.entries.state().items()},
        }
        return {
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
            "table": self.table.values,
            **{f"table.{name}": value for name, value in self.optimizer.state().items()},
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replaces everything by what `state` returned; ValueError where it was made with another number of texts."""
        arrays = {name: value.numpy() for name, value in state.items()}
        if arrays["at"].shape[1] != self.slots:
            raise ValueError(
                f"the saved model keeps {arrays['at'].shape[1] - 2} texts a user, the settings ask for {self.slots - 2}"
            )
        self.table.load(arrays["table"])
        self.optimizer.load({"squares": state["table.squares"]})
        self.ids.load({name.removeprefix("ids."): array for name, array in arrays.items() if name[:4] == "ids."})
        prefix = "entries."
        self.entries.load(
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        )
        self._at_XS = arrays["at"].astype(np.int64)
        self._texts_X = arrays["texts"].astype(np.int64)
        self._row_U = np.zeros(0, dtype=np.int64)


def with_said(said: "Said | None", encoded: Encoded) -> Encoded:
    """The users' vectors and the way back, with what is said of the users on top where anything is."""
    return encoded if said is None else said.trace(encoded)


class Said:
    """What is said of the users of a batch: row n of `bags` belongs to event `events_N[n]`. For one step only."""

    def __init__(self, content: UserContent, events_N: Ints, bags: Bags) -> None:
        self._content = content
        self._events_N = events_N
        self._bags = bags
        self._features: Tensor | None = None
        self._gradient: Tensor | None = None

    def on_top(self, users_BD: Tensor) -> Tensor:
        """The users' vectors with what is said of them on top."""
        bags = self._bags
        if not len(bags.features_E):
            return users_BD
        if users_BD.device.type != "cpu":
            return self._on_top_anywhere(users_BD)
        summed_BD, values = users_BD.clone(), self._content.table.values.numpy()
        add_bags(self._events_N, bags.starts_N, bags.features_E, bags.weights_E, values, summed_BD.numpy())
        return summed_BD

    def _on_top_anywhere(self, users_BD: Tensor) -> Tensor:
        """The plain torch twin of the kernel, for GPUs."""
        values = self._content.table.values
        events = torch.from_numpy(self._events_N).to(values.device)
        return users_BD.index_add(0, events, sums(self._bags, values))

    def trace(self, encoded: Encoded) -> Encoded:
        """The same with the way back: the gradient is kept until `step`, and lost where the step is refused."""

        def pull_back(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
            self._keep(gradient_BD)
            encoded.pull_back(gradient_BD, gradient_ID)

        return Encoded(self.on_top(encoded.users_BD), pull_back)

    def of_events(self, events_R: Ints) -> "Said":
        """What is said of the users of these events alone."""
        place_B = np.full(int(max(self._events_N.max(initial=-1), events_R.max(initial=-1))) + 1, -1, dtype=np.int64)
        place_B[self._events_N] = np.arange(len(self._events_N))
        row_R = place_B[events_R]
        events_M = np.flatnonzero(row_R >= 0)
        return Said(self._content, events_M, self._bags.some(row_R[events_M]))

    def gradients(self) -> list[Tensor]:
        """What is kept for the step: not to be changed, to be judged."""
        return [] if self._gradient is None else [self._gradient]

    def step(self) -> None:
        """Move the table against the gradient that was kept."""
        if self._gradient is not None:
            self._content.optimizer.step(self._features, self._gradient)

    def _keep(self, gradient_BD: Tensor) -> None:
        if len(self._bags.features_E):
            entries = self._content.entries
            self._features, self._gradient = pulled_back(entries, self._bags, self._events_N, gradient_BD)


def _context_features(context: Mapping[str, str | float]) -> Features:
    """Names with texts as weights that add up to 1, names with finite numbers as numbers."""
    named = list(context.items())[:MOST_CONTEXT]
    texts = {bucket("context", f"{name}={value}") for name, value in named if isinstance(value, str)}
    numbers = {
        bucket("context number", name): float(value)
        for name, value in named
        if not isinstance(value, str) and math.isfinite(value)
    }
    weights = dict.fromkeys(sorted(texts), 1 / max(len(texts), 1))
    return Features(weights, {place: value for place, value in numbers.items() if place not in weights})
