"""The best k items of each user on the CPU: one scan that writes no score matrix and skips what cannot get in.

    score of item i = user . vector_i + (bias_i + popularity * log_count_i) + extra_i
    score of item i <= bias_i + popularity * log_count_i + |user| |vector_i|      (no extra; Cauchy-Schwarz)

Items lie in order of falling count, in blocks of BLOCK and groups of GROUP blocks that know the largest value of each
part of the bound. A group, a block, an item whose bound is below the user's k-th best score so far is passed over:
norm-ordered pruning as in LEMP (Teflioudi et al. 2015) and FEXIPRO (Li et al. 2017), with popularity as the order,
because it is what tells the items of a skewed catalogue apart. Extras are few; the items that have one are scored
first, which raises the bar early. `model.topk` has the same lists in plain torch.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely_with_arrays, inlined_loosely
from model.kernels.cooccurrence import (
    NOT_TOGETHER,
    Together,
    add_up,
    add_up_and_list,
    clear_sums,
    features_of,
    fetch_lists,
    list_features,
    most_added,
)
from model.kernels.item_order import BLOCK, GROUP, Bounds, ItemOrder, norm
from model.kernels.shares import take_share
from model.kernels.vectors import fetch

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Vectors = NDArray[np.floating]
Number = float | np.floating
Whole = int | np.integer

FIRST_SLACK = 0.25
"""Of a first pass that finds good items soon, so that the second one skips the more."""
DENSE = 12
"""A product of all items costs as much as scoring one in so many one by one."""
FEW = 1 << 16
"""Scores of a call up to which no product is taken: to set one up costs more than to take each score by itself."""
DENSE_USER = -1
SHARE = 32
"""Users whom a thread takes at a time."""
AHEAD = 4
"""Items whose vectors are on their way while one is scored."""
LITTLE = 0.5
"""Where co-occurrence adds no more than this to any score, only those of items that might get in are worked out."""
ROUNDING = 2.0**-22
"""Of a score, for each column: more than float32 rounds."""
MOST_ROW = 2**31 - 1
LOW_WORD = 2**32 - 1


class Askers(NamedTuple):
    """The users of a call."""

    users_UD: Vectors
    popularity_U: Floats
    starts_U: Ints
    """Extras of user u are those from `starts_U[u]` to `starts_U[u + 1]`; an item's add up."""
    items_E: Rows
    values_E: Floats
    weights_U: Floats
    """An extra is its value times its user's weight."""
    hides_seen: bool
    seen_pool: Rows
    seen_start_U: Ints
    seen_length_U: Ints
    together: Together = NOT_TOGETHER
    """What is added besides; nothing where those with an extra are the only candidates."""


class Scratch(NamedTuple):
    """Room to work in; the marks stay between calls, and rise."""

    mark_I: Ints
    extra_I: Floats
    with_extra_I: Rows
    heap_K: Ints


# --- the heap of the best k ---


@compiled
def _sink(heap_K: Ints, size: int, key: Whole) -> None:
    """Put a key in the place of the smallest."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap_K[child + 1] < heap_K[child]:
            child += 1
        if heap_K[child] >= key:
            break
        heap_K[place] = heap_K[child]
        place = child
    heap_K[place] = key


@compiled
def _rise(heap_K: Ints, size: int, key: Whole) -> None:
    """Put a key behind the last."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap_K[parent] <= key:
            break
        heap_K[place] = heap_K[parent]
        place = parent
    heap_K[place] = key


# --- a user's seen items, and what goes with the history ---


@compiled
def mark_user(askers: Askers, user: int, scratch: Scratch, has_extra: int, is_seen: int) -> int:
    """Mark the user's seen items, and gather those with an extra; the number of the latter, seen ones left out."""
    mark_I, extra_I = scratch.mark_I, scratch.extra_I
    if askers.hides_seen:
        for place in range(askers.seen_start_U[user], askers.seen_start_U[user] + askers.seen_length_U[user]):
            mark_I[askers.seen_pool[place]] = is_seen
    extras, weight = 0, askers.weights_U[user]
    for entry in range(askers.starts_U[user], askers.starts_U[user + 1]):
        row = askers.items_E[entry]
        if mark_I[row] < has_extra:
            mark_I[row] = has_extra
            extra_I[row] = 0.0
            scratch.with_extra_I[extras] = row
            extras += 1
        extra_I[row] += weight * askers.values_E[entry]
    return extras


