# mypy: disable-error-code="no-untyped-call, no-untyped-def, call-arg, misc"
# ruff: noqa: ARG001
# both: numba's extending has no types, and calls what is registered there with arguments of its own
"""How threads that run one kernel share its work: each takes the next few places until none are left."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import IS_COMPILED

Ints = NDArray[np.int64]


def take_share(taken_1: Ints, places: int) -> int:
    """Take the next so many places; the first of them. No two threads get the same one.

    `taken_1` begins as 0. Interpreted, there may be one thread only.
    """
    first = int(taken_1[0])
    taken_1[0] += places
    return first


if IS_COMPILED:
    from numba import types
    from numba.core.extending import intrinsic, overload

    @intrinsic
    def _take_share(typing, taken, places):
        def make(context, builder, signature, args):
            view = context.make_array(taken)(context, builder, args[0])
            return builder.atomic_rmw("add", view.data, args[1], "monotonic")

        return types.int64(taken, types.int64), make

    @overload(take_share)
    def _compiled_take_share(taken_1, places):
        return lambda taken_1, places: _take_share(taken_1, np.int64(places))
