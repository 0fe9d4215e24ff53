"""Running figures of all ratings so far, which rating models count their errors in."""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Doubles = NDArray[np.float64]

COUNT, MEAN, VARIANCE, LOWEST, HIGHEST, LOG_COUNT, RUNNING = range(7)
"""Places in `overall`; those from the last one on are a model's own. LOG_COUNT: the usual log count of a rated item."""

LEAST_DEVIATION = 1e-6
LEAST_DEVIATION_OF_RANGE = 0.05


@compiled
def deviation_of(overall: Doubles) -> float:
    """The standard deviation that errors count in."""
    span = overall[HIGHEST] - overall[LOWEST]
    return float(max(math.sqrt(overall[VARIANCE]), LEAST_DEVIATION_OF_RANGE * span, LEAST_DEVIATION))


@compiled
def observe(overall: Doubles, rating: float, usual_log_count: float) -> None:
    """Running mean, variance (Welford 1962) and range with this rating in them."""
    first = overall[COUNT] == 0
    overall[LOWEST] = rating if first else min(overall[LOWEST], rating)
    overall[HIGHEST] = rating if first else max(overall[HIGHEST], rating)
    overall[COUNT] += 1
    before = rating - overall[MEAN]
    overall[MEAN] += before / overall[COUNT]
    overall[VARIANCE] += (before * (rating - overall[MEAN]) - overall[VARIANCE]) / overall[COUNT]
    overall[LOG_COUNT] = usual_log_count
