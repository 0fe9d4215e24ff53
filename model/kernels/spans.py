"""Spans of one pool for lists, or ids, of different lengths: taken, given back, and taken again by others.

A span has one of a few sizes, counted in words of 8 bytes. One that is given back is chained to the others of its size,
the chain's link in its own first word, and the next one of that size takes it (segregated free lists: Knuth, The Art
of Computer Programming, volume 1, 2.5). So nothing is ever moved together to close holes, and no call has to wait for
that.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Words = NDArray[np.int64]
Ints = NDArray[np.int64]
Items = NDArray[np.int32]


@compiled
def take_span(size: int, words_S: Ints, free_S: Ints, used_1: Ints, pool: Words) -> int:
    """The first word of a span of the size number `size`, which is zeros; there must be room behind `used_1`.

    `words_S`: words of each size; `free_S`: first word of a free one + 1, 0 where there is none.
    """
    first = free_S[size] - 1
    if first >= 0:
        free_S[size] = -pool[first]
        pool[first] = 0
    else:
        first = used_1[0]
        used_1[0] += words_S[size]
    return int(first)


@compiled
def give_span(first: int, size: int, words_S: Ints, free_S: Ints, pool: Words) -> None:
    """Give a span back; nothing of what it held is left."""
    pool[first : first + words_S[size]] = 0
    pool[first] = -free_S[size]  # below 0, where no item's row is
    free_S[size] = first + 1


@compiled
def reserve_lists(
    users_B: Ints,
    mentions_U: Items,
    words_S: Ints,
    free_S: Ints,
    used_1: Ints,
    words: Words,
    pool: Items,
    start_U: Ints,
    length_U: Ints,
    size_U: NDArray[np.int8],
) -> int:
    """Make room in each user's list for as many more items as the user is mentioned; lists that are too short move.

    `pool` is `words` as items, two to a word; `size_U`: number of each list's size, -1 where it has no span yet.
    `mentions_U` is zeros, before and after. Nothing is done, and the words that it takes at most are returned, where
    they are not there behind `used_1`; otherwise 0.
    """
    for place in range(users_B.shape[0]):
        mentions_U[users_B[place]] += 1
    missing = 0
    for place in range(users_B.shape[0]):
        user = users_B[place]
        needed = length_U[user] + mentions_U[user]
        if mentions_U[user] > 0 and (size_U[user] < 0 or needed > 2 * words_S[size_U[user]]):
            missing += words_S[_size_for(needed, words_S)]
            mentions_U[user] = -mentions_U[user]  # counted, once
    if used_1[0] + missing > words.shape[0]:
        for place in range(users_B.shape[0]):
            mentions_U[users_B[place]] = 0
        return int(missing)
    for place in range(users_B.shape[0]):
        user = users_B[place]
        if mentions_U[user] < 0:
            size = _size_for(length_U[user] - mentions_U[user], words_S)
            first = take_span(size, words_S, free_S, used_1, words)
            start = 2 * first
            for item in range(length_U[user]):
                pool[start + item] = pool[start_U[user] + item]
            if size_U[user] >= 0:
                give_span(start_U[user] // 2, size_U[user], words_S, free_S, words)
            start_U[user] = start
            size_U[user] = size
        mentions_U[user] = 0
    return 0


@compiled
def give_lists(
    users_U: Ints,
    words_S: Ints,
    free_S: Ints,
    words: Words,
    start_U: Ints,
    length_U: Ints,
    size_U: NDArray[np.int8],
) -> None:
    """Give back the spans of these users' lists, which are empty then."""
    for place in range(users_U.shape[0]):
        user = users_U[place]
        if size_U[user] >= 0:
            give_span(start_U[user] // 2, size_U[user], words_S, free_S, words)
        start_U[user] = 0
        length_U[user] = 0
        size_U[user] = -1


@compiled
def lay_out_lists(
    packed: Items, length_U: Ints, words_S: Ints, used_1: Ints, pool: Items, start_U: Ints, size_U: NDArray[np.int8]
) -> None:
    """Put lists that lie end to end into an empty pool."""
    source = 0
    for user in range(length_U.shape[0]):
        if length_U[user] == 0:
            continue
        size = _size_for(length_U[user], words_S)
        start_U[user] = 2 * used_1[0]
        size_U[user] = size
        used_1[0] += words_S[size]
        for item in range(length_U[user]):
            pool[start_U[user] + item] = packed[source + item]
        source += length_U[user]


@compiled
def words_for(length_U: Ints, words_S: Ints) -> int:
    """The words that lists of these lengths take, those without an item none."""
    words = 0
    for user in range(length_U.shape[0]):
        if length_U[user] > 0:
            words += words_S[_size_for(length_U[user], words_S)]
    return words


@compiled
def _size_for(items: int, words_S: Ints) -> int:
    """The least size with room for so many items."""
    size = 0
    while 2 * words_S[size] < items:
        size += 1
    return size
