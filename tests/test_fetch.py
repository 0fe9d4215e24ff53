"""Fetching: the cache, the checks, the failures. No test here touches the network."""

import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from producer import fetch
from producer.fetch import Archive, DatasetUnavailable, default_cache_dir, fetch_members, pip_download

CONTENT = {"data/a.tsv": b"one\ttwo\n", "data/b.tsv": "café\n".encode()}


def archive_of(contents: dict[str, bytes]) -> Archive:
    return Archive("some_package", "1.0", {name: hashlib.sha256(value).hexdigest() for name, value in contents.items()})


ARCHIVE = archive_of(CONTENT)


def put_wheel(folder: Path, contents: dict[str, bytes] = CONTENT) -> Path:
    wheel = folder / "some_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        for name, value in contents.items():
            opened.writestr(name, value)
    return wheel


class CountingDownload:
    def __init__(self, contents: dict[str, bytes] = CONTENT) -> None:
        self.contents = contents
        self.calls = 0

    def __call__(self, archive: Archive, folder: Path) -> None:
        del archive
        self.calls += 1
        put_wheel(folder, self.contents)


def no_download(archive: Archive, folder: Path) -> None:
    del archive, folder
    raise DatasetUnavailable("the network is down")


def test_what_was_fetched_once_comes_from_the_cache_afterwards(tmp_path: Path) -> None:
    download = CountingDownload()

    first = fetch_members(ARCHIVE, tmp_path / "cache", download=download)
    second = fetch_members(ARCHIVE, tmp_path / "cache", download=download)

    assert first == second == CONTENT
    assert download.calls == 1


def test_nothing_but_the_members_stays_in_the_cache(tmp_path: Path) -> None:
    fetch_members(ARCHIVE, tmp_path, download=CountingDownload())

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv"]


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    fetch_members(ARCHIVE, tmp_path, download=CountingDownload())
    (tmp_path / "a.tsv").write_bytes(b"one\tt")

    again = fetch_members(ARCHIVE, tmp_path, download=CountingDownload())

    assert again == CONTENT
    assert (tmp_path / "a.tsv").read_bytes() == CONTENT["data/a.tsv"]


def test_a_wheel_put_there_by_hand_is_used_without_a_download(tmp_path: Path) -> None:
    put_wheel(tmp_path)

    assert fetch_members(ARCHIVE, tmp_path, download=no_download) == CONTENT


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ({**CONTENT, "data/a.tsv": b"forged"}, "data/a.tsv .* another SHA-256"),
        ({"data/b.tsv": CONTENT["data/b.tsv"]}, "has no data/a.tsv"),
    ],
    ids=["altered", "missing"],
)
def test_a_wheel_with_other_content_is_refused_and_leaves_nothing(
    tmp_path: Path, contents: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(DatasetUnavailable, match=reason):
        fetch_members(ARCHIVE, tmp_path, download=CountingDownload(contents))

    assert list(tmp_path.iterdir()) == []


def test_a_member_that_claims_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_MEMBER_BYTES", 3)

    with pytest.raises(DatasetUnavailable, match="claims 8 bytes, more than 3"):
        fetch_members(ARCHIVE, tmp_path, download=CountingDownload())


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some_package-1.0-py3-none-any.whl").write_bytes(b"<html>sign in</html>")

    with pytest.raises(DatasetUnavailable, match="not a zip file"):
        fetch_members(ARCHIVE, tmp_path, download=no_download)


def test_a_failure_says_what_failed_and_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable) as failed:
        fetch_members(ARCHIVE, tmp_path, download=no_download)

    message = str(failed.value)
    assert "some_package 1.0" in message
    assert "the network is down" in message
    assert "try again" in message
    assert f"put the file some_package-1.0-*.whl into {tmp_path}" in message
    assert "--dataset synthetic" in message


def test_a_download_that_brings_no_wheel_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match=r"brought no some_package-1\.0-\*\.whl"):
        fetch_members(ARCHIVE, tmp_path, download=lambda _archive, _folder: None)


def test_a_cache_folder_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(DatasetUnavailable, match="Not a directory"):
        fetch_members(ARCHIVE, tmp_path / "file" / "cache", download=CountingDownload())


def test_two_at_once_both_get_everything_and_leave_whole_files(tmp_path: Path) -> None:
    both_have_the_wheel = threading.Barrier(2, timeout=10)
    results: list[dict[str, bytes]] = []

    def download(archive: Archive, folder: Path) -> None:
        CountingDownload()(archive, folder)
        both_have_the_wheel.wait()

    threads = [
        threading.Thread(target=lambda: results.append(fetch_members(ARCHIVE, tmp_path, download=download)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert results == [CONTENT, CONTENT]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv"]
    assert fetch_members(ARCHIVE, tmp_path, download=no_download) == CONTENT


def test_pip_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip looks nowhere at all
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    with pytest.raises(DatasetUnavailable, match=r"status 1: .*No matching distribution found for some_package==1\.0"):
        pip_download(ARCHIVE, tmp_path)


def test_pip_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))

    with pytest.raises(DatasetUnavailable, match=r"did not end within 0\.2 seconds") as given_up:
        pip_download(ARCHIVE, tmp_path, timeout_seconds=0.2)

    assert isinstance(given_up.value.__cause__, subprocess.TimeoutExpired)


def test_an_interpreter_without_pip_is_a_failure_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip = tmp_path / "python"
    without_pip.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    without_pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without_pip))

    with pytest.raises(DatasetUnavailable, match="status 1: No module named pip"):
        pip_download(ARCHIVE, tmp_path)


def test_the_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert default_cache_dir() == tmp_path / "headrace"


@pytest.mark.parametrize("configured", ["", "relative/folder"])
def test_without_a_usable_setting_the_cache_is_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configured: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", configured)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert default_cache_dir() == tmp_path / ".cache" / "headrace"
