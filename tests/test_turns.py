"""Waiting for a turn at a folder that processes share."""

import fcntl
import os
import subprocess
import sys

import pytest

from consumer import turns
from consumer.turns import in_turn


class Enough(Exception):
    pass


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.001)


@pytest.fixture
def held(tmp_path):
    """The folder's lock, held by somebody else."""
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    os.close(lock)


def is_free(folder):
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def test_a_turn_begins_when_the_one_before_has_ended(tmp_path, held):
    looked = []

    def look_up():
        looked.append(None)
        if len(looked) == 3:
            fcntl.flock(held, fcntl.LOCK_UN)

    with in_turn(tmp_path, look_up):
        assert len(looked) == 3
        assert not is_free(tmp_path)

    assert is_free(tmp_path)


@pytest.mark.usefixtures("held")
def test_who_waits_can_leave(tmp_path):
    def look_up():
        raise Enough

    with pytest.raises(Enough), in_turn(tmp_path, look_up):
        pytest.fail("it is not our turn")


def test_a_turn_ends_with_an_error_too(tmp_path):
    with pytest.raises(Enough), in_turn(tmp_path):
        raise Enough

    assert is_free(tmp_path)


def test_a_process_that_is_killed_has_had_its_turn(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from consumer.turns import in_turn\n"
        "with in_turn(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE)
    with other, other.stdout:
        assert other.stdout.readline() == b"in\n"
        assert not is_free(tmp_path)
        other.kill()

    with in_turn(tmp_path):
        assert not is_free(tmp_path)


def test_without_a_folder_nobody_waits(tmp_path):
    with in_turn(tmp_path / "missing"):
        pass
