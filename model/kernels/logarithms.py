"""log(1 + x) of whole rows, in the machine's vectors: the library's own goes number by number."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Floats = NDArray[np.float32]

_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Cephes' logf: log(1 + f) - f + f^2 / 2 over f^3, f from sqrt(1/2) - 1 to sqrt(2) - 1.
_C0, _C1, _C2 = np.float32(7.0376836292e-2), np.float32(-1.1514610310e-1), np.float32(1.1676998740e-1)
_C3, _C4, _C5 = np.float32(-1.2420140846e-1), np.float32(1.4249322787e-1), np.float32(-1.6668057665e-1)
_C6, _C7, _C8 = np.float32(2.0000714765e-1), np.float32(-2.4999993993e-1), np.float32(3.3333331174e-1)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)


@compiled
def logarithms(row_N: Floats, first: int, past: int, room_N: Floats) -> None:
    """Turn the numbers x >= 0 from `first` to `past` of a row into log(1 + x), in single precision.

    `room_N` is room to work in, for as many.
    """
    row_X = row_N[first:past]
    bits_N = room_N.view(np.int32)
    for place in range(row_X.shape[0]):
        room_N[place] = _ONE + row_X[place]
    for place in range(row_X.shape[0]):
        bits = bits_N[place]
        # the mantissa from sqrt(1/2) to sqrt(2), and the power of two that goes with it
        shifted = np.int32(bits - 0x3F3504F3)
        bits_N[place] = np.int32((shifted & 0x007FFFFF) + 0x3F3504F3)
        row_X[place] = np.float32(np.int32(shifted >> 23))
    for place in range(row_X.shape[0]):
        power = row_X[place]
        f = room_N[place] - _ONE
        square = f * f
        rest = ((((((((_C0 * f + _C1) * f + _C2) * f + _C3) * f + _C4) * f + _C5) * f + _C6) * f + _C7) * f + _C8) * f
        row_X[place] = power * _LN2_HIGH + (f + (square * (rest - _HALF) + power * _LN2_LOW))
