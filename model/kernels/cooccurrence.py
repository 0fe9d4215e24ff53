"""Counting which items follow each other, and scoring by it, event by event."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

FADING = np.float32(0.9)
"""What is left of the weakest pair of a full item each time another pair wants its place."""


@compiled_loosely
def count_pair(neighbours_N: Rows, strengths_N: Floats, length: int, other: int, amount: float) -> int:
    """Add to a pair's strength in one item's list; the list's length afterwards.

    Where the list is full the weakest pair fades, and gives way once it is weaker than the newcomer: what comes again
    and again gets in, what came once does not push it out.
    """
    at = -1
    for place in range(length):
        if neighbours_N[place] == other:
            at = max(at, place)
    if at >= 0:
        strengths_N[at] += amount
        return length
    if length < neighbours_N.shape[0]:
        neighbours_N[length] = other
        strengths_N[length] = amount
        return length + 1
    bits_N = strengths_N.view(np.int32)  # positive floats order as their bits do, and whole numbers are found faster
    smallest = bits_N[0]
    for place in range(length):
        smallest = min(smallest, bits_N[place])
    weakest = length
    for place in range(length):
        weakest = min(weakest, place if bits_N[place] == smallest else length)
    strengths_N[weakest] *= FADING
    if strengths_N[weakest] < amount:
        neighbours_N[weakest] = other
        strengths_N[weakest] = amount
    return length


@compiled
def score_window(
    items_W: Rows,
    read: int,
    neighbours_IN: Rows,
    strengths_IN: Floats,
    length_I: Ints,
    count_I: Ints,
    age_weights_W: Floats,
    count_power: float,
    sums_I: Floats,
    found_I: Rows,
) -> int:
    """Add up the strengths of all items by the first `read` items of a window; the items found, their number.

    `sums_I` must be zero on entry; the caller clears it.
    """
    found = 0
    for age in range(read):
        item = items_W[age]
        if item < 0:
            break
        weight = np.float32(age_weights_W[age] * (count_I[item] + 1.0) ** count_power)
        neighbours_N, strengths_N = neighbours_IN[item], strengths_IN[item]
        for place in range(length_I[item]):
            other = neighbours_N[place]
            before = sums_I[other]
            found_I[found] = other
            found += before == 0
            sums_I[other] = before + weight * strengths_N[place]
    return found


@compiled
def score_then_count(
    windows_BW: Rows,
    full_items_BW: Rows,
    items_B: Ints,
    enters_B: Flags,
    read: int,
    neighbours_IN: Rows,
    strengths_IN: Floats,
    length_I: Ints,
    count_I: Ints,
    total: int,
    chosen: int,
    age_weights_W: Floats,
    pair_weights_W: Floats,
    count_power: float,
    prior: float,
    most: int,
    counts: bool,
    sums_I: Floats,
    found_I: Rows,
    starts_B: Ints,
    items_E: Rows,
    ratios_E: Floats,
) -> int:
    """For each event the items that its window speaks for, then count the event's own pairs (where `counts`).

    Item j of event b gets ratio = share of j among the sums / (prior * popularity of j), where popularity is
    (count + 1/2) / the sum of that over all items chosen so far; entries of event b lie from
    `starts_B[b]` to `starts_B[b + 1]`, at most `most` each. `total` and `chosen` are the sum of `count_I` and how
    many of them are above 0, before the first event; `count_I` follows the events. Returns how many events fitted into
    `items_E`; call again for the rest.
    """
    entries = 0
    for event in range(windows_BW.shape[0]):
        starts_B[event] = entries
        if items_E.shape[0] - entries < most:
            return event
        found = score_window(
            windows_BW[event],
            read,
            neighbours_IN,
            strengths_IN,
            length_I,
            count_I,
            age_weights_W,
            count_power,
            sums_I,
            found_I,
        )
        whole = np.float64(0.0)
        for place in range(found):
            whole += sums_I[found_I[place]]
        scale = (total + 0.5 * chosen) / (prior * whole) if whole > 0 else 0.0
        for place in range(found):
            other = found_I[place]
            items_E[entries] = other
            ratios_E[entries] = sums_I[other] * scale / (count_I[other] + 0.5)
            sums_I[other] = 0.0
            entries += 1
        if counts and enters_B[event]:
            item = items_B[event]
            for age in range(full_items_BW.shape[1]):
                earlier = full_items_BW[event, age]
                if earlier < 0:
                    break
                if earlier != item:
                    amount = pair_weights_W[age]
                    length_I[earlier] = count_pair(
                        neighbours_IN[earlier], strengths_IN[earlier], length_I[earlier], item, amount
                    )
                    length_I[item] = count_pair(
                        neighbours_IN[item], strengths_IN[item], length_I[item], earlier, amount
                    )
            chosen += count_I[item] == 0
            count_I[item] += 1
            total += 1
    starts_B[windows_BW.shape[0]] = entries
    return int(windows_BW.shape[0])
