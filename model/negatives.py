"""Sampled negatives for catalogues too large for the full softmax."""

import numpy as np
from numpy.typing import NDArray


def draw_negatives(
    known_I: NDArray[np.bool_], count_I: NDArray[np.int64], number: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct known items, shared by a whole batch, and the log of the probability that each is among them: both (N,).

    Half of `number` draws are uniform over the known items, half by popularity; repeats are merged, so fewer than
    `number` may come back. Subtracting the logs from the logits keeps the sampled softmax an estimate of the full
    one instead of a penalty on popular items (the logQ correction: Bengio and Senecal 2008; Yi et al. 2019): a sum
    over the sample of exp(logit - log) has the sum over all known items as its mean.
    """
    known = np.flatnonzero(known_I)
    if len(known) == 0 or number <= 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    counts = count_I[known]
    total = counts.sum()
    popularity = counts / total if total > 0 else np.full(len(known), 1 / len(known))
    by_popularity = number // 2
    evenly = number - by_popularity
    uniform = generator.integers(len(known), size=evenly)
    popular = np.searchsorted(np.cumsum(popularity), generator.random(by_popularity), side="right")
    drawn = np.unique(np.concatenate((uniform, np.minimum(popular, len(known) - 1))))
    nearly_one = 1 - 1e-12
    log_missed = evenly * np.log1p(-min(1 / len(known), nearly_one))
    log_missed = log_missed + by_popularity * np.log1p(-np.minimum(popularity[drawn], nearly_one))
    return known[drawn], np.log(-np.expm1(log_missed))
