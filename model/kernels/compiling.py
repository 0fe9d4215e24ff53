"""While kernels are compiled, a minute or more on a new machine: a place to be told of each, and to leave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    from numba.core import event
except ImportError:  # nothing is compiled then
    event = None  # type: ignore[assignment]  # a module or None: mypy has no word for it


@contextmanager
def before_each_compilation(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` before a kernel is compiled, also one that another kernel calls; not for one found on disk.

    What it raises leaves the call that needed the kernel; those compiled before stay on disk.
    """
    if event is None:
        yield
        return

    class Listener(event.Listener):
        def on_start(self, _event: object) -> None:
            tell()

        def on_end(self, _event: object) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
