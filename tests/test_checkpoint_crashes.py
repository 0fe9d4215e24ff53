"""A save that is killed, refused by a full disk or loses power leaves the old checkpoint or the new one, both whole."""

import shutil
from pathlib import Path

import pytest
from checkpoint_cases import assert_is, restarted, snapshot
from faulty_disk import FaultyDisk, SimulatedCrash, disk_full
from structlog.testing import capture_logs

from consumer.checkpoint import STATE_FILE, CheckpointStore, read_checkpoint

pytestmark = pytest.mark.usefixtures("quick_disk")


def effects_of_a_save(store, tmp_path) -> list[str]:
    """What a save of step 4 does to the disk, tried out on a copy."""
    copy = CheckpointStore(Path(shutil.copytree(store.folder, tmp_path / "tried out")))
    copy.acquire()
    with FaultyDisk(tmp_path).watched() as disk:
        copy.save(snapshot(4))
    copy.release()
    return disk.effects


@pytest.mark.parametrize("power_lost", [False, True], ids=["killed", "power lost"])
def test_a_crash_at_any_effect_of_a_save_leaves_the_old_checkpoint_or_the_new_one(store, tmp_path, power_lost):
    effects = effects_of_a_save(store, tmp_path)
    found_steps = []
    for number in range(len(effects)):
        folder = Path(shutil.copytree(store.folder, tmp_path / f"crash {number}"))
        dying, disk = CheckpointStore(folder), FaultyDisk(folder)
        dying.acquire()
        with pytest.raises(SimulatedCrash), disk.watched(fail_at=number):
            dying.save(snapshot(4))
        if power_lost:
            disk.lose_power()
        dying.release()

        with capture_logs() as logs:
            found = CheckpointStore(folder).newest()

        assert disk.effects == effects[: number + 1]
        assert_is(found, found[0].step)
        assert logs == [], "a crash in a save is no damage"
        for path in CheckpointStore(folder).paths():
            read_checkpoint(path)  # nor is one in the removal of an old one
        found_steps.append(found[0].step)
        assert_goes_on(folder)
    assert set(found_steps) == {3, 4}
    assert found_steps == sorted(found_steps), "once it is there it stays"
    named = effects.index("replace")
    assert found_steps[: named + 1] == [3] * (named + 1), "nothing is there before it has its name"


def assert_goes_on(folder):
    """The next run acquires, saves, and has cleaned up."""
    following = CheckpointStore(folder)
    following.acquire()
    following.save(snapshot(5))
    assert_is(following.newest(), 5)
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    assert len(names) == 3
    assert all(name.startswith("step-") for name in names)
    following.release()


def test_a_saved_checkpoint_outlives_a_power_failure(store):
    disk = FaultyDisk(store.folder)

    with disk.watched():
        store.save(snapshot(4))
    disk.lose_power()

    with capture_logs() as logs:
        assert_is(store.newest(), 4)
    assert logs == []


def test_a_first_checkpoint_outlives_a_power_failure_with_its_folders_and_its_epoch(tmp_path, open_store):
    store, disk = open_store(tmp_path / "a" / "state"), FaultyDisk(tmp_path)

    with disk.watched():
        store.acquire()
        store.save(snapshot(1))
    disk.lose_power()
    store.release()

    assert_is(CheckpointStore(store.folder).newest(), 1)
    assert restarted(store.folder) == 2


def test_a_full_disk_at_any_effect_leaves_the_older_checkpoints_as_they_were(store, tmp_path):
    effects = effects_of_a_save(store, tmp_path)
    before = contents(store.folder)
    raised = []
    for number in range(len(effects)):
        folder = Path(shutil.copytree(store.folder, tmp_path / f"full {number}"))
        full, disk = CheckpointStore(folder), FaultyDisk(folder)
        full.acquire()

        try:
            with disk.watched(fail_at=number, failure=disk_full), capture_logs() as logs:
                full.save(snapshot(4))
        except OSError:
            raised.append(number)
            assert [name for name in (folder / "checkpoints").iterdir() if not name.name.startswith("step-")] == []
            assert {**contents(folder), **before} == contents(folder), "the older ones are untouched"
        else:
            assert [log["event"] for log in logs] == ["an old checkpoint could not be removed"]
        assert_is(full.newest(), full.newest()[0].step)
        full.save(snapshot(4))  # there is room again
        assert_is(full.newest(), 4)
        full.release()
    named = effects.index("replace")
    assert raised == list(range(named + 2)), "all up to the name and its sync; a failed removal is only told"


def contents(folder):
    checkpoints = folder / "checkpoints"
    return {path.relative_to(folder): path.read_bytes() for path in checkpoints.rglob("*") if path.is_file()}


def test_a_full_disk_at_the_start_is_an_error_and_leaves_the_folder_to_the_next(store, open_store):
    store.release()
    later = open_store(store.folder)

    with pytest.raises(OSError, match="No space"), FaultyDisk(store.folder).watched(1, disk_full):
        later.acquire()

    assert later.acquire() == 2


def test_what_a_crash_left_is_removed_before_anything_is_written(store, open_store):
    store.release()
    checkpoints = store.folder / "checkpoints"
    for leftover in ("unfinished-step-000000000009-epoch-000001", "dropped-step-000000000000-epoch-000001"):
        (checkpoints / leftover).mkdir()
        (checkpoints / leftover / STATE_FILE).write_bytes(b"large")
    disk = FaultyDisk(store.folder)

    with disk.watched():
        open_store(store.folder).acquire()

    assert disk.effects[:4] == ["unlink", "rmdir", "unlink", "rmdir"]
    assert len(list(checkpoints.iterdir())) == 3
