"""Ranking in plain Python, from the docstrings of the model and not from its code: pairs, user vectors, scores, ranks.

Items are row numbers. Whatever parameters come in may be watched by autograd.
"""

import math

import numpy as np
import torch

from model.encoders.recency import SCALES


class PlainPairs:
    """Which items go together: a dict of dicts, strengths in single precision as the model keeps them."""

    def __init__(self, settings):
        self.settings = settings
        self.strengths = {}

    def features(self, window_items, counts):
        """The feature of each item that the window speaks for."""
        settings, sums = self.settings, {}
        for age, item in enumerate(window_items[: settings.read]):
            weight = settings.age_decay**age * (counts.get(item, 0) + 1) ** settings.count_power
            for other, strength in self.strengths.get(item, {}).items():
                sums[other] = sums.get(other, 0.0) + weight * float(strength)
        everything, total = sum(sums.values()), sum(count + 0.5 for count in counts.values() if count)
        features = {}
        for item, value in sums.items():
            popularity = (counts.get(item, 0) + 0.5) / total
            features[item] = math.log(1 + value / everything / (settings.prior * popularity))
        return features

    def count(self, last_items, item):
        for distance, earlier in enumerate(last_items[: self.settings.pairs]):
            if earlier != item:
                amount = np.float32(self.settings.distance_decay**distance)
                self._add(earlier, item, amount)
                self._add(item, earlier, amount)

    def _add(self, item, other, amount):
        pairs = self.strengths.setdefault(item, {})
        if other in pairs or len(pairs) < self.settings.neighbours:
            pairs[other] = pairs.get(other, np.float32(0)) + amount
            return
        weakest = min(pairs, key=pairs.get)
        pairs[weakest] *= np.float32(0.9)
        if pairs[weakest] < amount:  # the newcomer takes the place of the weakest, where ties are told apart by place
            self.strengths[item] = {
                other if one == weakest else one: amount if one == weakest else strength
                for one, strength in pairs.items()
            }


class PlainScores:
    """The parameters of a ranking head with a recency encoder, with or without a network on top, or with no vector."""

    def __init__(self, head):
        def copy(value):
            return value.detach().clone().requires_grad_()

        self.items = copy(head.items.values)
        self.biases = copy(head.biases.values[:, 0])
        self.mix = {name: copy(value) for name, value in head.mix.values.items()}
        recency = getattr(head.encoder, "recency", head.encoder)
        small, layers = getattr(recency, "small", None), getattr(head.encoder, "layers", None)
        self.small = {} if small is None else {name: copy(value) for name, value in small.values.items()}
        self.layers = {} if layers is None else {name: copy(value) for name, value in layers.values.items()}

    def user(self, window):
        width = self.items.shape[1]
        parts = []
        for group, scale in enumerate(SCALES if self.small else ()):
            columns = slice(round(width * group / len(SCALES)), round(width * (group + 1) / len(SCALES)))
            part = torch.zeros(columns.stop - columns.start, dtype=self.items.dtype)
            for age, (item, gap, kind) in enumerate(zip(*window[:3], strict=True)):
                if age < scale.width:
                    log = (
                        self.small["lag"][group, age] + self.small["gap"][group, gap] + self.small["kind"][group, kind]
                    )
                    part = part + log.exp() * self.items[item, columns]
            parts.append(part)
        user_D = torch.cat(parts) if parts else torch.zeros(width, dtype=self.items.dtype)
        if not self.layers:
            return user_D
        length = torch.zeros(len(self.layers["first"]) - width, dtype=user_D.dtype)
        length[window.length] = 1
        return user_D + torch.relu(torch.cat((user_D, length)) @ self.layers["first"]) @ self.layers["second"]

    def scores(self, window, counts, features, allow_repeats):
        """Item -> score, for the items of `counts`."""
        user_D = self.user(window)
        popularity, together = self.mix["popularity"][window.length], self.mix["together"][window.length]
        found = {}
        for item, count in counts.items():
            score = user_D @ self.items[item] + self.biases[item]
            found[item] = score + popularity * math.log(count + 0.5) + together * features.get(item, 0.0)
        if allow_repeats:
            for age, item in enumerate(window.items[: len(self.mix["repeat"])]):
                if item in found:
                    found[item] = found[item] + self.mix["repeat"][age]
        return found


def plain_rank(scores, own, tolerance=0.0):
    """Better ones and half the ties, of item -> score."""
    numbers = {item: float(score.detach()) for item, score in scores.items()}
    gaps = [number - numbers[own] for item, number in numbers.items() if item != own]
    return sum(gap > tolerance for gap in gaps) + sum(abs(gap) <= tolerance for gap in gaps) // 2


def plain_loss(scores, own, weight):
    """Weighted cross-entropy of the own item; of a negative weight the unlikelihood."""
    log_p = torch.log_softmax(torch.stack(list(scores.values())), 0)[list(scores).index(own)]
    return -weight * log_p if weight >= 0 else weight * torch.log1p(-log_p.exp())
