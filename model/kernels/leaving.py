"""Taking the rows of items that leave out of everything that names them, some rows at a time: see `model.leaving`.

Each kernel goes over rows from `first` on until it has looked at so many entries, and returns the row to go on with.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Small = NDArray[np.int8]
Bytes = NDArray[np.uint8]

CHOSEN, LEAVING = 8, 16
"""Marks of items that are to leave in the next round, and of those that leave in this one."""
A_ROW = 8
"""Entries that a row counts for, beside its own."""


@compiled
def take_out_of_rings(
    first: int,
    users: int,
    entries: int,
    marks_I: Bytes,
    items_UH: Rows,
    times_UH: Ints,
    kinds_UH: Small,
    pushed_U: Ints,
    changed_N: Ints,
) -> tuple[int, int]:
    """What is left of a history moves up to its newest place; behind its oldest item there is nothing, -1.

    `changed_N` gets the users whose history named such an item; how many they are is returned too.
    """
    depth = items_UH.shape[1]
    user, changed = first, 0
    while user < users and entries > 0:
        held = min(pushed_U[user], depth)
        entries -= A_ROW + held
        names_one = False
        for slot in range(held):
            item = items_UH[user, slot]
            if item >= 0 and marks_I[item] == LEAVING:
                names_one = True
        if names_one:
            slot = to = pushed_U[user] % depth
            kept = 0
            for _ in range(held):
                slot = slot - 1 if slot > 0 else depth - 1
                item = items_UH[user, slot]
                if item < 0 or marks_I[item] == LEAVING:
                    continue
                to = to - 1 if to > 0 else depth - 1
                items_UH[user, to] = item
                times_UH[user, to] = times_UH[user, slot]
                kinds_UH[user, to] = kinds_UH[user, slot]
                kept += 1
            for _ in range(kept, held):
                to = to - 1 if to > 0 else depth - 1
                items_UH[user, to] = -1
                times_UH[user, to] = 0
                kinds_UH[user, to] = 0
            changed_N[changed] = user
            changed += 1
        user += 1
    return user, changed


@compiled
def take_out_of_lists(
    first: int, users: int, entries: int, marks_I: Bytes, pool: Rows, start_U: Ints, length_U: Ints, changed_N: Ints
) -> tuple[int, int]:
    """The other items of a list close up, in their order; else as `take_out_of_rings`."""
    user, changed = first, 0
    while user < users and entries > 0:
        start, length = start_U[user], length_U[user]
        entries -= A_ROW + length
        kept = 0
        for place in range(start, start + length):
            item = pool[place]
            if marks_I[item] != LEAVING:
                pool[start + kept] = item
                kept += 1
        for place in range(start + kept, start + length):
            pool[place] = 0
        if kept < length:
            length_U[user] = kept
            changed_N[changed] = user
            changed += 1
        user += 1
    return user, changed


@compiled
def take_out_of_remembered(
    first: int, users: int, entries: int, marks_I: Bytes, items_UR: Rows, residuals_UR: Floats, changed_N: Ints
) -> tuple[int, int]:
    """The place of such an item is -1 then, its residual 0; else as `take_out_of_rings`."""
    user, changed = first, 0
    while user < users and entries > 0:
        entries -= A_ROW + items_UR.shape[1]
        names_one = False
        for place in range(items_UR.shape[1]):
            item = items_UR[user, place]
            if item >= 0 and marks_I[item] == LEAVING:
                items_UR[user, place] = -1
                residuals_UR[user, place] = 0.0
                names_one = True
        if names_one:
            changed_N[changed] = user
            changed += 1
        user += 1
    return user, changed


@compiled
def take_out_of_pairs(
    first: int,
    items: int,
    entries: int,
    marks_I: Bytes,
    neighbours_IN: Rows,
    strengths_IN: Floats,
    length_I: Rows,
    whole_I: NDArray[np.float64],
    weakest_I: Rows,
    changed_N: Ints,
) -> tuple[int, int]:
    """The other pairs of an item's list close up, in their order; what is known of the list is to be taken anew.

    `changed_N` gets the items whose list named such an item; how many they are is returned too.
    """
    item, changed = first, 0
    while item < items and entries > 0:
        length = length_I[item]
        entries -= A_ROW + length
        kept = 0
        for place in range(length):
            other = neighbours_IN[item, place]
            if marks_I[other] != LEAVING:
                neighbours_IN[item, kept] = other
                strengths_IN[item, kept] = strengths_IN[item, place]
                kept += 1
        if kept < length:
            length_I[item] = kept
            whole_I[item] = -1.0
            weakest_I[item] = 0
            changed_N[changed] = item
            changed += 1
        item += 1
    return item, changed


@compiled
def take_out_of_slots(first: int, entries: int, marks_I: Bytes, keys_P: Ints, sums_P: Floats, counts_P: Floats) -> int:
    """A slot whose pair names such an item is empty then: key -1."""
    slot = first
    while slot < keys_P.shape[0] and entries > 0:
        entries -= 2
        key = keys_P[slot]
        if key >= 0 and (marks_I[key >> 32] == LEAVING or marks_I[key & 0xFFFFFFFF] == LEAVING):
            keys_P[slot] = -1
            sums_P[slot] = 0.0
            counts_P[slot] = 0.0
        slot += 1
    return slot
