"""A checkpoint comes back as it was saved; a damaged one is noticed and the one before it used."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_cases import assert_is, restarted, snapshot, steps_of
from safetensors import safe_open
from structlog.testing import capture_logs

from consumer.checkpoint import (
    FORMAT,
    MANIFEST_FILE,
    STATE_FILE,
    CheckpointDamaged,
    CheckpointError,
    CheckpointStore,
    read_checkpoint,
    read_manifest,
)

SOURCES = [
    path
    for package in ("consumer", "producer", "model")
    for path in Path(__file__).parents[1].glob(f"{package}/**/*.py")
]


pytestmark = pytest.mark.usefixtures("quick_disk")


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
    torch.int16,
    torch.int8,
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
    assert int.from_bytes(file.read_bytes()[:8], "little") % 8 == 0, "tensors begin where eight bytes do"
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


def test_the_newest_manifest_is_read_without_the_rest_and_a_damaged_one_passed_over(open_store, tmp_path):
    store = open_store(tmp_path)
    assert store.newest_manifest() is None
    store.acquire()
    for step in (1, 2, 3):
        store.save(snapshot(step))
    newest, before, *_ = store.paths()
    (before / STATE_FILE).unlink()
    (newest / MANIFEST_FILE).write_text("{}")

    assert store.newest_manifest().step == 2
