"""The cumulative sum that watches over a stream of errors, block by block of events."""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Doubles = NDArray[np.float64]

MEMORY = 100
"""Blocks that the mean and the spread look back on."""
WARM_UP = 30
"""Blocks before the first alarm: the spread has to be known."""
SLACK = 0.5
"""Spreads above the mean that count as nothing."""
LIMIT = 12.0
"""Sum of spreads above the mean, less the slack, that is an alarm."""
MOST = 4.0
"""Spreads that a single block counts for at most: one burst is no drift."""
LEAST_SPREAD = 1e-3


@compiled
def watch_blocks(means_N: Doubles, numbers: Doubles, rises_N: Doubles) -> int:
    """Go through the means of blocks in order; how many alarms there were, and how large each rise was.

    `numbers`, which move: blocks so far, their mean and variance; the sum, and since it left 0: blocks, their total.
    """
    seen, mean, variance, excess, stretch, total = (
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
    )
    alarms = 0
    for place in range(means_N.shape[0]):
        block = means_N[place]
        seen += 1
        if seen > WARM_UP:
            excess += min((block - mean) / max(math.sqrt(variance), LEAST_SPREAD), MOST) - SLACK
        if excess <= 0:
            excess, stretch, total = 0.0, 0.0, 0.0
        else:
            stretch, total = stretch + 1, total + block
        if excess > LIMIT:
            rises_N[alarms] = total / stretch - mean
            alarms += 1
            mean, excess, stretch, total = total / stretch, 0.0, 0.0, 0.0  # what it is now is the new normal
        else:
            rate = max(1 / seen, 1 / MEMORY)
            change = block - mean
            mean += rate * change
            variance = (1 - rate) * (variance + rate * change * change)
    numbers[0], numbers[1], numbers[2] = seen, mean, variance
    numbers[3], numbers[4], numbers[5] = excess, stretch, total
    return alarms


@compiled
def watch_errors(
    errors_B: Doubles,
    counts_B: NDArray[np.bool_],
    largest: float,
    waiting_N: Doubles,
    numbers: Doubles,
    means_N: Doubles,
    rises_N: Doubles,
) -> int:
    """Go through the errors that count, each for at most `largest`; as `watch_blocks` whenever a block is full.

    `waiting_N`: errors of the block that is not full yet, zeros behind them; `numbers[6]` is how many there are.
    `means_N` is room for a mean for each block.
    """
    waiting, blocks, size = int(numbers[6]), 0, waiting_N.shape[0]
    for event in range(errors_B.shape[0]):
        if counts_B[event]:
            waiting_N[waiting] = min(max(errors_B[event], -largest), largest)
            waiting += 1
            if waiting == size:
                means_N[blocks] = 0
                for place in range(size):
                    means_N[blocks] += waiting_N[place] / size
                waiting_N[:] = 0
                waiting, blocks = 0, blocks + 1
    numbers[6] = waiting
    return watch_blocks(means_N[:blocks], numbers, rises_N)
