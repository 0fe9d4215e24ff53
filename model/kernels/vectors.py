# mypy: disable-error-code="no-untyped-call, no-untyped-def, call-arg, misc"
# ruff: noqa: ARG001
# both: numba's extending has no types, and calls what is registered there with arguments of its own
"""Eight neighbouring numbers of a row at once: loads, stores and sums that stay in the machine's vector registers.

LLVM does not vectorise the short loops over the columns of embeddings (8 to 32 numbers, of arrays that might overlap)
by itself: written with these, sums over windows take a fifth of the time. Interpreted, the same functions work on
slices.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import IS_COMPILED, compiled
from model.kernels.exponentials import LOG2_E, SERIES

Eight = NDArray[np.floating]
"""Eight numbers; in compiled code a vector register."""
EIGHT = 8
Number = float | np.floating


def zeros(like_ND: NDArray[np.floating]) -> Eight:
    """Eight zeros of the type of the array's numbers."""
    return np.zeros(EIGHT, dtype=like_ND.dtype)


def load(array_ND: NDArray[np.floating], row: int, column: int) -> Eight:
    """The numbers of a row from `column` on. Nothing is checked: the row must have eight more."""
    return array_ND[row, column : column + EIGHT].copy()


def store(array_ND: NDArray[np.floating], row: int, column: int, eight: Eight) -> None:
    """Write them over those of a row from `column` on."""
    array_ND[row, column : column + EIGHT] = eight


def scaled(eight: Eight, factor: Number) -> Eight:
    """eight * factor."""
    return eight * eight.dtype.type(factor)


def plus_scaled(sums: Eight, eight: Eight, factor: Number) -> Eight:
    """sums + eight * factor."""
    return sums + eight * eight.dtype.type(factor)


def plus_product(sums: Eight, left: Eight, right: Eight) -> Eight:
    """sums + left * right, place by place."""
    return sums + left * right


def larger(left: Eight, right: Eight) -> Eight:
    """The larger ones, place by place; `right` where one is NaN."""
    return np.where(left > right, left, right)


def filled(like_ND: NDArray[np.floating], number: Number) -> Eight:
    """Eight times this number, which is of the array's type."""
    return np.full(EIGHT, number, dtype=like_ND.dtype)


def powers(eight: Eight, top: Number, lowest: Number) -> Eight:
    """e^(x - top), place by place, for x <= top; 0 where x - top <= lowest, which is -87 at least. NaN stays NaN."""
    number = eight.dtype.type
    below = eight - number(top)
    halves = np.where(below > number(lowest), below, number(lowest)) * number(LOG2_E)
    whole = np.trunc(halves - number(0.5))
    f = halves - whole
    series = np.full(EIGHT, SERIES[-1], dtype=eight.dtype)
    for factor in SERIES[-2::-1]:
        series = series * f + number(factor)
    found = np.ldexp(series, whole.astype(np.int32))
    return np.where(below <= number(lowest), number(0), np.where(below == below, found, below))


def fetch(array_ND: NDArray[np.generic], row: int) -> None:
    """Tell the machine that a row will be read soon: rows come in no order, and waiting for them costs most."""


def turn(rows_ND: NDArray[np.floating], row: int, column: int, turned_DN: NDArray[np.floating], first: int) -> None:
    """Eight rows' eight numbers from `column` on become columns of the rows `column` and so on, from `first` on."""
    turned_DN[column : column + EIGHT, first : first + EIGHT] = rows_ND[row : row + EIGHT, column : column + EIGHT].T


def total(eight: Eight) -> float:
    """The sum of the eight."""
    return eight.sum()  # type: ignore[no-any-return]  # a number of the array's own type


def highest(eight: Eight) -> float:
    """The largest of the eight, of which none is NaN or all are."""
    return eight.max()  # type: ignore[no-any-return]  # a number of the array's own type


