"""Writing that outlives a power failure: what a call here has returned from is on the disk, its name included."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

UNSYNCED_BYTES: Final = 8 << 20
"""No more of a file is written before it is put on the disk. Whoever syncs another file meanwhile may have to wait for
all of it (ext4 does), as the worker's journal, which is synced at every step.
"""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError names this path, where it would name none: writing knows a file by its number only."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_file(path: Path, data: bytes) -> None:
    """Make or replace the file's contents. The name of a new file is safe once its folder is synced."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """The same, with contents that come in parts, one after the other. Other threads run while one is written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    with naming(path):
        try:
            unsynced = 0
            for part in parts:
                for start in range(0, len(part), UNSYNCED_BYTES):
                    piece = memoryview(part)[start : start + UNSYNCED_BYTES]
                    write_all(descriptor, piece)
                    unsynced += len(piece)
                    if unsynced >= UNSYNCED_BYTES:
                        os.fdatasync(descriptor)
                        unsynced = 0
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte, in several calls where the system takes fewer at once; not synced."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def rename(path: Path, target: Path) -> None:
    """Give a file or folder its new name; the old and the new one lie in the same folder. A file there is replaced."""
    path.replace(target)
    sync_folder(target.parent)


def make_folder(path: Path) -> None:
    """Make the folder and those above it, where they are missing."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Which names the folder has, and for what, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    with naming(path):
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
