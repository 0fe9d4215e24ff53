"""All items by falling count, and bounds on what stretches of them can score; `model.kernels.scan` reads them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, inlined_loosely
from model.kernels.vectors import fetch

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Vectors = NDArray[np.floating]
Flags = NDArray[np.bool_]

BLOCK = 64
GROUP = 16
"""Blocks of a group."""
AHEAD = 8
"""So many items ahead a vector is asked for: waiting for it takes longer than its length."""
HIGHEST_COUNT = 1 << 16
"""Items chosen more often than this are in no order among themselves."""


class ItemOrder(NamedTuple):
    """Items by position (P), count falling, and what of them makes scores and bounds, by row (I) and by position."""

    row_P: Rows
    position_I: Rows
    """-1 for items that have none yet."""
    count_P: Ints
    """At most HIGHEST_COUNT."""
    above_C: Ints
    """How many items have a higher count than C."""
    bias_I: Floats
    """-inf for what is no candidate."""
    log_count_I: Floats
    norm_I: Floats
    bias_P: Floats
    log_count_P: Floats
    norm_P: Floats


class Bounds(NamedTuple):
    """The largest values within each block, or within each group of blocks (Q)."""

    start_Q: Floats
    """Of bias + log_count."""
    high_Q: Floats
    """Of log_count; `low_Q`: the smallest."""
    low_Q: Floats
    norm_Q: Floats


@compiled
def _put(order: ItemOrder, row: int, position: int) -> None:
    order.row_P[position] = row
    order.position_I[row] = position
    order.bias_P[position] = order.bias_I[row]
    order.log_count_P[position] = order.log_count_I[row]
    order.norm_P[position] = order.norm_I[row]


@compiled
def _fall(order: ItemOrder, position: int, lower: int, stale_Q: Flags) -> int:
    """Let the item at this position have a lower count; where it is then: among the first of that count."""
    row = order.row_P[position]
    for count in range(order.count_P[position], lower, -1):
        last = order.above_C[count - 1] - 1
        if last != position:
            _put(order, order.row_P[last], position)
            stale_Q[position // BLOCK] = True
            position = last
        order.above_C[count - 1] = last
        order.count_P[position] = count - 1
    _put(order, row, position)
    stale_Q[position // BLOCK] = True
    return position


@compiled
def _take_out(order: ItemOrder, row: int, size: int, stale_Q: Flags) -> int:
    """The item has no place any more; the number of items in the order."""
    position, last = _fall(order, order.position_I[row], 0, stale_Q), size - 1
    if last != position:
        _put(order, order.row_P[last], position)
    order.position_I[row] = -1
    order.bias_I[row] = -np.inf
    stale_Q[last // BLOCK] = True
    stale_Q[max(last - 1, 0) // BLOCK] = True  # of its group, where its block is gone
    return last


@inlined_loosely
def norm(vector_D: Vectors) -> float:
    """The length of a vector."""
    squares = np.float32(0.0)
    for column in range(vector_D.shape[0]):
        squares += vector_D[column] * vector_D[column]
    return math.sqrt(squares)


@compiled
def follow(
    rows_R: Ints,
    order: ItemOrder,
    size: int,
    vectors_ID: Vectors,
    biases_I: Vectors,
    count_I: Ints,
    known_I: Flags,
    hidden_I: Flags,
    stale_Q: Flags,
) -> int:
    """Bring these items up to date in the order: place by count, bias, log count, norm. The number of items in it.

    An item changes places with the first one of its count and is then the last one of the next count; counts fall
    only where a row goes to another item. Known items without a place get one, others lose theirs. `hidden_I` (as long
    as the items, or empty: none) marks what is known and no candidate. `stale_Q` is set for blocks whose bounds have to
    be taken anew.
    """
    for place in range(rows_R.shape[0]):
        row = rows_R[place]
        if place + AHEAD < rows_R.shape[0]:
            fetch(vectors_ID, rows_R[place + AHEAD])
        if not known_I[row]:
            if order.position_I[row] >= 0:
                size = _take_out(order, row, size, stale_Q)
            continue
        length = float(norm(vectors_ID[row]))
        order.bias_I[row] = biases_I[row]
        if (hidden_I.shape[0] > 0 and hidden_I[row]) or math.isnan(length) or math.isnan(biases_I[row]):
            order.bias_I[row] = -np.inf
            length = 0.0
        order.norm_I[row] = length
        position = order.position_I[row]
        if position < 0 or order.count_P[position] != count_I[row]:  # most vectors move without an event of their item
            order.log_count_I[row] = math.log(count_I[row] + 0.5)
        if position < 0:
            position = size
            size += 1
            order.count_P[position] = 0
        elif order.count_P[position] > min(count_I[row], HIGHEST_COUNT):
            position = _fall(order, position, min(count_I[row], HIGHEST_COUNT), stale_Q)
        for count in range(order.count_P[position], min(count_I[row], HIGHEST_COUNT)):
            first = order.above_C[count]
            if first != position:
                order.count_P[position] = count
                _put(order, order.row_P[first], position)
                stale_Q[position // BLOCK] = True
                position = first
            order.above_C[count] = first + 1
            order.count_P[position] = count + 1
        _put(order, row, position)
        stale_Q[position // BLOCK] = True
    return size


@compiled
def take_bounds(order: ItemOrder, size: int, blocks: Bounds, groups: Bounds, stale_Q: Flags) -> None:
    """Take the bounds of stale blocks, and of their groups, anew; nothing is stale then."""
    for block in range((size + BLOCK - 1) // BLOCK):
        if not stale_Q[block]:
            continue
        first = block * BLOCK
        start, high, low, most = np.float32(-np.inf), np.float32(-np.inf), np.float32(np.inf), np.float32(0.0)
        for position in range(first, min(first + BLOCK, size)):
            start = max(start, order.bias_P[position] + order.log_count_P[position])
            high = max(high, order.log_count_P[position])
            low = min(low, order.log_count_P[position])
            most = max(most, order.norm_P[position])
        blocks.start_Q[block] = start
        blocks.high_Q[block] = high
        blocks.low_Q[block] = low
        blocks.norm_Q[block] = most
    for group in range((size + BLOCK * GROUP - 1) // (BLOCK * GROUP)):
        first = group * GROUP
        past = min(first + GROUP, (size + BLOCK - 1) // BLOCK)
        is_stale = False
        for block in range(first, past):
            is_stale |= stale_Q[block]
            stale_Q[block] = False
        if is_stale:
            start, high, low, most = np.float32(-np.inf), np.float32(-np.inf), np.float32(np.inf), np.float32(0.0)
            for block in range(first, past):
                start = max(start, blocks.start_Q[block])
                high = max(high, blocks.high_Q[block])
                low = min(low, blocks.low_Q[block])
                most = max(most, blocks.norm_Q[block])
            groups.start_Q[group] = start
            groups.high_Q[group] = high
            groups.low_Q[group] = low
            groups.norm_Q[group] = most
