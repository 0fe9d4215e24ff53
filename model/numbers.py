"""Numbers of all scales on one: less the running mean, by the running deviation, one feature at a time.

Welford, Note on a method for calculating corrected sums of squares and products, 1962.
"""

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown
from model.kernels.entries import learn_scale, scale_values

Doubles = NDArray[np.float64]

FAR = 5.0
"""Deviations from the mean beyond which a number says no more: one outlier must not drown an item's other content."""

LARGEST = 1e100
"""Larger numbers count as this one: their squares must stay finite."""


class RunningScaler:
    """Mean and variance (of the population) of each feature, over every value that was learned."""

    def __init__(self) -> None:
        self.features = 0
        self.count_F = np.zeros(0)
        self.mean_F = np.zeros(0)
        self.squares_F = np.zeros(0)
        """Sum of the squared differences from the mean."""

    @property
    def values(self) -> float:
        """How many values were learned."""
        return float(self.count_F.sum())

    def learn(self, features_N: NDArray[np.int64], values_N: Doubles) -> None:
        """Take in values, in order; features are numbers from 0."""
        if not len(features_N):
            return
        values_N = np.clip(values_N, -LARGEST, LARGEST)
        features = int(features_N.max()) + 1
        self.features = max(self.features, features)
        self.count_F = grown(self.count_F, features)
        self.mean_F = grown(self.mean_F, features)
        self.squares_F = grown(self.squares_F, features)
        learn_scale(features_N, values_N, self.count_F, self.mean_F, self.squares_F)

    def scaled(self, features_N: NDArray[np.int64], values_N: Doubles, shares_N: NDArray[np.float32]) -> Doubles:
        """Values with a share in deviations from the mean, cut at FAR, times the share; those without as they are.

        0 for a feature that never varied or was never met.
        """
        scaled_N, features = np.empty(len(values_N)), self.features
        scale_values(
            features_N,
            values_N,
            shares_N,
            self.count_F,
            self.mean_F,
            self.squares_F,
            features,
            LARGEST,
            FAR,
            scaled_N,
        )
        return scaled_N

    def state(self) -> dict[str, NDArray[np.generic]]:
        features = self.features
        return {
            "count": self.count_F[:features],
            "mean": self.mean_F[:features],
            "squares": self.squares_F[:features],
        }

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self.count_F = growable(state["count"], np.float64)
        self.mean_F = growable(state["mean"], np.float64)
        self.squares_F = growable(state["squares"], np.float64)
        self.features = len(self.count_F)
