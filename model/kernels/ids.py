"""The index of a vocabulary: ids are found by hash and bytes in an open-addressing table with linear probing.

A slot holds a row + 1, 0 where it is empty, `REMOVED` where a row was given back. A table that became too small is not
copied at once, which would stop everything for as long: a larger one takes its place, each call moves some rows over,
and until that is done what is not in the new table is looked for in the old one as well.
Ids come from outside, and whoever knew the hash could send a hundred thousand that share one place. So it has a key:
HalfSipHash-1-3 (Aumasson and Bernstein), of 32 bits. Beside it there is one without a key, the same on every machine:
FNV-1a (Fowler, Noll, Vo) with a last mixing step.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled
from model.kernels.spans import give_span, take_span

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Hashes = NDArray[np.uint32]

REMOVED = -1
NOT_FOUND = -1

ROWS, FREE, SLOTS = range(3)
"""What the counters of `intern` count: rows (given-back ones too), free rows, slots taken."""

WORD = 8
"""Bytes of a word: each id has words of its own in the blob (`model.kernels.spans`)."""
EXACT_SIZES = 32
"""Ids up to so many words take no word more than they need."""
WORDS_S = np.array([*range(1, EXACT_SIZES + 1), *(2 * EXACT_SIZES << bits for bits in range(24))], dtype=np.int64)
"""Words of each size of spans."""

_MASK = 0xFFFFFFFF


@compiled
def hash_span(buffer: Bytes, start: int, length: int) -> int:
    """A hash of 32 bits of these bytes."""
    hashed = 0x811C9DC5
    for place in range(start, start + length):
        hashed = ((hashed ^ int(buffer[place])) * 0x01000193) & _MASK
    hashed ^= hashed >> 16
    hashed = (hashed * 0x45D9F3B) & _MASK
    hashed ^= hashed >> 15
    return hashed


@compiled
def keyed_hash(key_2: Ints, buffer: Bytes, start: int, length: int) -> int:
    """HalfSipHash-1-3 of these bytes; the key is two numbers of 32 bits."""
    a, b = int(key_2[0]), int(key_2[1])
    c, d = 0x6C796765 ^ a, 0x74656462 ^ b
    place, past = start, start + length
    words = length // 4 + 1
    for word in range(words + 3):
        message = 0
        if word < words - 1:
            for byte in range(3, -1, -1):
                message = (message << 8) | int(buffer[place + byte])
            place += 4
        elif word == words - 1:
            message = length & 0xFF
            for byte in range(2, -1, -1):
                message <<= 8
                if place + byte < past:
                    message |= int(buffer[place + byte])
        elif word == words:
            c ^= 0xFF
        d ^= message
        a = (a + b) & _MASK
        b = (((b << 5) | (b >> 27)) & _MASK) ^ a
        a = ((a << 16) | (a >> 16)) & _MASK
        c = (c + d) & _MASK
        d = (((d << 8) | (d >> 24)) & _MASK) ^ c
        a = (a + d) & _MASK
        d = (((d << 7) | (d >> 25)) & _MASK) ^ a
        c = (c + b) & _MASK
        b = (((b << 13) | (b >> 19)) & _MASK) ^ c
        c = ((c << 16) | (c >> 16)) & _MASK
        a ^= message
    return b ^ d


@compiled
def find_span(
    hashed: int,
    buffer: Bytes,
    start: int,
    length: int,
    slots: Rows,
    hash_R: Hashes,
    blob: Bytes,
    start_R: Ints,
    length_R: Rows,
) -> int:
    """The row of these bytes in a table, NOT_FOUND where they have none."""
    mask = slots.shape[0] - 1
    place = hashed & mask
    while slots[place] != 0:
        row = int(slots[place]) - 1
        if row >= 0 and int(hash_R[row]) == hashed and length_R[row] == length:
            first = start_R[row]
            same = 0
            while same < length and blob[first + same] == buffer[start + same]:
                same += 1
            if same == length:
                return row
        place = (place + 1) & mask
    return NOT_FOUND


@compiled
def find_in_both(
    hashed: int,
    buffer: Bytes,
    start: int,
    length: int,
    slots: Rows,
    old_slots: Rows,
    hash_R: Hashes,
    blob: Bytes,
    start_R: Ints,
    length_R: Rows,
) -> int:
    """The same, looked for in the table in use and, until all rows have moved, in the one before (else of length 1)."""
    row = find_span(hashed, buffer, start, length, slots, hash_R, blob, start_R, length_R)
    if row < 0 and old_slots.shape[0] > 1:
        row = find_span(hashed, buffer, start, length, old_slots, hash_R, blob, start_R, length_R)
    return row


@compiled
def put_row(row: int, hashed: int, slots: Rows) -> None:
    """Put a row into a table that has an empty slot; a row that is there stays there once."""
    mask = slots.shape[0] - 1
    place = hashed & mask
    while slots[place] != 0:
        if slots[place] == row + 1:
            return
        place = (place + 1) & mask
    slots[place] = row + 1


@compiled
def move_rows(first: int, past: int, hash_R: Hashes, length_R: Rows, slots: Rows) -> None:
    """Put the rows first .. past - 1 that are in use into a table."""
    for row in range(first, past):
        if length_R[row] >= 0:
            put_row(row, int(hash_R[row]), slots)


@compiled
def remove_row(row: int, hashed: int, slots: Rows) -> None:
    """Take a row out of a table; nothing happens where it is not in it."""
    mask = slots.shape[0] - 1
    place = hashed & mask
    while slots[place] != 0:
        if slots[place] == row + 1:
            slots[place] = REMOVED
            return
        place = (place + 1) & mask


@compiled
def find(
    buffer: Bytes,
    start_B: Ints,
    length_B: Ints,
    key_2: Ints,
    slots: Rows,
    old_slots: Rows,
    hash_R: Hashes,
    blob: Bytes,
    start_R: Ints,
    length_R: Rows,
    rows_B: Ints,
) -> None:
    """Write the row of each id, NOT_FOUND where it has none."""
    for place in range(start_B.shape[0]):
        start, length = start_B[place], length_B[place]
        hashed = keyed_hash(key_2, buffer, start, length)
        row = find_in_both(hashed, buffer, start, length, slots, old_slots, hash_R, blob, start_R, length_R)
        rows_B[place] = row


@compiled
def intern(
    buffer: Bytes,
    start_B: Ints,
    length_B: Ints,
    key_2: Ints,
    slots: Rows,
    old_slots: Rows,
    hash_R: Hashes,
    blob: Bytes,
    start_R: Ints,
    length_R: Rows,
    free_F: Ints,
    counters: Ints,
    words_S: Ints,
    free_S: Ints,
    used_1: Ints,
    words: Ints,
    rows_B: Ints,
) -> None:
    """Write the row of each id; one that has none gets the free row given back last, or else the next one.

    `words` is the blob in words, for `take_span`. There must be room for all of them in `slots`, `blob` and the arrays
    of rows.
    """
    for place in range(start_B.shape[0]):
        start, length = start_B[place], length_B[place]
        hashed = keyed_hash(key_2, buffer, start, length)
        row = find_in_both(hashed, buffer, start, length, slots, old_slots, hash_R, blob, start_R, length_R)
        if row < 0:
            if counters[FREE] > 0:
                counters[FREE] -= 1
                row = free_F[counters[FREE]]
            else:
                row = counters[ROWS]
                counters[ROWS] += 1
            first = WORD * take_span(_size_of(length, words_S), words_S, free_S, used_1, words)
            for byte in range(length):
                blob[first + byte] = buffer[start + byte]
            start_R[row] = first
            length_R[row] = length
            hash_R[row] = hashed
            put_row(row, hashed, slots)
            counters[SLOTS] += 1
        rows_B[place] = row


@compiled
def hash_spans(buffer: Bytes, start_B: Ints, length_B: Rows, hash_B: Hashes) -> None:
    """The hash of each id that is the same on every machine."""
    for place in range(start_B.shape[0]):
        hash_B[place] = hash_span(buffer, start_B[place], length_B[place])


@compiled
def keyed_hashes(key_2: Ints, buffer: Bytes, start_B: Ints, length_B: Rows, hash_B: Hashes) -> None:
    """The hash of each id that it is found by; lengths below 0 are left out."""
    for place in range(start_B.shape[0]):
        if length_B[place] >= 0:
            hash_B[place] = keyed_hash(key_2, buffer, start_B[place], length_B[place])


@compiled
def remove_rows(
    rows_N: Ints,
    slots: Rows,
    old_slots: Rows,
    hash_R: Hashes,
    start_R: Ints,
    length_R: Rows,
    free_F: Ints,
    counters: Ints,
    words_S: Ints,
    free_S: Ints,
    words: Ints,
) -> None:
    """Give back rows that are in use; nothing of their ids is left. There must be room for them in `free_F`."""
    for place in range(rows_N.shape[0]):
        row = rows_N[place]
        hashed = int(hash_R[row])
        remove_row(row, hashed, slots)
        remove_row(row, hashed, old_slots)
        give_span(start_R[row] // WORD, _size_of(length_R[row], words_S), words_S, free_S, words)
        length_R[row] = -1
        hash_R[row] = 0
        free_F[counters[FREE]] = row
        counters[FREE] += 1


@compiled
def _size_of(length: int, words_S: Ints) -> int:
    """The least size of spans that has room for so many bytes."""
    size = max((length - 1) // WORD, 0)
    if size < EXACT_SIZES:
        return int(size)
    size = EXACT_SIZES
    while WORD * words_S[size] < length:
        size += 1
    return int(size)


@compiled
def place_spans(packed: Bytes, length_R: Rows, words_S: Ints, used_1: Ints, blob: Bytes, start_R: Ints) -> None:
    """Put ids that lie end to end into an empty blob; lengths below 0 are left out."""
    source = 0
    for row in range(length_R.shape[0]):
        if length_R[row] >= 0:
            first = WORD * used_1[0]
            used_1[0] += words_S[_size_of(length_R[row], words_S)]
            for byte in range(length_R[row]):
                blob[first + byte] = packed[source + byte]
            start_R[row] = first
            source += length_R[row]


@compiled
def words_for(length_B: Ints | Rows, words_S: Ints) -> int:
    """The words that ids of these lengths take; lengths below 0 are left out."""
    words = 0
    for place in range(length_B.shape[0]):
        if length_B[place] >= 0:
            words += words_S[_size_of(length_B[place], words_S)]
    return words
