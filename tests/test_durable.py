"""What a call of consumer.durable has returned from is there after a power failure."""

import os
from pathlib import Path

import pytest
from faulty_disk import FaultyDisk, SimulatedCrash, disk_full

from consumer import durable


def test_a_file_and_its_name_outlive_a_power_failure_once_the_folder_is_synced(tmp_path):
    disk = FaultyDisk(tmp_path)

    with disk.watched():
        durable.write_file(tmp_path / "a", b"whole")
        durable.sync_folder(tmp_path)
    disk.lose_power()

    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_file_that_was_not_synced_is_lost_by_the_disk_of_these_tests(tmp_path):
    disk = FaultyDisk(tmp_path)

    with disk.watched():
        descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"whole")
        os.close(descriptor)
        durable.sync_folder(tmp_path)
    disk.lose_power()

    assert (tmp_path / "a").read_bytes() == b"wh"


def test_a_name_in_a_folder_that_was_not_synced_is_lost_by_the_disk_of_these_tests(tmp_path):
    disk = FaultyDisk(tmp_path)
    (tmp_path / "old").touch()

    with disk.watched():
        durable.write_file(tmp_path / "new", b"")
        (tmp_path / "old").rename(tmp_path / "renamed")
    disk.lose_power()

    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_little_of_a_large_file_is_ever_off_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "UNSYNCED_BYTES", 100)
    unsynced, most = 0, []
    write, fdatasync = os.write, os.fdatasync

    def counted(descriptor, data):
        nonlocal unsynced
        written = write(descriptor, data)
        unsynced += written
        most.append(unsynced)
        return written

    def synced(descriptor):
        nonlocal unsynced
        fdatasync(descriptor)
        unsynced = 0

    monkeypatch.setattr(os, "write", counted)
    monkeypatch.setattr(os, "fdatasync", synced)
    parts = [b"a" * 30, memoryview(b"b" * 1234), b"", b"c" * 99, b"d" * 100]

    durable.write_parts(tmp_path / "a", parts)

    assert (tmp_path / "a").read_bytes() == b"".join(parts)
    assert 100 <= max(most) < 2 * 100
    assert len(most) > 14


def test_writing_a_file_replaces_what_was_there(tmp_path):
    durable.write_file(tmp_path / "a", b"longer")

    durable.write_file(tmp_path / "a", b"new")

    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_in_parts_is_one_file_and_outlives_a_power_failure(tmp_path):
    disk = FaultyDisk(tmp_path)

    with disk.watched():
        durable.write_parts(tmp_path / "a", [b"one ", memoryview(b"two "), b"", b"three"])
        durable.sync_folder(tmp_path)
    disk.lose_power()

    assert (tmp_path / "a").read_bytes() == b"one two three"


def test_a_renaming_outlives_a_power_failure_and_replaces_the_file_that_had_the_name(tmp_path):
    disk = FaultyDisk(tmp_path)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "file").write_bytes(b"old")

    with disk.watched():
        durable.rename(tmp_path / "new", tmp_path / "file")
    disk.lose_power()

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_a_folder_and_those_above_it_outlive_a_power_failure(tmp_path):
    disk = FaultyDisk(tmp_path)

    with disk.watched():
        durable.make_folder(tmp_path / "a" / "b" / "c")
    disk.lose_power()

    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_making_a_folder_that_is_there_does_nothing(tmp_path):
    disk = FaultyDisk(tmp_path)

    with disk.watched():
        durable.make_folder(tmp_path)

    assert disk.effects == []


def test_every_byte_is_written_where_the_system_takes_a_few_at_a_time(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))

    durable.write_file(tmp_path / "a", b"ten bytes.")

    assert (tmp_path / "a").read_bytes() == b"ten bytes."


def test_a_file_is_closed_when_writing_it_fails(tmp_path):
    disk = FaultyDisk(tmp_path)

    def is_open():
        """Clients of other tests may open and close sockets meanwhile: only this file counts."""
        return str(tmp_path / "a") in {os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()}

    with (tmp_path / "a").open("w"):
        assert is_open()
    with pytest.raises(SimulatedCrash), disk.watched(fail_at=1):
        durable.write_file(tmp_path / "a", b"data")

    assert disk.effects == ["open", "write"]
    assert not is_open()


def test_what_is_refused_names_the_file(tmp_path):
    disk = FaultyDisk(tmp_path)

    with pytest.raises(OSError, match=r"No space left on device: '.*/a'$"), disk.watched(fail_at=1, failure=disk_full):
        durable.write_file(tmp_path / "a", b"whole")

    assert disk.effects == ["open", "write"]
