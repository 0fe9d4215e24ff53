# mypy: disable-error-code="no-untyped-call, no-untyped-def, call-arg, misc"
# ruff: noqa: ARG001
# both: numba's extending has no types, and calls what is registered there with arguments of its own
"""Where a number stands in a row of whole numbers: 32 of them compared at once, in the machine's vectors.

A loop that ends where it finds something is none that LLVM vectorises. Interpreted, the same function works on slices.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import IS_COMPILED, compiled

Rows = NDArray[np.int32]
AT_ONCE = 32


def first_match(array_ND: Rows, row: int, column: int, value: int) -> int:
    """Which of the AT_ONCE numbers of a row from `column` on is the first that is `value`; AT_ONCE where none is.

    Nothing is checked: the row must have as many.
    """
    found = np.flatnonzero(array_ND[row, column : column + AT_ONCE] == value)
    return int(found[0]) if len(found) else AT_ONCE


if IS_COMPILED:
    from llvmlite import ir  # type: ignore[import-untyped]  # it has none
    from numba import types
    from numba.core import cgutils
    from numba.core.extending import intrinsic, overload

    @intrinsic
    def _first_match(typing, array, row, column, value):
        def make(context, builder, signature, args):
            view = context.make_array(array)(context, builder, args[0])
            at = cgutils.get_item_pointer(context, builder, array, view, [args[1], args[2]], wraparound=False)
            vector, whole = ir.VectorType(ir.IntType(32), AT_ONCE), ir.IntType(64)
            numbers = builder.load(builder.bitcast(at, vector.as_pointer()), align=4)
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), args[3], ir.Constant(ir.IntType(32), 0))
            wanted = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * AT_ONCE))
            same = builder.bitcast(builder.icmp_signed("==", numbers, wanted), ir.IntType(AT_ONCE))
            ended = builder.or_(builder.zext(same, whole), ir.Constant(whole, 1 << AT_ONCE))
            return builder.cttz(ended, ir.Constant(ir.IntType(1), 1))

        return types.int64(array, types.intp, types.intp, types.int32), make

    @overload(first_match)
    def _first_match_here(array_ND, row, column, value):
        return lambda array_ND, row, column, value: _first_match(array_ND, row, column, value)


@compiled
def place_of(array_ND: Rows, row: int, length: int, value: int) -> int:
    """The first of the row's first `length` numbers that is `value`; -1 where none is."""
    column = 0
    while column < length and column + AT_ONCE <= array_ND.shape[1]:
        place = first_match(array_ND, row, column, value)
        if place < AT_ONCE:
            return column + place if column + place < length else -1
        column += AT_ONCE
    for place in range(column, length):
        if array_ND[row, place] == value:
            return place
    return -1
