"""Counting which items follow each other, and scoring by it, event by event."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled
from model.kernels.logarithms import logarithms
from model.kernels.matches import place_of
from model.kernels.vectors import fetch

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Number = float | np.floating

SLOT = np.dtype(
    {
        "names": ["length", "weakest", "whole", "powered"],
        "formats": [np.int32, np.int32, np.float64, np.int64],
        "itemsize": 32,
    }
)
"""What is kept of an item beside its list, in one cache line."""
LN2 = np.float32(0.6931472)
HALF = np.float32(0.5)
ONE_POWER, LEAST_POWER = np.float32(2.0**-23), np.float32(127 - 0.0862)
"""The bits of a positive float, read as a whole number and times the first, less 127, are its logarithm to base 2 or up
to 0.0861 less."""
FLOAT_BITS = 2**31 - 1
"""Of a number that holds a positive float beside another."""
FADING = np.float32(0.9)
"""What is left of the weakest pair of a full item each time another pair wants its place."""


class Pairs(NamedTuple):
    """The pairs of all items, N at most an item, and what of them need not be worked out each time."""

    neighbours_IN: Rows
    strengths_IN: Floats
    """Above 0. One of 2^24 no longer grows, as single precision has it, until drift fades it."""
    length_I: Rows
    weakest_I: Rows
    """Where the weakest pair of a full item stands, of equals the first, counted from 1; 0: to be looked for."""
    whole_I: NDArray[np.float64]
    """Sum of an item's strengths; below 0: to be taken anew. Kept by adding what changes, of which float64 rounds
    nothing while the strengths are of like size: a worker that starts again, and sums up anew, has the same number.
    Behind drifts that faded older ones to a thousandth or less it may differ in the last bits of a float64, and a score
    has single precision."""
    powered_I: Ints
    """count + 1 in the high half, and in the low one the bits of (count + 1)^count_power; 0: never worked out. One
    number, so that threads that read windows at the same time find both or neither."""


class Reading(NamedTuple):
    """How a window is read."""

    most: int
    """Newest items of a window that are read."""
    age_weights_W: Floats
    count_power: float
    prior: float


class Wanted(NamedTuple):
    """The items whose features are wanted: those of event b are its own item and sample b modulo `samples`."""

    samples: int
    """0: of every event all items are wanted."""
    drawn_N: Ints
    """The samples, of equal size, one behind the other."""
    is_whole_B: Flags
    """Events that want all items all the same."""


class Room(NamedTuple):
    """Room to work in."""

    sums_I: Floats
    """0 everywhere, before and after."""
    sample_I: Rows
    """-1 everywhere, before and after."""
    ones_I: Floats
    """One place more than there are items, as what follows."""
    counts_I: Floats
    values_I: Floats
    items_I: Rows
    """By as many places more as an item has pairs."""


class Together(NamedTuple):
    """What co-occurrence adds to the scores of users, to be worked out user by user."""

    windows_UW: Rows
    """No rows: it adds nothing."""
    weights_U: Floats
    """Of a feature in a user's scores."""
    pairs: Pairs
    reading: Reading
    count_I: Ints
    total: float
    """Sum of count + 1/2 over the items chosen so far."""
    room: Room


def pairs_of(neighbours_IN: Rows, strengths_IN: Floats, slots_I: NDArray[np.void]) -> Pairs:
    """These lists, and views of the slots."""
    fields = (slots_I[name] for name in SLOT.names or ())
    return Pairs(neighbours_IN, strengths_IN, *fields)


def room_for(items: int, neighbours: int) -> Room:
    """For so many items of so many pairs."""
    return Room(
        sums_I=np.zeros(items, dtype=np.float32),
        sample_I=np.full(items, -1, dtype=np.int32),
        ones_I=np.empty(items + 1, dtype=np.float32),
        counts_I=np.empty(items + 1, dtype=np.float32),
        values_I=np.empty(items + 1, dtype=np.float32),
        items_I=np.empty(items + 1 + neighbours, dtype=np.int32),
    )


def room_beside(room: Room) -> Room:
    """As much to look at windows in, for another thread: none for samples."""
    return room_for(0, 0)._replace(
        sums_I=np.zeros_like(room.sums_I),
        **{name: np.empty_like(getattr(room, name)) for name in ("ones_I", "counts_I", "values_I", "items_I")},
    )


