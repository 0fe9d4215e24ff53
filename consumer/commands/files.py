"""The files that commands are told of: one that cannot be used is wrong usage, said before anything is done."""

import os
from pathlib import Path


def readable(option: str, path: Path) -> Path:
    """The same path; ValueError, with the option, where no file can be read there."""
    # Looked at, not opened: a pipe can be opened once.
    if not os.access(path, os.R_OK) or path.is_dir():
        raise ValueError(f"{option}: expected a file that can be read, got {str(path)!r}")
    return path


def writable(option: str, path: Path) -> Path:
    """The same path; ValueError, with the option, where no file can be written or made there."""
    # Looked at, not opened: what it holds stays until there is something to write.
    if not os.access(path if path.exists() else path.parent, os.W_OK) or path.is_dir():
        raise ValueError(f"{option}: expected a file that can be written, got {str(path)!r}")
    return path
