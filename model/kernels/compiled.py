"""`compiled`: numba's njit where numba is installed, the plain function otherwise."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

try:
    import numba
except ImportError:  # the plain twin: same text, same result, interpreted
    numba = None  # type: ignore[assignment]  # a module or None: mypy has no word for it

F = TypeVar("F", bound=Callable[..., object])

IS_COMPILED: bool = numba is not None
_LOOSE = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: F) -> F:
    """The function compiled to machine code at its first call, kept on disk beside the source for later runs.

    Floating-point arithmetic is left in the order in which it is written (no fastmath), so that the compiled and
    the interpreted kernel agree.
    """
    return _compiled(function, fastmath=False)


def compiled_loosely(function: F) -> F:
    """The same, but sums may be taken in another order, to use the machine's vectors; NaN keeps its meaning."""
    return _compiled(function, fastmath=_LOOSE)


def inlined_loosely(function: F) -> F:
    """The same for what kernels call: it becomes a part of each caller.

    Left to itself it would be there twice, alone and as the caller's copy, and compiled in two surroundings their sums
    may be in two orders. The process that compiled them runs the one, a process that found the caller on disk the
    other: a worker that starts again would not repeat to the bit what the first one did.
    """
    return _compiled(function, fastmath=_LOOSE, forceinline=True)


def compiled_with_arrays(function: F) -> F:
    """As `compiled`, for kernels that make arrays. What is hot in them is better a kernel of its own."""
    return _compiled(function, fastmath=False, makes_arrays=True)


def compiled_loosely_with_arrays(function: F) -> F:
    """As `compiled_loosely`, for kernels that make arrays."""
    return _compiled(function, fastmath=_LOOSE, makes_arrays=True)


def _compiled(function: F, *, fastmath: bool | set[str], forceinline: bool = False, makes_arrays: bool = False) -> F:
    """Arrays that somebody else made need no count of who has them: counting is an atomic instruction at each turn."""
    if numba is None:
        return function
    compile_it = partial(
        numba.njit, function, nogil=True, fastmath=fastmath, forceinline=forceinline, _nrt=makes_arrays
    )
    try:
        return cast("F", compile_it(cache=True))
    except RuntimeError:  # no folder to keep it in: compiled anew by each process
        return cast("F", compile_it())


def kept_in() -> str:
    """A folder that processes have in common which keep their kernels in one place: numba's, or that of the sources."""
    own: str = getattr(getattr(numba, "config", None), "CACHE_DIR", "")
    return own or __file__.rpartition("/")[0]


def interpreted(function: F) -> F:
    """The plain twin of a kernel, whichever of the two is running."""
    return cast("F", getattr(function, "py_func", function))