NOT_TOGETHER = Together(
    windows_UW=np.zeros((0, 0), dtype=np.int32),
    weights_U=np.zeros(0, dtype=np.float32),
    pairs=pairs_of(np.zeros((0, 0), dtype=np.int32), np.zeros((0, 0), dtype=np.float32), np.zeros(2, dtype=SLOT)),
    reading=Reading(0, np.zeros(0, dtype=np.float32), 0.0, 1.0),
    count_I=np.zeros(0, dtype=np.int64),
    total=0.0,
    room=room_for(0, 0),
)
"""Where co-occurrence adds nothing. Two slots: columns of fewer lie otherwise, and numba compiles for how they lie."""


@compiled
def count_pair(pairs: Pairs, item: int, other: int, amount: float) -> None:
    """Add to a pair's strength in one item's list.

    Where the list is full the weakest pair fades, and gives way once it is weaker than the newcomer: what comes again
    and again gets in, what came once does not push it out.
    """
    length = pairs.length_I[item]
    neighbours_N, strengths_N = pairs.neighbours_IN[item], pairs.strengths_IN[item]
    before, now = np.float32(0.0), np.float32(amount)
    place = place_of(pairs.neighbours_IN, item, length, other)
    if place >= 0:
        before = strengths_N[place]
        now += before
        if place + 1 == pairs.weakest_I[item]:
            pairs.weakest_I[item] = 0
    elif length < neighbours_N.shape[0]:
        place = length
        neighbours_N[place] = other
        pairs.length_I[item] = length + 1
    else:
        if pairs.weakest_I[item] == 0:
            pairs.weakest_I[item] = weakest_of(strengths_N) + 1
        place = pairs.weakest_I[item] - 1
        before = strengths_N[place]
        faded = before * FADING
        if faded < now:
            neighbours_N[place] = other
            pairs.weakest_I[item] = 0
        else:
            now = faded
    strengths_N[place] = now
    if pairs.whole_I[item] >= 0:
        pairs.whole_I[item] += np.float64(now) - np.float64(before)


@compiled
def weakest_of(strengths_N: Floats) -> int:
    """Where the smallest of these positive numbers stands, of equals the first."""
    bits_N = strengths_N.view(np.int32)  # positive floats order as their bits do, and whole numbers are found faster
    smallest = bits_N[0]
    for place in range(bits_N.shape[0]):
        smallest = min(smallest, bits_N[place])
    for place in range(bits_N.shape[0]):
        if bits_N[place] == smallest:
            return place
    return -1


@compiled
def _sum(strengths_N: Floats) -> float:
    whole = np.float64(0.0)
    for place in range(strengths_N.shape[0]):
        whole += np.float64(strengths_N[place])
    return whole


@compiled
def weight_of(pairs: Pairs, reading: Reading, item: int, age: int, count_I: Ints) -> Number:
    """What the item of this age in a window weighs."""
    count = count_I[item]
    powered = pairs.powered_I[item]
    if powered >> 32 != count + 1:
        power = np.float32((count + 1.0) ** reading.count_power)
        powered = ((count + 1) << 32) + np.int64(power.view(np.int32))
        pairs.powered_I[item] = powered
    if pairs.whole_I[item] < 0:
        pairs.whole_I[item] = _sum(pairs.strengths_IN[item, : pairs.length_I[item]])
    weight: Number = reading.age_weights_W[age] * np.int32(powered & FLOAT_BITS).view(np.float32)
    return weight


@compiled
def fetch_lists(pairs: Pairs, reading: Reading, items_W: Rows) -> None:
    """What a window reads will be read soon."""
    for age in range(reading.most):
        item = items_W[age]
        if item < 0:
            break
        length = pairs.length_I[item]
        fetch(pairs.neighbours_IN[:, :length], item)
        fetch(pairs.strengths_IN[:, :length], item)


@compiled
def add_up(pairs: Pairs, reading: Reading, items_W: Rows, count_I: Ints, sums_I: Floats) -> tuple[float, int]:
    """Add the strengths of all items by a window to `sums_I`; the sum of what was added, and the number of pairs."""
    whole, read = np.float64(0.0), 0
    for age in range(reading.most):
        item = items_W[age]
        if item < 0:
            break
        weight = weight_of(pairs, reading, item, age, count_I)
        whole += weight * pairs.whole_I[item]
        length = pairs.length_I[item]
        neighbours_N, strengths_N = pairs.neighbours_IN[item, :length], pairs.strengths_IN[item, :length]
        for place in range(length):
            sums_I[np.uint32(neighbours_N[place])] += weight * strengths_N[place]
        read += length
    return whole, read


