"""One pass over a batch in stream order: note what each event finds, then let it move the live state.

This is the rule the model stands on: staleness inside a micro-batch destroys quality, so everything that is
counted and all user state moves here, event by event, and only gradient steps wait for the end of the batch.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled
from model.kernels.vectors import fetch
from model.kernels.windows import ANY_TIME, length_bucket, read_window

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Flags = NDArray[np.bool_]
Small = NDArray[np.int8]

FAR, NEAR = 12, 6
"""So many events ahead it is asked where the user's rows are, and then for the rows: waiting for them costs most."""


@compiled
def live_pass(
    users_B: Ints,
    items_B: Ints,
    times_B: Ints,
    enters_B: Flags,
    kinds_B: Small,
    ranked_B: Flags,
    history_items_UH: Rows,
    history_times_UH: Ints,
    history_kinds_UH: Small,
    history_pushed_U: Ints,
    seen_pool: Rows,
    seen_start_U: Ints,
    seen_length_U: Ints,
    known_I: Flags,
    count_I: Ints,
    items_with_count: Ints,
    items_above_count: Ints,
    strictly_before: bool,
    allow_repeats: bool,
    items_BW: Rows,
    gaps_BW: Small,
    kinds_BW: Small,
    lengths_B: Small,
    full_items_BW: Rows,
    known_B: Flags,
    counts_B: Ints,
    seen_length_B: Ints,
    popularity_rank_B: Ints,
) -> None:
    """Fill the arrays from `items_BW` on with what each event finds; advance history, seen sets and counts.

    `enters_B` marks the events of positive weight and the ratings: only they enter history, seen set and
    popularity. Popularity ranks are found for `ranked_B` only, -1 elsewhere. `items_with_count[c]` is the number of
    known items with count c, `items_above_count[c]` of those with more: they make the popularity rank of an item a
    look-up instead of a scan. Room for the whole batch must have been reserved in `seen_pool` and in the two count
    arrays.
    """
    depth = history_items_UH.shape[1]
    pushed_U1, start_U1 = history_pushed_U.reshape(-1, 1), seen_start_U.reshape(-1, 1)
    length_U1, pool_S1 = seen_length_U.reshape(-1, 1), seen_pool.reshape(-1, 1)
    rings_items, rings_kinds = history_items_UH.reshape(-1, 1), history_kinds_UH.reshape(-1, 1)
    rings_times = history_times_UH.reshape(-1, 1)
    for event in range(min(FAR, users_B.shape[0])):
        _fetch_places(users_B[event], pushed_U1, start_U1, length_U1)
    for event in range(min(NEAR, users_B.shape[0])):
        user = users_B[event]
        newest = user * depth + max(history_pushed_U[user] - 1, 0) % depth
        _fetch_rows(newest, seen_start_U[user], rings_items, rings_times, rings_kinds, pool_S1)
    for event in range(users_B.shape[0]):
        user = users_B[event]
        item = items_B[event]
        if event + FAR < users_B.shape[0]:
            _fetch_places(users_B[event + FAR], pushed_U1, start_U1, length_U1)
        if event + NEAR < users_B.shape[0]:
            coming = users_B[event + NEAR]
            newest = coming * depth + max(history_pushed_U[coming] - 1, 0) % depth
            _fetch_rows(newest, seen_start_U[coming], rings_items, rings_times, rings_kinds, pool_S1)

        pushed = history_pushed_U[user]
        latest = times_B[event] - 1 if strictly_before else ANY_TIME
        ring_items, ring_times, ring_kinds = history_items_UH[user], history_times_UH[user], history_kinds_UH[user]
        if strictly_before:
            read_window(
                ring_items,
                ring_times,
                ring_kinds,
                pushed,
                ANY_TIME,
                full_items_BW[event],
                gaps_BW[event],
                kinds_BW[event],
            )
        left_out = read_window(
            ring_items, ring_times, ring_kinds, pushed, latest, items_BW[event], gaps_BW[event], kinds_BW[event]
        )
        lengths_B[event] = length_bucket(pushed - left_out)

        known_B[event] = known_I[item]
        start = seen_start_U[user]
        length = seen_length_U[user]
        seen_length_B[event] = length
        count = count_I[item]
        counts_B[event] = count
        has = False
        for position in range(start, start + length):
            if seen_pool[position] == item:
                has = True
                break
        popularity_rank_B[event] = -1
        if known_I[item] and ranked_B[event]:
            better = items_above_count[count]
            ties = items_with_count[count] - 1
            if not allow_repeats:
                for position in range(start, start + length):
                    other = seen_pool[position]
                    if count_I[other] > count:
                        better -= 1
                    elif count_I[other] == count and other != item:
                        ties -= 1
            popularity_rank_B[event] = better + ties // 2

        if not known_I[item]:
            known_I[item] = True
            items_with_count[count] += 1
        if not enters_B[event]:
            continue
        items_with_count[count] -= 1
        items_with_count[count + 1] += 1
        items_above_count[count] += 1
        count_I[item] = count + 1
        slot = pushed % depth
        history_items_UH[user, slot] = item
        history_times_UH[user, slot] = times_B[event]
        history_kinds_UH[user, slot] = kinds_B[event]
        history_pushed_U[user] = pushed + 1
        if not has:
            seen_pool[start + length] = item
            seen_length_U[user] = length + 1


@compiled
def kinds_of(ratings_B: NDArray[np.float64], lowest: float, highest: float, kinds_B: Small) -> None:
    """0 for an action (NaN), 1 to 5 for a rating by its fifth of the scale."""
    for event in range(ratings_B.shape[0]):
        rating = ratings_B[event]
        kinds_B[event] = 0
        if rating == rating:
            fifth = np.floor((rating - lowest) / (highest - lowest) * 5) + 1
            kinds_B[event] = np.int8(min(max(fifth, 0.0), 5.0))


@compiled
def _fetch_places(user: int, pushed_U1: Ints, start_U1: Ints, length_U1: Ints) -> None:
    fetch(pushed_U1, user)
    fetch(start_U1, user)
    fetch(length_U1, user)


@compiled
def _fetch_rows(
    newest: int, start: int, rings_items: Rows, rings_times: Ints, rings_kinds: Small, pool_S1: Rows
) -> None:
    """Where a ring's newest interaction and a seen list lie, and for the times, which are longest, what is before."""
    fetch(rings_items, newest)
    fetch(rings_kinds, newest)
    fetch(rings_times, newest)
    fetch(rings_times, max(newest - 8, 0))
    if start < pool_S1.shape[0]:
        fetch(pool_S1, start)
