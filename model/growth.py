"""Arrays that grow with the vocabulary, and what their new rows start with."""

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 1024

Scalar = TypeVar("Scalar", bound=np.generic)


def room_for(rows: int, capacity: int) -> int:
    """The capacity to take when `rows` must fit: unchanged while they do, otherwise half as much again."""
    return capacity if rows <= capacity else max(rows, capacity + capacity // 2, 64)


def grown(array: NDArray[Scalar], rows: int, fill: float = 0) -> NDArray[Scalar]:
    """The array with room for at least `rows` rows, the new ones filled; the same object while they fit."""
    capacity = room_for(rows, len(array))
    if capacity == len(array):
        return array
    larger = np.full((capacity, *array.shape[1:]), fill, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def normal_rows(name: str, seed: int, first: int, past: int, width: int, spread: float) -> NDArray[np.float32]:
    """First values of rows first .. past - 1 of a table: normal around 0, a function of (seed, name, row) alone."""
    if spread == 0 or past <= first:
        return np.zeros((max(past - first, 0), width), dtype=np.float32)
    blocks = range(first // BLOCK_ROWS, (past - 1) // BLOCK_ROWS + 1)
    drawn = np.concatenate([_normal_block(name, seed, block, width) for block in blocks])
    offset = blocks[0] * BLOCK_ROWS
    return drawn[first - offset : past - offset] * np.float32(spread)


@lru_cache(maxsize=4)  # a stream asks for the last block of each table again and again
def _normal_block(name: str, seed: int, block: int, width: int) -> NDArray[np.float32]:
    sequence = np.random.SeedSequence([seed, *name.encode(), block])
    drawn = np.random.Generator(np.random.Philox(sequence)).standard_normal((BLOCK_ROWS, width), dtype=np.float32)
    drawn.flags.writeable = False  # it is shared
    return drawn
