"""`checkpoint show` and `verify`, on checkpoints written as the worker writes them."""

import hashlib
import itertools
import json

import pytest
import torch

from consumer.checkpoint import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointStore,
    Counts,
    Snapshot,
    read_checkpoint,
)
from consumer.commands import checkpoint
from consumer.config import Settings
from model.state import state_digest


@pytest.fixture
def settings(tmp_path):
    return Settings(checkpoint_dir=tmp_path / "state")


@pytest.fixture
def store(settings):
    store = CheckpointStore(settings.checkpoint_dir, 3)
    store.acquire()
    yield store
    store.release()


def save(store, step, *, digest=None):
    model = {"weights": torch.full((2, 3), float(step))}
    store.save(
        Snapshot(
            step=step,
            model_version=step - 1,
            offsets={"recs.events.v1": {0: 10 * step, 1: 5}},
            counts=Counts(learned=9, duplicates=2, dead_letters=1),
            settings={"k": 20},
            state_sha256=digest or state_digest(model),
            tensors={"model.weights": model["weights"], "ids.0.bytes": torch.zeros(3, dtype=torch.uint8)},
        )
    )


def damage(store, which):
    """Change one byte of the state of a checkpoint, 0 the newest."""
    file = list(store.paths())[which] / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_the_newest_checkpoint_is_shown_also_while_a_worker_holds_the_folder(settings, store):
    save(store, 4)
    save(store, 7)

    shown = checkpoint.show(settings)

    assert {
        name: shown[name] for name in ("step", "epoch", "model_version", "learned", "duplicates", "dead_letters")
    } == {
        "step": 7,
        "epoch": 1,
        "model_version": 6,
        "learned": 9,
        "duplicates": 2,
        "dead_letters": 1,
    }
    assert shown["offsets"] == {"recs.events.v1": {0: 70, 1: 5}}
    assert shown["state_sha256"] == state_digest({"weights": torch.full((2, 3), 7.0)})


def test_a_damaged_checkpoint_is_passed_over_when_showing(settings, store):
    save(store, 4)
    save(store, 7)
    damage(store, 0)

    assert checkpoint.show(settings)["step"] == 4


@pytest.fixture
def worker_saves_meanwhile(store, monkeypatch):
    """A function that has these steps saved, each right before a checkpoint is read."""

    def set_up(steps):
        waiting, read = iter(steps), read_checkpoint

        def save_and_read(path):
            for step in itertools.islice(waiting, 1):
                save(store, step)
            return read(path)

        monkeypatch.setattr("consumer.checkpoint.read_checkpoint", save_and_read)
        monkeypatch.setattr(checkpoint, "read_checkpoint", save_and_read)

    return set_up


def test_a_checkpoint_that_a_worker_drops_meanwhile_is_passed_over(settings, store, worker_saves_meanwhile):
    for step in (1, 2, 3):
        save(store, step)
    worker_saves_meanwhile([4])

    assert checkpoint.verify(settings)["steps"] == [3, 2]


@pytest.mark.parametrize("ask", [checkpoint.show, checkpoint.verify])
def test_where_the_only_checkpoint_is_dropped_meanwhile_the_one_that_replaced_it_is_read(
    ask, settings, store, worker_saves_meanwhile
):
    store.kept = 1
    save(store, 1)
    worker_saves_meanwhile([2, 3])

    answer = ask(settings)

    assert answer.get("step", answer.get("steps")) in (3, [3])


@pytest.mark.parametrize("ask", [checkpoint.show, checkpoint.verify])
def test_where_there_is_no_checkpoint_that_is_an_error_that_says_where_it_looked(ask, settings):
    with pytest.raises(CheckpointError, match=rf"no checkpoint in {settings.checkpoint_dir}; --checkpoint-dir"):
        ask(settings)

    assert not settings.checkpoint_dir.exists()


def test_whole_checkpoints_verify(settings, store):
    save(store, 4)
    save(store, 7)

    answer = checkpoint.verify(settings)

    assert answer == {"checkpoint_dir": str(settings.checkpoint_dir), "verified": 2, "steps": [7, 4]}


def test_one_damaged_among_whole_ones_fails_and_is_named(settings, store):
    save(store, 4)
    save(store, 7)
    damage(store, 1)

    with pytest.raises(CheckpointDamaged, match=r"step-0*4-.*SHA-256(.|\n)*1 of 2 verify"):
        checkpoint.verify(settings)


def test_a_state_that_is_not_the_one_of_the_digest_does_not_verify(settings, store):
    save(store, 4, digest=hashlib.sha256(b"another").hexdigest())

    with pytest.raises(CheckpointDamaged, match="does not have the digest"):
        checkpoint.verify(settings)


def test_a_manifest_that_is_gone_does_not_verify(settings, store):
    save(store, 4)
    (next(store.paths()) / "manifest.json").unlink()

    with pytest.raises(CheckpointDamaged, match=r"manifest\.json"):
        checkpoint.verify(settings)


def test_what_is_shown_is_plain_json(settings, store):
    save(store, 4)

    assert json.loads(json.dumps(checkpoint.show(settings)))["offsets"]["recs.events.v1"]["0"] == 40
