"""Drawing items by their counts and evenly, without going through all of them."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Flags = NDArray[np.bool_]
Doubles = NDArray[np.float64]

FAN = 64
"""Items summed up in a block, and blocks in a block of blocks."""
LEFT_OUT = -2


@compiled
def item_at(target: int, count_I: Ints, block_sums: Ints, outer_sums: Ints) -> int:
    """The first item whose count and those before it add up to more than `target`, which is below their whole sum."""
    outer = 0
    while target >= outer_sums[outer]:
        target -= outer_sums[outer]
        outer += 1
    block = outer * FAN
    while target >= block_sums[block]:
        target -= block_sums[block]
        block += 1
    item = block * FAN
    while target >= count_I[item]:
        target -= count_I[item]
        item += 1
    return item


@compiled
def count_up(items_B: Ints, enters_B: Flags, block_sums: Ints, outer_sums: Ints) -> int:
    """Let the sums follow the events that enter; their number."""
    entered = 0
    for event in range(items_B.shape[0]):
        if enters_B[event]:
            entered += 1
            block_sums[items_B[event] // FAN] += 1
            outer_sums[items_B[event] // (FAN * FAN)] += 1
    return entered


@compiled
def log_probability(log_missed: float) -> float:
    """log(1 - e^log_missed), for log_missed below 0."""
    x = -log_missed
    if x > 0.25:
        return float(np.log(-np.expm1(-x)))
    square = x * x  # of log((1 - e^-x) / x), off by less than 1e-9
    return float(np.log(x) - x * 0.5 + square * (1.0 / 24.0) - square * square * (1.0 / 2880.0))


@compiled
def draw_distinct(
    evenly_E: Doubles,
    by_count_P: Doubles,
    shuffling_N: Doubles,
    items: int,
    total: int,
    known_I: Flags,
    count_I: Ints,
    block_sums: Ints,
    outer_sums: Ints,
    new_items_X: Ints,
    room_I: Rows,
    drawn_N: Ints,
    log_share_N: Doubles,
) -> int:
    """Distinct items from uniform numbers, E draws even and P by count, repeats merged, shuffled; how many they are.

    Items that are not known, and `new_items_X`, are left out. `log_share_N` is the log of the probability that an item
    is drawn. `room_I` is room to work in: -1 everywhere, before and after. `total`, the sum of all counts, must be
    above 0 where there are draws by count.
    """
    evenly, by_count = evenly_E.shape[0], by_count_P.shape[0]
    for place in range(new_items_X.shape[0]):
        room_I[new_items_X[place]] = LEFT_OUT
    nearly_one = 1 - 1e-12
    log_missed_evenly = evenly * np.log1p(-min(1.0 / items, nearly_one)) if evenly > 0 else 0.0
    drawn = 0
    for draw in range(evenly + by_count):
        if draw < evenly:
            item = min(int(evenly_E[draw] * items), items - 1)
        else:
            item = item_at(min(int(by_count_P[draw - evenly] * total), total - 1), count_I, block_sums, outer_sums)
        if room_I[item] == -1 and known_I[item]:
            room_I[item] = drawn
            drawn_N[drawn] = item
            drawn += 1
    for place in range(drawn - 1, 0, -1):
        other = min(int(shuffling_N[place] * (place + 1)), place)
        drawn_N[place], drawn_N[other] = drawn_N[other], drawn_N[place]
    for place in range(drawn):
        item = drawn_N[place]
        room_I[item] = -1
        log_missed = log_missed_evenly
        if by_count > 0:
            share = min(count_I[item] / total, nearly_one)
            if share < 1e-3:
                log_missed -= by_count * share * (1.0 + share * (0.5 + share * (1.0 / 3.0 + share * 0.25)))
            else:
                log_missed += by_count * np.log1p(-share)
        log_share_N[place] = log_probability(log_missed)
    for place in range(new_items_X.shape[0]):
        room_I[new_items_X[place]] = -1
    return drawn
