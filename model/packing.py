"""Many ids as two arrays, the form in which they are saved: their UTF-8 end to end, and the bytes that each takes."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Packed(NamedTuple):
    """`bytes` uint8 and `lengths` int64: id number n is the next `lengths[n]` bytes."""

    bytes: NDArray[np.uint8]
    lengths: NDArray[np.int64]


def pack(ids: Iterable[str]) -> Packed:
    """The ids in their order; two empty arrays for none."""
    encoded = [name.encode() for name in ids]
    return Packed(
        np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8),
        np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)),
    )


def unpack(what: str, packed: NDArray[Any], lengths: NDArray[Any]) -> list[str]:
    """The ids that `pack` was given. ValueError, which names `what` they are, where the arrays do not fit together."""
    ends = check_lengths(what, packed, lengths)
    text = packed.astype(np.uint8, copy=False).tobytes()
    return [text[start:end].decode() for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]


def check_lengths(what: str, packed: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where each id ends. ValueError, which names `what` they are, where the arrays do not fit together."""
    if lengths.size and int(lengths.min()) < 0:
        raise ValueError(f"{what}: a length of {int(lengths.min())} bytes")
    ends: NDArray[np.int64] = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if ends.size else 0
    if total != packed.size:
        raise ValueError(f"{what}: lengths add up to {total} bytes, but there are {packed.size}")
    return ends
