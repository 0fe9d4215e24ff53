"""The live rule in plain Python, written from the words of the contracts and not from the code it judges.

Sets, lists and dicts; every question is answered by looking at everything again.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple


class Past(NamedTuple):
    """Something that entered a user's history."""

    item: object
    time: int
    kind: int = 0


class PlainWindow(NamedTuple):
    """What an encoder may read of a user; the lists are newest first."""

    items: list
    gaps: list
    kinds: list
    length: int


@dataclass
class PlainUser:
    history: list = field(default_factory=list)
    """Everything that entered, oldest first."""
    seen: list = field(default_factory=list)
    """Distinct items in order of first entry."""


def gap_bucket(milliseconds):
    """Whole seconds 0 to 2 are bucket 0, 3 to 14 are 1, 15 to 62 are 2, ...; 13 is the last."""
    bucket = 0
    while milliseconds // 1000 + 1 >= 4 ** (bucket + 1):
        bucket += 1
    return min(bucket, 13)


def length_bucket(interactions):
    """0, 1 to 2, 3 to 6, 7 to 14, ...; 9 is the last."""
    return min(int(math.log2(interactions + 1)), 9)


class PlainLive:
    """What each event finds, and how it moves history, seen items, known items and counts."""

    def __init__(self, *, depth, most_seen, window, allow_repeats=False, strictly_before=False):
        self.depth = depth
        self.most_seen = most_seen
        self.window_length = window
        self.allow_repeats = allow_repeats
        self.strictly_before = strictly_before
        self.users = {}
        self.counts = {}
        """Known items only: an item is known from its first event, whatever the weight."""

    def user(self, name):
        return self.users.setdefault(name, PlainUser())

    def window(self, name, time=None):
        """What the user is ranked from by an event of that time; with no time, as it stands now."""
        history = self.user(name).history
        hides = self.strictly_before and time is not None
        read, left_out = [], 0
        for past in history[-self.depth :][::-1]:
            if len(read) == self.window_length:
                break
            if hides and past.time >= time:
                left_out += 1
            else:
                read.append(past)
        return PlainWindow(
            [past.item for past in read],
            [gap_bucket(max(read[0].time - past.time, 0)) for past in read],
            [past.kind for past in read],
            length_bucket(len(history) - left_out),
        )

    def last_items(self, name):
        """Newest first, whatever `strictly_before` says: what an event makes pairs with."""
        return [past.item for past in self.user(name).history[-self.depth :][::-1]][: self.window_length]

    def candidates(self, name, own):
        left_out = set() if self.allow_repeats else set(self.user(name).seen) - {own}
        return {item for item in self.counts if item not in left_out}

    def popularity_rank(self, name, own):
        """-1 for an item without an earlier event."""
        if own not in self.counts:
            return -1
        others = self.candidates(name, own) - {own}
        better = sum(self.counts[other] > self.counts[own] for other in others)
        ties = sum(self.counts[other] == self.counts[own] for other in others)
        return better + ties // 2

    def learn(self, name, item, time, enters, kind=0):
        self.counts.setdefault(item, 0)
        if not enters:
            return
        self.counts[item] += 1
        user = self.user(name)
        user.history.append(Past(item, time, kind))
        if item not in user.seen:
            user.seen.append(item)

    def end_batch(self):
        """Only now are seen lists cut to the newest."""
        for user in self.users.values():
            del user.seen[: max(0, len(user.seen) - self.most_seen)]

    def forget(self, name):
        self.users.pop(name, None)
