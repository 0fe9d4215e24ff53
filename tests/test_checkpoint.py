"""A checkpoint is whole or absent, whatever the disk does; a damaged one is noticed and the one before it used."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from faulty_disk import FaultyDisk, SimulatedCrash, disk_full, without_waiting
from safetensors import safe_open
from structlog.testing import capture_logs

from consumer.checkpoint import (
    FORMAT,
    MANIFEST_FILE,
    STATE_FILE,
    CheckpointDamaged,
    CheckpointError,
    CheckpointStore,
    Counts,
    FolderInUse,
    Snapshot,
    read_checkpoint,
    read_manifest,
)

SOURCES = [
    path
    for package in ("consumer", "producer", "model")
    for path in Path(__file__).parents[1].glob(f"{package}/**/*.py")
]


def snapshot(step: int, **tensors: torch.Tensor) -> Snapshot:
    """Progress at a step; every part of it tells the step, so that a mixture would show."""
    return Snapshot(
        step=step,
        model_version=step,
        offsets={"events": {0: 10 * step, 1: 11 * step}},
        counts=Counts(learned=19 * step, duplicates=step, dead_letters=step),
        settings={"k": 20, "step": step, "rate": 0.1, "name": "ü"},
        state_sha256=f"{step:064x}",
        tensors={"weights": torch.full((3, 2), float(step)), **tensors},
    )


def assert_is(found, step: int) -> None:
    """The checkpoint is that of `snapshot(step)` and of nothing else."""
    manifest, tensors = found
    expected = snapshot(step)
    assert (manifest.step, manifest.model_version, manifest.state_sha256) == (step, step, expected.state_sha256)
    assert (manifest.offsets, manifest.counts, manifest.settings) == (
        expected.offsets,
        expected.counts,
        expected.settings,
    )
    assert tensors.keys() == {"weights"}
    assert torch.equal(tensors["weights"], expected.tensors["weights"])


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    without_waiting(monkeypatch)


@pytest.fixture
def open_store():
    """A function that makes a store; it lets go of its folder at the end of the test."""
    made = []

    def make(folder, kept=3):
        made.append(CheckpointStore(folder, kept))
        return made[-1]

    yield make

    for store in made:
        store.release()


@pytest.fixture
def store(tmp_path, open_store):
    """An acquired store with the checkpoints of steps 1, 2 and 3."""
    store = open_store(tmp_path / "state")
    store.acquire()
    for step in (1, 2, 3):
        store.save(snapshot(step))
    return store


def steps_of(store):
    return [read_manifest(path).step for path in store.paths()]


def test_what_is_saved_comes_back(store):
    saved = store.save(snapshot(4))

    found = store.newest()

    assert_is(found, 4)
    assert found[0] == saved
    assert saved.epoch == 1


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path / "not made yet")

    assert store.newest() is None
    assert list(store.paths()) == []
    assert store.oldest_step() == 0


DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
SHAPES = [(5,), (3, 4), (), (0,), (0, 4), (3, 0)]


def test_tensors_of_every_type_and_shape_come_back_to_the_bit(store):
    values = {
        f"{dtype} {shape}": torch.arange(12)[: torch.Size(shape).numel()].reshape(shape).to(dtype)
        for dtype in DTYPES
        for shape in SHAPES
    }

    store.save(snapshot(4, **values))
    _, tensors = store.newest()

    assert len(values) == len(DTYPES) * len(SHAPES)
    for name, value in values.items():
        assert (tensors[name].dtype, tensors[name].shape) == (value.dtype, value.shape), name
        assert torch.equal(tensors[name], value), name


def test_the_file_is_that_of_safetensors(store):
    values = {f"{dtype} {shape}": torch.ones(shape, dtype=dtype) for dtype in DTYPES for shape in SHAPES}
    values["large"] = torch.arange(100_000).reshape(-1, 10).T  # not contiguous
    values['ünicode "'] = torch.arange(3)

    store.save(snapshot(4, **values))

    file = next(store.paths()) / STATE_FILE
    with safe_open(file, "pt") as opened:
        for name, value in values.items():
            assert torch.equal(opened.get_tensor(name), value), name
    assert read_manifest(file.parent).files[STATE_FILE] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_what_is_prepared_is_no_checkpoint_before_it_is_kept(store):
    prepared = store.prepare(snapshot(4))
    before = steps_of(store)

    manifest = store.keep(prepared)

    assert before == [3, 2, 1]
    assert steps_of(store) == [4, 3, 2]
    assert_is(store.newest(), 4)
    assert manifest == store.newest()[0]


def test_nan_infinities_and_minus_zero_come_back_to_the_bit(store):
    value = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])

    store.save(snapshot(4, value=value))
    _, tensors = store.newest()

    assert tensors["value"].numpy().tobytes() == value.numpy().tobytes()


def test_loaded_tensors_may_be_written_to(store):
    _, tensors = store.newest()

    tensors["weights"][0, 0] = 7

    assert tensors["weights"][0, 0] == 7


def test_the_newest_three_are_kept(store):
    for step in (4, 5):
        store.save(snapshot(step))

    assert steps_of(store) == [5, 4, 3]
    assert store.oldest_step() == 3
    assert len(list((store.folder / "checkpoints").iterdir())) == 3


def test_as_many_are_kept_as_asked_for(tmp_path, open_store):
    store = open_store(tmp_path, kept=1)
    store.acquire()

    for step in (1, 2):
        store.save(snapshot(step))

    assert steps_of(store) == [2]


def test_a_newer_run_that_went_back_is_the_newest(store, open_store):
    store.release()
    later = open_store(store.folder)
    later.acquire()

    later.save(snapshot(2))

    assert_is(later.newest(), 2)
    assert [(m.epoch, m.step) for m in map(read_manifest, later.paths())] == [(2, 2), (1, 3), (1, 2)]
    assert later.oldest_step() == 2


def test_the_same_step_saved_again_by_one_run_replaces_the_first(store):
    store.save(snapshot(3, more=torch.ones(1)))

    assert store.newest()[1].keys() == {"weights", "more"}
    assert steps_of(store) == [3, 2, 1]


def test_the_summary_has_what_the_commands_print(store):
    manifest, _ = store.newest()

    assert manifest.summary() == {
        "step": 3,
        "epoch": 1,
        "model_version": 3,
        "learned": 57,
        "duplicates": 3,
        "dead_letters": 3,
        "offsets": {"events": {0: 30, 1: 33}},
        "state_sha256": f"{3:064x}",
    }


# --- crashes, full disks, lost power ---


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


# --- damage ---


def damaged_newest_is_noticed(store, what):
    """The newest is damaged: it says so loudly and the one before it is used."""
    path = next(store.paths())
    with pytest.raises(CheckpointDamaged, match=path.name) as damage:
        read_checkpoint(path)
    with capture_logs() as logs:
        found = store.newest()
    assert_is(found, 2)
    assert [(log["log_level"], log["path"]) for log in logs] == [("error", str(path))], what
    assert str(damage.value) == logs[0]["why"]


@pytest.mark.parametrize("name", [STATE_FILE, MANIFEST_FILE])
def test_a_byte_altered_anywhere_is_noticed_and_the_checkpoint_before_is_used(store, name):
    file = next(store.paths()) / name
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])

        damaged_newest_is_noticed(store, f"byte {place} of {name}")
    file.write_bytes(whole)
    assert_is(store.newest(), 3)


@pytest.mark.parametrize("name", [STATE_FILE, MANIFEST_FILE])
def test_a_file_cut_short_or_longer_is_noticed_and_the_checkpoint_before_is_used(store, name):
    file = next(store.paths()) / name
    whole = file.read_bytes()
    for torn in [*(whole[:length] for length in range(0, len(whole), 7)), whole[:-1], whole + b"\0", whole + b"\n"]:
        file.write_bytes(torn)

        damaged_newest_is_noticed(store, f"{len(torn)} bytes of {name}")


@pytest.mark.parametrize("name", [STATE_FILE, MANIFEST_FILE])
def test_a_missing_file_is_noticed_and_the_checkpoint_before_is_used(store, name):
    (next(store.paths()) / name).unlink()

    damaged_newest_is_noticed(store, name)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '{"manifest": 1}', '{"manifest": {}}', "\xff"])
def test_a_manifest_that_is_something_else_is_noticed(store, text):
    (next(store.paths()) / MANIFEST_FILE).write_text(text)

    damaged_newest_is_noticed(store, text[:20])


def test_files_of_two_checkpoints_are_not_mixed(store):
    newest, before, _ = store.paths()
    shutil.copy(before / STATE_FILE, newest / STATE_FILE)

    damaged_newest_is_noticed(store, "the state of another checkpoint")


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(store):
    (next(store.paths()) / STATE_FILE).unlink()
    store.newest()

    for step in (4, 5):
        store.save(snapshot(step))

    assert steps_of(store) == [5, 4, 3, 2], "three whole ones, and that of step 3 which is none"
    store.save(snapshot(6))
    assert steps_of(store) == [6, 5, 4]


def test_when_all_are_damaged_the_start_is_refused_and_each_is_named(store):
    paths = list(store.paths())
    for path in paths:
        (path / STATE_FILE).write_bytes(b"")

    with pytest.raises(CheckpointDamaged, match="none of the 3 checkpoints") as refusal:
        store.newest()

    assert all(str(path) in str(refusal.value) for path in paths)


def rewrite_manifest(path, change):
    """Write the manifest as another version would, its seal in order."""
    body = json.loads((path / MANIFEST_FILE).read_bytes())["manifest"]
    change(body)
    seal = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (path / MANIFEST_FILE).write_text(json.dumps({"sha256": seal, "manifest": body}, indent=1, sort_keys=True))


def other_format(body):
    body["format"] = FORMAT + 1


def other_format_with_other_fields(body):
    other_format(body)
    del body["offsets"]
    body["shards"] = []


@pytest.mark.parametrize("change", [other_format, other_format_with_other_fields])
def test_an_unknown_format_is_refused_and_nothing_older_used_instead(store, change):
    rewrite_manifest(next(store.paths()), change)

    with pytest.raises(CheckpointError, match=f"format {FORMAT + 1}; .* reads format {FORMAT}") as refusal:
        store.newest()

    assert not isinstance(refusal.value, CheckpointDamaged)


def test_a_field_of_the_wrong_type_under_a_right_seal_is_damage(store):
    rewrite_manifest(next(store.paths()), lambda body: body.update(step="three"))

    damaged_newest_is_noticed(store, "step")


def test_folders_with_other_names_are_not_looked_at(store):
    newest = next(store.paths())
    for name in ("step-x-epoch-y", f"{newest.name}.bak", f"{newest.name}-copy", "step-1", "notes"):
        shutil.copytree(newest, newest.with_name(name))
    newest.with_name("step-000000000099-epoch-000009").write_text("not a folder")

    assert [path.name for path in store.paths()] == [f"step-{step:012d}-epoch-000001" for step in (3, 2, 1)]
    store.release()
    assert restarted(store.folder) == 2


# --- one worker a folder, and its epoch ---


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


def restarted(folder):
    store = CheckpointStore(folder)
    epoch = store.acquire()
    store.release()
    return epoch


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


# --- no pickle ---


def test_no_source_loads_or_saves_by_pickle():
    assert len(SOURCES) > 30
    for path in SOURCES:
        text = path.read_text()
        for word in ("import pickle", "torch.load(", "torch.save(", "allow_pickle", "import marshal", "import shelve"):
            assert word not in text, f"{word} in {path}"


def test_a_pickle_in_the_place_of_the_state_is_not_run(store, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = next(store.paths())
    payload = pickle.dumps(Trap())
    (path / STATE_FILE).write_bytes(payload)
    rewrite_manifest(path, lambda body: body["files"].update({STATE_FILE: hashlib.sha256(payload).hexdigest()}))

    damaged_newest_is_noticed(store, "a pickle under a right seal")
    assert not (tmp_path / "ran").exists()


def test_the_first_epoch_of_a_folder_that_was_lost_is_above_those_before(tmp_path):
    before = CheckpointStore(tmp_path / "folder", first_epoch=1_700_000_000)
    epochs = [before.acquire()]
    before.release()
    epochs.append(before.acquire())
    before.release()
    shutil.rmtree(tmp_path / "folder")

    after = CheckpointStore(tmp_path / "folder", first_epoch=1_700_000_060)
    epochs.append(after.acquire())
    after.release()

    assert epochs == [1_700_000_000, 1_700_000_001, 1_700_000_060]