if IS_COMPILED:
    from llvmlite import ir  # type: ignore[import-untyped]  # it has none
    from numba import types
    from numba.core import cgutils
    from numba.core.extending import intrinsic, models, overload, register_model

    _LOOSE = ("contract", "reassoc", "nsz")

    class EightType(types.Type):
        def __init__(self, number: types.Float) -> None:
            self.number = number
            super().__init__(name=f"Eight({number})")

    @register_model(EightType)
    class _EightModel(models.PrimitiveModel):
        def __init__(self, dmm, fe_type) -> None:
            super().__init__(dmm, fe_type, _vector(fe_type.number))

    def _vector(number):
        return ir.VectorType(ir.DoubleType() if number.bitwidth == 64 else ir.FloatType(), EIGHT)

    def _pointer(context, builder, array_type, array, row, column):
        view = context.make_array(array_type)(context, builder, array)
        at = cgutils.get_item_pointer(context, builder, array_type, view, [row, column], wraparound=False)
        return builder.bitcast(at, _vector(array_type.dtype).as_pointer())

    def _align(array_type):
        return array_type.dtype.bitwidth // 8

    def _filled(builder, vector, value):
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), EIGHT), [0] * EIGHT)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), places)

    def _constant(vector, value):
        return ir.Constant(vector, [value] * EIGHT)

    def _folded(builder, vector, join):
        """Its halves joined into one, until a single number is left."""
        for half in (4, 2, 1):
            places = ir.VectorType(ir.IntType(32), half)
            low = builder.shuffle_vector(vector, vector, ir.Constant(places, list(range(half))))
            high = builder.shuffle_vector(vector, vector, ir.Constant(places, list(range(half, 2 * half))))
            vector = join(low, high)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    @intrinsic
    def _zeros(typing, array):
        def make(context, builder, signature, args):
            return ir.Constant(_vector(array.dtype), [0.0] * EIGHT)

        return EightType(array.dtype)(array), make

    @intrinsic
    def _load(typing, array, row, column):
        def make(context, builder, signature, args):
            at = _pointer(context, builder, array, *args)
            return builder.load(at, align=_align(array))

        return EightType(array.dtype)(array, types.intp, types.intp), make

    @intrinsic
    def _store(typing, array, row, column, eight):
        def make(context, builder, signature, args):
            at = _pointer(context, builder, array, *args[:3])
            builder.store(args[3], at, align=_align(array))
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, eight), make

    @intrinsic
    def _scaled(typing, eight, factor):
        def make(context, builder, signature, args):
            return builder.fmul(args[0], _filled(builder, _vector(eight.number), args[1]), flags=_LOOSE)

        return eight(eight, eight.number), make

    @intrinsic
    def _plus_scaled(typing, sums, eight, factor):
        def make(context, builder, signature, args):
            product = builder.fmul(args[1], _filled(builder, _vector(eight.number), args[2]), flags=_LOOSE)
            return builder.fadd(args[0], product, flags=_LOOSE)

        return eight(sums, eight, eight.number), make

    @intrinsic
    def _plus_product(typing, sums, left, right):
        def make(context, builder, signature, args):
            return builder.fadd(args[0], builder.fmul(args[1], args[2], flags=_LOOSE), flags=_LOOSE)

        return sums(sums, left, right), make

    @intrinsic
    def _larger(typing, left, right):
        def make(context, builder, signature, args):
            return builder.select(builder.fcmp_ordered(">", *args), *args)

        return left(left, right), make

    @intrinsic
    def _fetch(typing, array, row):
        def make(context, builder, signature, args):
            view = context.make_array(array)(context, builder, args[0])
            zero = context.get_constant(types.intp, 0)
            at = cgutils.get_item_pointer(context, builder, array, view, [args[1], zero], wraparound=False)
            byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
            hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            at = builder.bitcast(at, byte)
            width = builder.mul(
                cgutils.unpack_tuple(builder, view.shape)[1],
                context.get_constant(types.intp, array.dtype.bitwidth // 8),
            )
            with cgutils.for_range_slice(builder, zero, width, context.get_constant(types.intp, 64)) as (offset, _):
                builder.call(
                    hint, [builder.gep(at, [offset]), ir.Constant(word, 0), ir.Constant(word, 3), ir.Constant(word, 1)]
                )
            return context.get_dummy_value()

        return types.void(array, types.intp), make

    _PAIRS = ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
    _FOURS = ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
    _EIGHTS = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))

    @intrinsic
    def _turn(typing, rows, row, column, turned, first):
        def make(context, builder, signature, args):
            def moved(value, number):
                return builder.add(value, context.get_constant(types.intp, number))

            def mixed(one, other, places):
                return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), EIGHT), places))

            eights = [
                builder.load(
                    _pointer(context, builder, rows, args[0], moved(args[1], number), args[2]), align=_align(rows)
                )
                for number in range(EIGHT)
            ]
            # What is mixed with what, and where the two results go: each step doubles how many numbers are in order.
            for places, apart in ((_PAIRS, 1), (_FOURS, 2), (_EIGHTS, 4)):
                for one in (number for number in range(EIGHT) if not number & apart):
                    pair = eights[one], eights[one + apart]
                    eights[one], eights[one + apart] = mixed(*pair, list(places[0])), mixed(*pair, list(places[1]))
            for number, eight in enumerate(eights):
                place = number >> 1 & 1 | (number & 1) << 1 | number & 4
                at = _pointer(context, builder, turned, args[3], moved(args[2], place), args[4])
                builder.store(eight, at, align=_align(turned))
            return context.get_dummy_value()

        return types.void(rows, types.intp, types.intp, turned, types.intp), make

    @intrinsic
    def _total(typing, eight):
        def make(context, builder, signature, args):
            return _folded(builder, args[0], lambda low, high: builder.fadd(low, high, flags=_LOOSE))

        return eight.number(eight), make

    @intrinsic
    def _highest(typing, eight):
        def make(context, builder, signature, args):
            return _folded(
                builder, args[0], lambda low, high: builder.select(builder.fcmp_ordered(">", low, high), low, high)
            )

        return eight.number(eight), make

    @intrinsic
    def _filled_with(typing, array, number):
        def make(context, builder, signature, args):
            return _filled(builder, _vector(array.dtype), args[1])

        return EightType(array.dtype)(array, array.dtype), make

    @intrinsic
    def _powers(typing, eight, top, lowest):
        def make(context, builder, signature, args):
            vector, bits = _vector(eight.number), eight.number.bitwidth
            counts, wide = (ir.VectorType(ir.IntType(size), EIGHT) for size in (32, bits))
            below = builder.fsub(args[0], _filled(builder, vector, args[1]), flags=_LOOSE)
            floor = _filled(builder, vector, args[2])
            is_number = builder.fcmp_ordered(">", below, floor)  # of NaN there is no whole part
            halves = builder.fmul(builder.select(is_number, below, floor), _constant(vector, LOG2_E), flags=_LOOSE)
            whole = builder.fptosi(builder.fsub(halves, _constant(vector, 0.5)), counts)  # towards 0: it is below
            f = builder.fsub(halves, builder.sitofp(whole, vector))
            series = _constant(vector, SERIES[-1])
            for factor in SERIES[-2::-1]:
                series = builder.fadd(builder.fmul(series, f, flags=_LOOSE), _constant(vector, factor), flags=_LOOSE)
            exponent, mantissa_bits = (127, 23) if bits == 32 else (1023, 52)
            whole = whole if bits == 32 else builder.sext(whole, wide)
            power = builder.shl(builder.add(whole, _constant(wide, exponent)), _constant(wide, mantissa_bits))
            found = builder.fmul(series, builder.bitcast(power, vector), flags=_LOOSE)
            rest = builder.select(builder.fcmp_unordered("uno", below, below), below, _constant(vector, 0.0))
            return builder.select(is_number, found, rest)

        return eight(eight, eight.number, eight.number), make

    @overload(zeros)
    def _zeros_here(like_ND):
        return lambda like_ND: _zeros(like_ND)

    @overload(load)
    def _load_here(array_ND, row, column):
        return lambda array_ND, row, column: _load(array_ND, row, column)

    @overload(store)
    def _store_here(array_ND, row, column, eight):
        return lambda array_ND, row, column, eight: _store(array_ND, row, column, eight)

    @overload(scaled)
    def _scaled_here(eight, factor):
        return lambda eight, factor: _scaled(eight, factor)

    @overload(plus_scaled)
    def _plus_scaled_here(sums, eight, factor):
        return lambda sums, eight, factor: _plus_scaled(sums, eight, factor)

    @overload(plus_product)
    def _plus_product_here(sums, left, right):
        return lambda sums, left, right: _plus_product(sums, left, right)

    @overload(larger)
    def _larger_here(left, right):
        return lambda left, right: _larger(left, right)

    @overload(filled)
    def _filled_here(like_ND, number):
        return lambda like_ND, number: _filled_with(like_ND, number)

    @overload(powers)
    def _powers_here(eight, top, lowest):
        return lambda eight, top, lowest: _powers(eight, top, lowest)

    @overload(highest)
    def _highest_here(eight):
        return lambda eight: _highest(eight)

    @overload(fetch)
    def _fetch_here(array_ND, row):
        return lambda array_ND, row: _fetch(array_ND, row)

    @overload(turn)
    def _turn_here(rows_ND, row, column, turned_DN, first):
        return lambda rows_ND, row, column, turned_DN, first: _turn(rows_ND, row, column, turned_DN, first)

    @overload(total)
    def _total_here(eight):
        return lambda eight: _total(eight)


@compiled
def copy_row(rows_ND: NDArray[np.floating], row: int, copies_ND: NDArray[np.floating], place: int) -> None:
    """A row of one array into another's place, which is as wide."""
    width, column = rows_ND.shape[1], 0
    while column + EIGHT <= width:
        store(copies_ND, place, column, load(rows_ND, row, column))
        column += EIGHT
    while column < width:
        copies_ND[place, column] = rows_ND[row, column]
        column += 1
