"""Files that commands are told of: looked at before they are used, and left as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.commands.files import readable, writable


def a_folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    del path


@pytest.mark.parametrize("make", [nothing, a_folder])
def test_a_file_to_read_has_to_be_there(tmp_path: Path, make: Callable[[Path], None]) -> None:
    file = tmp_path / "events.jsonl"
    make(file)

    with pytest.raises(ValueError, match=rf"^--events: expected a file that can be read, got '{file}'$"):
        readable("--events", file)


def test_a_file_to_write_has_to_lie_in_a_folder_that_is_there(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "missing" / "ranks.csv"):
        with pytest.raises(ValueError, match=rf"^--ranks: expected a file that can be written, got '{file}'$"):
            writable("--ranks", file)


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_text("kept")

    assert [readable("--events", there), writable("--ranks", there), writable("--ranks", new)] == [there, there, new]
    assert there.read_text() == "kept"
    assert not new.exists()
