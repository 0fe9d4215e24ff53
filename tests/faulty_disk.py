"""A disk that fails when a test wants it to: it crashes, refuses or loses power at a chosen effect.

Every change that this process makes to files goes through a few calls of `os`. `FaultyDisk` counts them, stops at the
one asked for, and remembers what was not synced yet, so that `lose_power` can take it away as a real disk may.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest


class SimulatedCrash(BaseException):
    """The process is gone. Not an Exception: nothing in the program may catch it."""


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let syncing cost nothing: what is on the disk is simulated here, and a real one takes milliseconds each time."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


def crash() -> BaseException:
    return SimulatedCrash()


def disk_full() -> BaseException:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Name(NamedTuple):
    """A name that was given; what it stands for and the folder it is in are told by their inodes."""

    folder: int
    entry: int
    before: str | None = None
    """The name it had before, None where it was new."""
    replaced: bytes | None = None
    """What the file held that had the name before."""


class FaultyDisk:
    """Watches changes of files under `folder` while `watched()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.effects: list[str] = []
        """What was done, such as "write", in order; the one that failed is the last."""
        self._fail_at: int | None = None
        self._is_gone = False
        self._failure: Callable[[], BaseException] = crash
        self._unsynced_files: dict[int, int] = {}
        """File -> bytes of it that are synced."""
        self._unsynced_names: list[Name] = []

    @contextmanager
    def watched(
        self, fail_at: int | None = None, failure: Callable[[], BaseException] = crash
    ) -> Iterator["FaultyDisk"]:
        """Fail at the effect with this number, counted from 0. A write that fails leaves half its bytes.

        Files elsewhere are none of its business.
        """
        self.effects, self._fail_at, self._failure, self._is_gone = [], fail_at, failure, False
        names = ("open", "write", "fsync", "fdatasync", "mkdir", "rename", "replace", "unlink", "rmdir")
        real = {name: getattr(os, name) for name in names}
        patches = {
            "open": self._open(real["open"]),
            "write": self._write(real["write"]),
            "fsync": self._sync("fsync", real["fsync"]),
            "fdatasync": self._sync("fdatasync", real["fdatasync"]),
            "mkdir": self._made(real["mkdir"]),
            "rename": self._renamed("rename", real["rename"]),
            "replace": self._renamed("replace", real["replace"]),
            "unlink": self._removed("unlink", real["unlink"]),
            "rmdir": self._removed("rmdir", real["rmdir"]),
        }
        with mock.patch.multiple(os, **patches):
            yield self

    def lose_power(self) -> None:
        """Take away what was not synced: half of each file's newest bytes, and the newest names."""
        for inode, path in self._inodes().items():
            if inode in self._unsynced_files and path.is_file():
                synced = self._unsynced_files[inode]
                os.truncate(path, synced + (path.stat().st_size - synced) // 2)
        for name in reversed(self._unsynced_names):
            places = self._inodes()
            if name.folder not in places or name.entry not in places:
                continue
            path = places[name.entry]
            if name.before is not None:
                path.rename(places[name.folder] / name.before)
                if name.replaced is not None:
                    path.write_bytes(name.replaced)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._unsynced_files.clear()
        self._unsynced_names.clear()

    def _inodes(self) -> dict[int, Path]:
        return {path.stat().st_ino: path for path in [self.folder, *self.folder.rglob("*")]}

    def _effect(self, name: str) -> None:
        if self._is_gone:  # whatever thread asks
            raise SimulatedCrash
        self.effects.append(name)
        if len(self.effects) - 1 == self._fail_at:
            failure = self._failure()
            self._is_gone = isinstance(failure, SimulatedCrash)
            raise failure

    def _note(self, path: Path, before: str | None = None, replaced: bytes | None = None) -> None:
        self._unsynced_names.append(Name(path.parent.stat().st_ino, path.stat().st_ino, before, replaced))

    def _is_ours(self, path: str | Path, folder_descriptor: int | None = None) -> bool:
        if folder_descriptor is not None:
            return self._is_open_here(folder_descriptor)
        return Path(path).absolute().is_relative_to(self.folder)

    def _is_open_here(self, descriptor: int) -> bool:
        return Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self.folder)

    def _open(self, real):
        def opened(path, flags, mode=0o777, *, dir_fd=None):
            if not self._is_ours(path, dir_fd):
                return real(path, flags, mode, dir_fd=dir_fd)
            made = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            if flags & os.O_CREAT:
                self._effect("open")
            descriptor = real(path, flags, mode, dir_fd=dir_fd)
            if made:
                self._note(Path(path))
            return descriptor

        return opened

    def _write(self, real):
        def written(descriptor, data):
            if not self._is_open_here(descriptor):
                return real(descriptor, data)
            status = os.fstat(descriptor)
            self._unsynced_files.setdefault(status.st_ino, status.st_size)
            try:
                self._effect("write")
            except BaseException:
                real(descriptor, bytes(data)[: len(data) // 2])
                raise
            return real(descriptor, data)

        return written

    def _sync(self, call, real):
        def synced(descriptor):
            if not self._is_open_here(descriptor):
                return real(descriptor)
            self._effect(call)
            real(descriptor)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                self._unsynced_names = [name for name in self._unsynced_names if name.folder != status.st_ino]
            else:
                self._unsynced_files.pop(status.st_ino, None)
            return None

        return synced

    def _made(self, real):
        def made(path, *more, **options):
            if not self._is_ours(path):
                return real(path, *more, **options)
            self._effect("mkdir")
            real(path, *more, **options)
            self._note(Path(path))
            return None

        return made

    def _renamed(self, call, real):
        def renamed(path, target, **options):
            if not self._is_ours(path):
                return real(path, target, **options)
            self._effect(call)
            replaced = Path(target).read_bytes() if Path(target).is_file() else None
            real(path, target, **options)
            self._note(Path(target), Path(path).name, replaced)
            return None

        return renamed

    def _removed(self, call, real):
        def removed(path, *, dir_fd=None):
            if self._is_ours(path, dir_fd):
                self._effect(call)
            real(path, dir_fd=dir_fd)

        return removed