@compiled
def mark_together(
    askers: Askers, user: int, whole: float, read: int, scratch: Scratch, extras: int, has_extra: int
) -> int:
    """Gather what co-occurrence adds beside the other extras, after `add_up`; the number of all of them."""
    mark_I, extra_I, together = scratch.mark_I, scratch.extra_I, askers.together
    weight, room = together.weights_U[user], together.room
    for entry in range(list_features(together, user, whole, read)):
        row = room.items_I[entry]
        if mark_I[row] < has_extra:
            mark_I[row] = has_extra
            extra_I[row] = 0.0
            scratch.with_extra_I[extras] = row
            extras += 1
        extra_I[row] += weight * room.values_I[entry]
    return extras


@compiled
def list_together(
    askers: Askers,
    user: int,
    whole: float,
    found: int,
    order: ItemOrder,
    popularity: Number,
    reach: Number,
    floor: Number,
    scratch: Scratch,
    bound_E: Floats,
    norm_E: Floats,
    extras: int,
    is_scored: int,
) -> int:
    """List what may get in by what co-occurrence adds, with bounds, behind the other extras; the number of them all.

    After `add_up_and_list`, for a weight above 0. They get the mark `is_scored`; what has it, or a higher one, is left
    out.
    """
    mark_I, room, with_extra_I = scratch.mark_I, askers.together.room, scratch.with_extra_I
    most_added(askers.together, user, whole, found)
    bound_I, norm_I = room.values_I, room.counts_I
    for place in range(found):
        row = np.uint32(room.items_I[place])
        bound_I[place] += order.bias_I[row] + popularity * order.log_count_I[row]
        norm_I[place] = order.norm_I[row]
    for place in range(found):
        if not bound_I[place] + reach * norm_I[place] < floor:
            row = np.uint32(room.items_I[place])
            if mark_I[row] < is_scored:
                mark_I[row] = is_scored
                with_extra_I[extras] = room.items_I[place]
                bound_E[extras], norm_E[extras] = bound_I[place], norm_I[place]
                extras += 1
    return extras


# --- bounds, and the items that they leave ---


@inlined_loosely
def _bound(bounds: Bounds, at: int, above_usual: Number, reach: Number) -> Number:
    """No item of this block, or group, scores more."""
    log_count = bounds.high_Q[at] if above_usual > 0 else bounds.low_Q[at]
    bound: Number = bounds.start_Q[at] + above_usual * log_count + reach * bounds.norm_Q[at]
    return bound


@inlined_loosely
def _item_bounds(order: ItemOrder, first: int, size: int, popularity: Number, reach: Number, bound_N: Floats) -> int:
    """What each item of the block that begins at `first` scores at most; how many it has."""
    past = min(first + BLOCK, size)
    bias_N, log_count_N, norm_N = order.bias_P[first:past], order.log_count_P[first:past], order.norm_P[first:past]
    for place in range(past - first):
        bound_N[place] = bias_N[place] + popularity * log_count_N[place] + reach * norm_N[place]
    return past - first


