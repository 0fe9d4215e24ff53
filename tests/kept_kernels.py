"""Kernels that test processes keep on disk while they run side by side, without getting in each other's way."""

import fcntl
import functools
import os
from collections.abc import Callable
from typing import Any

try:
    from numba.core.caching import IndexDataCacheFile
except ImportError:  # the plain twins run, and nothing is kept
    IndexDataCacheFile = None


def keep_in_turn() -> None:
    """From now on this process looks at what is kept, and adds to it, when no other does.

    Numba reads its index, writes it back and then writes the machine code: of two processes that do so at once
    one may leave its code under the signature of the other.
    """
    if IndexDataCacheFile is not None:
        IndexDataCacheFile.save = _alone(IndexDataCacheFile.save)
        IndexDataCacheFile.load = _alone(IndexDataCacheFile.load)


def _alone(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def with_the_folder_locked(self: Any, *given: Any) -> Any:
        folder = os.open(self._cache_path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            return method(self, *given)
        finally:
            os.close(folder)

    return with_the_folder_locked