@compiled
def add_up_and_list(
    pairs: Pairs, reading: Reading, items_W: Rows, count_I: Ints, sums_I: Floats, items_I: Rows
) -> tuple[float, int]:
    """`add_up`, and the items that got something in `items_I`; the sum of what was added, and how many they are."""
    whole, found = np.float64(0.0), 0
    for age in range(reading.most):
        item = items_W[age]
        if item < 0:
            break
        weight = weight_of(pairs, reading, item, age, count_I)
        whole += weight * pairs.whole_I[item]
        length = pairs.length_I[item]
        neighbours_N, strengths_N = pairs.neighbours_IN[item, :length], pairs.strengths_IN[item, :length]
        for place in range(length):
            other = np.uint32(neighbours_N[place])
            before = sums_I[other]
            items_I[found] = neighbours_N[place]
            found += 1 if before == 0 else 0
            sums_I[other] = before + weight * strengths_N[place]
        found = min(found, sums_I.shape[0])  # what faded to nothing is met again
    return whole, found


@compiled
def add_up_sample(
    pairs: Pairs,
    reading: Reading,
    items_W: Rows,
    count_I: Ints,
    sums_I: Floats,
    sample_I: Rows,
    sample: int,
) -> float:
    """The same, of items of this sample only; the sum of what all items would have got."""
    whole = np.float64(0.0)
    for age in range(reading.most):
        item = items_W[age]
        if item < 0:
            break
        weight = weight_of(pairs, reading, item, age, count_I)
        whole += weight * pairs.whole_I[item]
        length = pairs.length_I[item]
        neighbours_N, strengths_N = pairs.neighbours_IN[item, :length], pairs.strengths_IN[item, :length]
        for place in range(length):
            other = np.uint32(neighbours_N[place])  # numba looks at the sign of others
            if sample_I[other] == sample:
                sums_I[other] += weight * strengths_N[place]
    return whole


@compiled
def list_items(
    pairs: Pairs,
    reading: Reading,
    items_W: Rows,
    read: int,
    items: int,
    sums_I: Floats,
    items_E: Rows,
    values_E: Floats,
    entry: int,
) -> int:
    """Write down what `add_up` found by `read` pairs, and clear `sums_I`; the number of entries then.

    One place more than there are items is written to.
    """
    if read >= items:
        for item in range(items):
            value = sums_I[item]
            items_E[entry] = item
            values_E[entry] = value
            sums_I[item] = np.float32(0.0)
            entry += 1 if value > 0 else 0
        return entry
    for age in range(reading.most):
        item = items_W[age]
        if item < 0:
            break
        neighbours_N = pairs.neighbours_IN[item, : pairs.length_I[item]]
        for place in range(neighbours_N.shape[0]):
            other = np.uint32(neighbours_N[place])  # numba looks at the sign of others
            value = sums_I[other]
            items_E[entry] = other
            values_E[entry] = value
            sums_I[other] = np.float32(0.0)
            entry += 1 if value > 0 else 0
    return entry


@compiled
def features_of(
    first: int,
    past: int,
    whole: float,
    total: float,
    prior: float,
    count_I: Ints,
    room: Room,
    items_E: Rows,
    values_E: Floats,
) -> None:
    """Turn sums, which make `whole` together with those left out, into features: the entries from `first` to `past`."""
    scale = np.float32(total / (prior * whole)) if whole > 0 else np.float32(0.0)
    counts_I = room.counts_I
    for place in range(past - first):
        counts_I[place] = np.float32(count_I[items_E[first + place]]) + np.float32(0.5)
    row_E = values_E[first:past]
    for place in range(row_E.shape[0]):
        row_E[place] = row_E[place] * scale / counts_I[place]
    logarithms(values_E, first, past, room.ones_I)


@compiled
def most_added(together: Together, user: int, whole: float, found: int) -> None:
    """Write to `values_I` what no more is added of each item of `items_I`, after `add_up_and_list`, weight above 0."""
    room, weight = together.room, np.float32(together.weights_U[user] * LN2)
    scale = np.float32(together.total / (together.reading.prior * whole)) if whole > 0 else np.float32(0.0)
    ones_I, values_I, items_I = room.ones_I, room.values_I, room.items_I
    bits_I = ones_I.view(np.int32)
    for place in range(found):
        item = np.uint32(items_I[place])
        ones_I[place] = np.float32(1.0) + room.sums_I[item] * scale / (np.float32(together.count_I[item]) + HALF)
    for place in range(found):
        values_I[place] = weight * (np.float32(bits_I[place]) * ONE_POWER - LEAST_POWER)


