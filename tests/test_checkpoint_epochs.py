"""One worker a folder; each start has an epoch above all before, whatever was lost."""

import shutil

import pytest
from checkpoint_cases import restarted, snapshot, steps_of
from faulty_disk import FaultyDisk, SimulatedCrash
from structlog.testing import capture_logs

from consumer.checkpoint import CheckpointError, CheckpointStore, FolderInUse

pytestmark = pytest.mark.usefixtures("quick_disk")


def test_a_second_worker_on_the_folder_is_refused_until_the_first_is_gone(store, open_store):
    second = open_store(store.folder)

    with pytest.raises(FolderInUse, match="HEADRACE_CHECKPOINT_DIR"):
        second.acquire()
    store.release()

    assert second.acquire() == 2
    with pytest.raises(FolderInUse):
        store.acquire()


def test_nothing_is_saved_without_holding_the_folder(store):
    store.release()

    with pytest.raises(CheckpointError, match="was not acquired"):
        store.save(snapshot(4))

    assert steps_of(store) == [3, 2, 1]


def test_the_epoch_rises_with_each_start_also_without_a_checkpoint(tmp_path):
    assert [restarted(tmp_path) for _ in range(4)] == [1, 2, 3, 4]


def test_an_epoch_that_was_given_outlives_a_power_failure(tmp_path):
    restarted(tmp_path)
    disk = FaultyDisk(tmp_path)

    with disk.watched():
        given = restarted(tmp_path)
    disk.lose_power()

    assert restarted(tmp_path) > given


def test_the_epoch_is_above_those_of_all_checkpoints_when_its_file_is_lost(store):
    store.release()
    (store.folder / "epoch").unlink()

    assert restarted(store.folder) == 2


@pytest.mark.parametrize("text", ["", "x", "\0\0", "1.5"])
def test_the_epoch_is_above_those_of_all_checkpoints_when_its_file_is_damaged_and_that_is_told(store, text):
    store.release()
    (store.folder / "epoch").write_text(text)

    with capture_logs() as logs:
        assert restarted(store.folder) == 2

    assert [log["log_level"] for log in logs] == ["error"]


def test_an_epoch_is_never_given_twice_however_a_start_crashes(tmp_path):
    folder = tmp_path / "state"
    given = [restarted(folder)]
    for number in range(6):
        disk = FaultyDisk(folder)
        crashed = CheckpointStore(folder)
        try:
            with disk.watched(fail_at=number):
                given.append(crashed.acquire())
        except SimulatedCrash:
            disk.lose_power()
        crashed.release()
        given.append(restarted(folder))

    assert given == sorted(set(given))


def test_the_first_epoch_of_a_folder_that_was_lost_is_above_those_before(tmp_path):
    epochs = [started_at(tmp_path / "folder", 1_700_000_000) for _ in range(2)]
    shutil.rmtree(tmp_path / "folder")

    epochs.append(started_at(tmp_path / "folder", 1_700_000_060))

    assert epochs == [1_700_000_000, 1_700_000_001, 1_700_000_060]


def test_the_epoch_of_a_backup_that_was_put_back_is_above_those_given_since_it_was_made(tmp_path):
    folder, backup = tmp_path / "folder", tmp_path / "backup"
    started_at(folder, 1_700_000_000)
    shutil.copytree(folder, backup)
    since = [started_at(folder, seconds) for seconds in (1_700_000_060, 1_700_000_060, 1_700_000_061)]
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)

    assert started_at(folder, 1_700_003_600) > max(since)


def test_the_epoch_rises_also_where_the_clock_went_back(tmp_path):
    assert [started_at(tmp_path, seconds) for seconds in (1_700_000_060, 1_700_000_000)] == [
        1_700_000_060,
        1_700_000_061,
    ]


def started_at(folder, seconds):
    """The epoch of a run that starts, and ends, at this time."""
    store = CheckpointStore(folder, first_epoch=seconds)
    epoch = store.acquire()
    store.release()
    return epoch
