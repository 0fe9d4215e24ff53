"""The live rule in plain Python, written from the words of the contracts and not from the code it judges.

Sets, lists and dicts; every question is answered by looking at everything again.
"""

from dataclasses import dataclass, field


@dataclass
class PlainUser:
    history: list = field(default_factory=list)
    """(item, time) of everything that entered, oldest first."""
    seen: list = field(default_factory=list)
    """Distinct items in order of first entry."""


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
        """The user's last items, newest first."""
        kept = self.user(name).history[-self.depth :][::-1]
        if self.strictly_before and time is not None:
            kept = [(item, then) for item, then in kept if then < time]
        return [item for item, _ in kept[: self.window_length]]

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

    def learn(self, name, item, time, enters):
        self.counts.setdefault(item, 0)
        if not enters:
            return
        self.counts[item] += 1
        user = self.user(name)
        user.history.append((item, time))
        if item not in user.seen:
            user.seen.append(item)

    def end_batch(self):
        """Only now are seen lists cut to the newest."""
        for user in self.users.values():
            del user.seen[: max(0, len(user.seen) - self.most_seen)]

    def forget(self, name):
        self.users.pop(name, None)