@inlined_loosely
def _survivors(
    order: ItemOrder,
    size: int,
    blocks: Bounds,
    groups: Bounds,
    popularity: Number,
    reach: Number,
    floor: Number,
    most: int,
) -> Whole:
    """How many items have a bound that is not below `floor`; counting ends above `most`."""
    survivors, block = np.int64(0), 0
    while block * BLOCK < size and survivors <= most:
        if block % GROUP == 0 and _bound(groups, block // GROUP, popularity - np.float32(1.0), reach) < floor:
            block += GROUP
            continue
        if not _bound(blocks, block, popularity - np.float32(1.0), reach) < floor:
            first = block * BLOCK
            past = min(first + BLOCK, size)
            bias_N, log_count_N = order.bias_P[first:past], order.log_count_P[first:past]
            norm_N = order.norm_P[first:past]
            here = np.int32(0)
            for place in range(past - first):
                is_below = bias_N[place] + popularity * log_count_N[place] + reach * norm_N[place] < floor
                here += np.int32(0) if is_below else np.int32(1)
            survivors += here
        block += 1
    return survivors


@inlined_loosely
def _dense_scores(
    product_I: Vectors,
    bias_I: Floats,
    log_count_I: Floats,
    first: int,
    here: int,
    popularity: Number,
    floor: Number,
    score_N: Floats,
) -> Whole:
    """Scores of the items of a block from their products; how many are not below `floor`."""
    product_N, bias_N = product_I[first : first + here], bias_I[first : first + here]
    log_count_N = log_count_I[first : first + here]
    passing = np.int32(0)
    for place in range(here):
        score = product_N[place] + (bias_N[place] + popularity * log_count_N[place])
        score_N[place] = score
        passing += np.int32(0) if score < floor else np.int32(1)
    return passing


@inlined_loosely
def _score_all(
    user_D: Vectors,
    popularity: Number,
    vectors_ID: Vectors,
    order: ItemOrder,
    scratch: Scratch,
    has_extra: int,
    row_N: Rows,
    waiting: int,
    weight: Number,
    own_N: Floats,
    score_N: Floats,
) -> None:
    """Scores of the waiting rows; `weight` times `own_N` is what co-occurrence adds."""
    mark_I, extra_I = scratch.mark_I, scratch.extra_I
    for place in range(waiting):
        row = row_N[place]
        if place + AHEAD < waiting:
            fetch(vectors_ID, row_N[place + AHEAD])
        product = np.float32(0.0)
        for column in range(user_D.shape[0]):
            product += user_D[column] * vectors_ID[row, column]
        own = extra_I[row] if mark_I[row] == has_extra else np.float32(0.0)
        own += weight * own_N[place]
        score_N[place] = product + (order.bias_I[row] + popularity * order.log_count_I[row]) + own


@inlined_loosely
def _add_together(together: Together, whole: float, row_N: Rows, rows: int, own_N: Floats) -> None:
    """What co-occurrence adds to the first rows, after `add_up`, but for the user's weight."""
    for place in range(rows):
        own_N[place] = together.room.sums_I[row_N[place]]
    features_of(0, rows, whole, together.total, together.reading.prior, together.count_I, together.room, row_N, own_N)


# --- the list of one user ---


@inlined_loosely
def _keep_best(
    row_N: Rows,
    rows: int,
    score_N: Floats,
    bits_N: Rows,
    heap_K: Ints,
    found: int,
    bar: np.float32,
    one_1: Floats,
    one_bits_1: Rows,
) -> tuple[int, np.float32]:
    """Put the first rows into the heap, those of the best scores; how many it has then, and the k-th best score."""
    k = heap_K.shape[0]
    for place in range(rows):
        score = score_N[place]
        if not (score > -np.inf and score >= bar):
            continue
        bits = np.int64(bits_N[place])
        if score == 0:
            bits = np.int64(0)  # there are two zeros
        elif bits < 0:
            bits ^= MOST_ROW
        key = (bits << 32) + (MOST_ROW - row_N[place])
        if found < k:
            _rise(heap_K, found, key)
            found += 1
        elif key > heap_K[0]:
            _sink(heap_K, found, key)
        if found == k:
            bits = heap_K[0] >> 32
            one_bits_1[0] = bits if bits >= 0 else bits ^ MOST_ROW
            bar = one_1[0]
    return found, bar


@inlined_loosely
def _slack_needed(
    popularity: Number,
    length: Number,
    order: ItemOrder,
    scratch: Scratch,
    has_extra: int,
    row_K: Rows,
    found: int,
    weight: Number,
    own_N: Floats,
    bar: Number,
    needed_K: Floats,
) -> None:
    """The slack that would have kept each of the listed items."""
    for place in range(found):
        row = row_K[place]
        own = scratch.extra_I[row] if scratch.mark_I[row] == has_extra else np.float32(0.0)
        own += weight * own_N[place]
        missing = bar - (order.bias_I[row] + popularity * order.log_count_I[row] + own)
        most_product = length * order.norm_I[row]
        needed_K[place] = missing / most_product if missing > 0 and most_product > 0 else 0.0


@inlined_loosely
def _empty_heap(heap_K: Ints, found: int, user: int, rows_UK: Rows, bits_UK: Rows) -> None:
    """Write down the items of the heap, best first."""
    for rest in range(found - 1, -1, -1):
        key = heap_K[0]
        bits = key >> 32
        bits_UK[user, rest] = bits if bits >= 0 else bits ^ MOST_ROW
        rows_UK[user, rest] = MOST_ROW - (key & LOW_WORD)
        if rest > 0:
            _sink(heap_K, rest, heap_K[rest])


# --- the lists of many users ---


@compiled_loosely_with_arrays
def scan(
    askers: Askers,
    vectors_ID: Vectors,
    order: ItemOrder,
    size: int,
    blocks: Bounds,
    groups: Bounds,
    scratch: Scratch,
    mark: int,
    slack: float,
    looks_further: bool,
    rows_UK: Rows,
    scores_UK: Floats,
    lengths_U: Rows,
    bars_U: Floats,
    needed_UK: Floats,
    taken_1: Ints,
) -> None:
    """Fill `rows_UK`, `scores_UK` and `lengths_U` with each user's best items, by score, ties to the lower row.

    NaN and -inf are no candidates. With `slack` 1 the lists are exact; below it |user| |vector_i| counts `slack` of
    what it is. Without `looks_further` the items with an extra are the only candidates. A user of whom bounds would
    leave more than one item in DENSE gets the length DENSE_USER instead of a list: a matrix product is cheaper
    there (`sift`), but not where items times users are at most FEW. Items that score less than
    `bars_U` are left out; it becomes the k-th best score, or a lower bound of it for these users, and stays where there
    are fewer candidates. `needed_UK` (no rows: not asked for) is the slack that would have kept each listed item.

    Where co-occurrence may add much to a score, the items to which it adds something are looked at behind the first
    block. Where it adds LITTLE, bounds leave room for that. Either way it is worked out for what bounds leave.

    Marks from `mark` to `mark + 3 * users` are used. A score does not depend on the path by which its item was met:
    all are taken at one place.

    `taken_1`, 0 at first, says how many users have been taken: threads may scan at the same time, all with the same
    arguments but each with a scratch and a room of its own. A list does not depend on who made it.
    """
    width, k = askers.users_UD.shape[1], rows_UK.shape[1]
    all_blocks, all_groups = (size + BLOCK - 1) // BLOCK, (size + BLOCK * GROUP - 1) // (BLOCK * GROUP)
    longest, highest = np.float32(0.0), np.float32(1.0)
    for group in range(all_groups):
        longest = max(longest, groups.norm_Q[group])
        highest = max(highest, groups.high_Q[group])
    if not looks_further:
        all_blocks = 0
    rounding = np.float32((width + 32) * ROUNDING)
    bound_N = np.empty(BLOCK, dtype=np.float32)
    row_N = np.empty(2 * BLOCK, dtype=np.int32)
    score_N = np.empty(2 * BLOCK, dtype=np.float32)
    bits_N = score_N.view(np.int32)
    heap_K, mark_I, extra_I, with_extra_I = scratch.heap_K, scratch.mark_I, scratch.extra_I, scratch.with_extra_I
    bits_UK = scores_UK.view(np.int32)
    one_1 = np.empty(1, dtype=np.float32)
    one_bits_1 = one_1.view(np.int32)
    together, reading, sums_I = askers.together, askers.together.reading, askers.together.room.sums_I
    has_together = together.windows_UW.shape[0] > 0
    own_N = np.zeros(max(2 * BLOCK, k), dtype=np.float32)
    bound_E = np.empty(with_extra_I.shape[0], dtype=np.float32)
    norm_E = np.empty(with_extra_I.shape[0], dtype=np.float32)
    most_feature = np.float32(math.log(1.0 + together.total / (reading.prior * 0.5)))

    users = askers.users_UD.shape[0]
    while True:
        first_user = take_share(taken_1, SHARE)
        if first_user >= users:
            return
        past = min(first_user + SHARE, users)
        for user in range(first_user, past):
            user_D = askers.users_UD[user]
            popularity = askers.popularity_U[user]
            above_usual = popularity - np.float32(1.0)
            length = np.float32(norm(user_D))
            full_reach = np.float32(slack) * length
            reach = min(full_reach, np.float32(FIRST_SLACK) * length)
            uncertain = rounding * (length * longest + abs(popularity) * highest)
            is_scored, has_extra, is_seen = mark + 3 * user + 1, mark + 3 * user + 2, mark + 3 * user + 3
            extras = mark_user(askers, user, scratch, has_extra, is_seen)
            weight, whole, listed, little, much = np.float32(0.0), 0.0, 0, np.float32(0.0), np.float32(0.0)
            if has_together:
                if user + 1 < past:
                    fetch_lists(together.pairs, reading, together.windows_UW[user + 1])
                weight, items_W = together.weights_U[user], together.windows_UW[user]
                little = max(weight * most_feature, np.float32(0.0))
                if little > LITTLE:
                    little, much = np.float32(0.0), little
                    whole, listed = add_up_and_list(
                        together.pairs, reading, items_W, together.count_I, sums_I, together.room.items_I
                    )
                else:
                    whole, _ = add_up(together.pairs, reading, items_W, together.count_I, sums_I)
            for place in range(extras):
                row = with_extra_I[place]
                bound_E[place] = order.bias_I[row] + popularity * order.log_count_I[row] + extra_I[row] + much
                norm_E[place] = order.norm_I[row]

            found = 0
            # the k-th best score; below what no bound may be, and no bound without what co-occurrence adds
            bar, floor, open_floor = np.float32(-np.inf), np.float32(-np.inf), np.float32(-np.inf)
            extra, left_over, block, is_first, is_dense = 0, 0, 0, slack > FIRST_SLACK, False
            if bars_U[user] > -np.inf:
                bar = bars_U[user]
                floor = bar - (uncertain + rounding * abs(bar))
                open_floor = floor - little
            while True:
                # gather the next items that may get in: the first block, those with an extra, then block by block
                if listed > 0 and (block > 0 or all_blocks == 0):
                    extras = list_together(
                        askers,
                        user,
                        whole,
                        listed,
                        order,
                        popularity,
                        full_reach,
                        floor,
                        scratch,
                        bound_E,
                        norm_E,
                        extras,
                        is_scored,
                    )
                    listed = 0
                waiting = 0
                while extra < extras and waiting < BLOCK and (block > 0 or all_blocks == 0):
                    row, bound, norm_of_row = with_extra_I[extra], bound_E[extra], norm_E[extra]
                    extra += 1
                    if not bound + reach * norm_of_row < open_floor:
                        row_N[waiting] = row
                        waiting += 1
                    elif not bound + full_reach * norm_of_row < open_floor:
                        with_extra_I[left_over], bound_E[left_over], norm_E[left_over] = row, bound, norm_of_row
                        left_over += 1
                while waiting < BLOCK // 2 and block < all_blocks:
                    if block % GROUP == 0 and _bound(groups, block // GROUP, above_usual, reach) < open_floor:
                        block += GROUP
                        continue
                    if _bound(blocks, block, above_usual, reach) < open_floor:
                        block += 1
                        continue
                    first = block * BLOCK
                    here = _item_bounds(order, first, size, popularity, reach, bound_N)
                    block += 1
                    for place in range(here):
                        if not bound_N[place] < open_floor:
                            row = order.row_P[first + place]
                            if mark_I[row] < is_scored:
                                mark_I[row] = is_scored
                                row_N[waiting] = row
                                waiting += 1
                if waiting == 0 and (extra < extras or listed > 0):
                    continue  # all of the first block has an extra, or is seen
                if waiting == 0 and is_first:
                    reach, block, is_first = full_reach, 0, False
                    extra, extras, left_over = 0, left_over, 0
                    is_few = size * askers.users_UD.shape[0] <= FEW
                    most = size // DENSE if looks_further and not is_few else size
                    if k < most < size:
                        survivors = _survivors(order, size, blocks, groups, popularity, reach, open_floor, most)
                        is_dense = bool(survivors > most)
                    if not is_dense:
                        continue
                if waiting == 0:
                    break

                # score them, and keep the best
                if has_together:
                    _add_together(together, whole, row_N, waiting, own_N)
                _score_all(
                    user_D, popularity, vectors_ID, order, scratch, has_extra, row_N, waiting, weight, own_N, score_N
                )
                found, bar = _keep_best(row_N, waiting, score_N, bits_N, heap_K, found, bar, one_1, one_bits_1)
                if found == k:
                    floor = bar - (uncertain + rounding * abs(bar))
                    open_floor = floor - little

            bars_U[user] = bar
            if is_dense:
                lengths_U[user] = DENSE_USER
                if has_together:
                    clear_sums(together.pairs, reading, together.windows_UW[user], sums_I)
                continue
            lengths_U[user] = found
            _empty_heap(heap_K, found, user, rows_UK, bits_UK)
            if needed_UK.shape[0] > 0:
                if has_together:
                    _add_together(together, whole, rows_UK[user], found, own_N)
                _slack_needed(
                    popularity,
                    length,
                    order,
                    scratch,
                    has_extra,
                    rows_UK[user],
                    found,
                    weight,
                    own_N,
                    bar,
                    needed_UK[user],
                )
            if has_together:
                clear_sums(together.pairs, reading, together.windows_UW[user], sums_I)


@compiled_loosely_with_arrays
def sift(
    products_UI: Vectors,
    askers: Askers,
    order: ItemOrder,
    largest: float,
    scratch: Scratch,
    mark: int,
    k: int,
    bars_U: Floats,
    starts_U: Ints,
    rows_E: Rows,
    extras_E: Floats,
) -> int:
    """What may be among each user's k best by a matrix product, for `scan` to score: few more than k items a user.

    `products_UI` has user . item, rounded in whatever way; `largest` is at least every |vector|; `bars_U`
    holds lower bounds of the k-th best scores. Fills the last three arrays as `Askers` has them; how many users fitted
    is returned, and at least one does where there is room for all items.
    """
    items, width = products_UI.shape[1], askers.users_UD.shape[1]
    rounding = np.float32((width + 32) * ROUNDING)
    bias_I, log_count_I = order.bias_I, order.log_count_I
    highest = np.float32(1.0)
    for item in range(items):
        highest = max(highest, log_count_I[item])
    score_N = np.empty(BLOCK, dtype=np.float32)
    heap_K, mark_I, extra_I, with_extra_I = scratch.heap_K, scratch.mark_I, scratch.extra_I, scratch.with_extra_I
    one_1 = np.empty(1, dtype=np.float32)
    one_bits_1 = one_1.view(np.int32)
    entries = 0
    for user in range(products_UI.shape[0]):
        starts_U[user] = entries
        if rows_E.shape[0] - entries < items:
            return user
        popularity = askers.popularity_U[user]
        has_extra, is_seen = mark + 3 * user + 2, mark + 3 * user + 3
        extras = mark_user(askers, user, scratch, has_extra, is_seen)
        together = askers.together
        if together.windows_UW.shape[0] > 0:
            items_W, sums_I = together.windows_UW[user], together.room.sums_I
            whole, read = add_up(together.pairs, together.reading, items_W, together.count_I, sums_I)
            extras = mark_together(askers, user, whole, read, scratch, extras, has_extra)
        uncertain = 2 * rounding * (np.float32(norm(askers.users_UD[user]) * largest) + abs(popularity) * highest)
        bar = bars_U[user]
        floor = bar - (uncertain + 2 * rounding * abs(bar))
        product_I = products_UI[user]
        found = 0
        for at in range(-1, (items + BLOCK - 1) // BLOCK):
            # first the items with an extra, then all others
            first = max(at, 0) * BLOCK
            here = extras if at < 0 else min(BLOCK, items - first)
            passing = (
                here
                if at < 0
                else _dense_scores(product_I, bias_I, log_count_I, first, here, popularity, floor, score_N)
            )
            if passing == 0:
                continue
            for place in range(here):
                row = with_extra_I[place] if at < 0 else first + place
                if at < 0:
                    score = product_I[row] + (bias_I[row] + popularity * log_count_I[row]) + extra_I[row]
                else:
                    score = score_N[place]
                if score < floor or not score > -np.inf or mark_I[row] >= (is_seen if at < 0 else has_extra):
                    continue
                rows_E[entries] = row
                extras_E[entries] = extra_I[row] if at < 0 else np.float32(0.0)
                entries += 1
                one_1[0] = score
                bits = np.int64(one_bits_1[0])
                if bits < 0:
                    bits ^= MOST_ROW
                if found < k:
                    _rise(heap_K, found, bits)
                    found += 1
                elif bits > heap_K[0]:
                    _sink(heap_K, found, bits)
                else:
                    continue
                if found == k:
                    bits = heap_K[0]
                    one_bits_1[0] = bits if bits >= 0 else bits ^ MOST_ROW
                    if one_1[0] > bar:
                        bar = one_1[0]
                        floor = bar - (uncertain + 2 * rounding * abs(bar))
    starts_U[products_UI.shape[0]] = entries
    return int(products_UI.shape[0])