@compiled
def clear_sums(pairs: Pairs, reading: Reading, items_W: Rows, sums_I: Floats) -> None:
    """What `add_up` left is 0 again."""
    for age in range(reading.most):
        item = items_W[age]
        if item < 0:
            break
        neighbours_N = pairs.neighbours_IN[item, : pairs.length_I[item]]
        for place in range(neighbours_N.shape[0]):
            sums_I[np.uint32(neighbours_N[place])] = np.float32(0.0)


@compiled
def list_features(together: Together, user: int, whole: float, read: int) -> int:
    """Write the user's features to `items_I` and `values_I` of the room, after `add_up`; how many they are."""
    room, reading = together.room, together.reading
    items, items_W = together.count_I.shape[0], together.windows_UW[user]
    found = list_items(together.pairs, reading, items_W, read, items, room.sums_I, room.items_I, room.values_I, 0)
    features_of(0, found, whole, together.total, reading.prior, together.count_I, room, room.items_I, room.values_I)
    return found


@compiled
def score_then_count(
    windows_BW: Rows,
    full_items_BW: Rows,
    items_B: Ints,
    enters_B: Flags,
    wanted: Wanted,
    first: int,
    pairs: Pairs,
    reading: Reading,
    pair_weights_W: Floats,
    count_I: Ints,
    total: int,
    chosen: int,
    counts: bool,
    room: Room,
    starts_B: Ints,
    items_E: Rows,
    values_E: Floats,
) -> int:
    """For each event from `first` on the features by its window, then count the event's own pairs (where `counts`).

    Feature of item j = log(1 + share of j among the sums / (prior * popularity of j)), where popularity is
    (count + 1/2) / the sum of that over all items chosen so far; entries of event b lie from
    `starts_B[b]` to `starts_B[b + 1]`, no more than there are items. `total` and `chosen` are the sum of `count_I` and
    how many of them are above 0, before the first event; `count_I` follows the events. Returns the first event that did
    not fit into `items_E` behind `starts_B[first]`; call again for the rest.
    """
    entry, items, sums_I, sample_I = starts_B[first], count_I.shape[0], room.sums_I, room.sample_I
    size = wanted.drawn_N.shape[0] // max(wanted.samples, 1)
    for place in range(wanted.samples * size):
        sample_I[wanted.drawn_N[place]] = place // size
    event = first
    while event < windows_BW.shape[0]:
        starts_B[event] = entry
        if items_E.shape[0] - entry <= items:
            break
        if event + 1 < windows_BW.shape[0]:
            fetch_lists(pairs, reading, windows_BW[event + 1])
        items_W, begun = windows_BW[event], entry
        if wanted.samples == 0 or wanted.is_whole_B[event]:
            whole, read = add_up(pairs, reading, items_W, count_I, sums_I)
            entry = list_items(pairs, reading, items_W, read, items, sums_I, items_E, values_E, entry)
        else:
            sample, item = event % wanted.samples, items_B[event]
            of_own, sample_I[item] = sample_I[item], sample
            whole = add_up_sample(pairs, reading, items_W, count_I, sums_I, sample_I, sample)
            sample_I[item] = of_own
            items_E[entry], values_E[entry] = item, sums_I[item]
            sums_I[item] = np.float32(0.0)
            entry += 1 if values_E[entry] > 0 else 0
            for place in range(sample * size, (sample + 1) * size):
                item = wanted.drawn_N[place]
                items_E[entry], values_E[entry] = item, sums_I[item]
                sums_I[item] = np.float32(0.0)
                entry += 1 if values_E[entry] > 0 else 0
        features_of(begun, entry, whole, total + 0.5 * chosen, reading.prior, count_I, room, items_E, values_E)
        if counts and enters_B[event]:
            item = items_B[event]
            for age in range(full_items_BW.shape[1]):
                earlier = full_items_BW[event, age]
                if earlier < 0:
                    break
                if earlier != item:
                    count_pair(pairs, earlier, item, pair_weights_W[age])
                    count_pair(pairs, item, earlier, pair_weights_W[age])
            chosen += count_I[item] == 0
            count_I[item] += 1
            total += 1
        event += 1
    for place in range(wanted.samples * size):
        sample_I[wanted.drawn_N[place]] = -1
    starts_B[event] = entry
    return event
