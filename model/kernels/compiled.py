"""`compiled`: numba's njit where numba is installed, the plain function otherwise."""

from collections.abc import Callable
from typing import TypeVar, cast

try:
    import numba
except ImportError:  # the plain twin: same text, same result, interpreted
    numba = None  # type: ignore[assignment]  # a module or None: mypy has no word for it

F = TypeVar("F", bound=Callable[..., object])

IS_COMPILED: bool = numba is not None


def compiled(function: F) -> F:
    """The function compiled to machine code at its first call, kept on disk beside the source for later runs.

    Floating-point arithmetic is left in the order in which it is written (no fastmath), so that the compiled and
    the interpreted kernel agree.
    """
    return _compiled(function, fastmath=False)


def compiled_loosely(function: F) -> F:
    """The same, but sums may be taken in another order, to use the machine's vectors; NaN keeps its meaning."""
    return _compiled(function, fastmath={"reassoc", "contract", "arcp", "nsz"})


def _compiled(function: F, *, fastmath: bool | set[str]) -> F:
    if numba is None:
        return function
    try:
        return cast("F", numba.njit(function, cache=True, nogil=True, fastmath=fastmath))
    except RuntimeError:  # no folder to keep it in: compiled anew by each process
        return cast("F", numba.njit(function, nogil=True, fastmath=fastmath))


def interpreted(function: F) -> F:
    """The plain twin of a kernel, whichever of the two is running."""
    return cast("F", getattr(function, "py_func", function))
