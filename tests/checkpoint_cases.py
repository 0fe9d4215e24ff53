"""Checkpoints whose every part tells their step, and stores that let go of their folder at the end."""

from collections.abc import Callable, Iterator

import torch

from consumer.checkpoint import CheckpointStore, Counts, Snapshot, read_manifest


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


def steps_of(store):
    return [read_manifest(path).step for path in store.paths()]


def restarted(folder):
    store = CheckpointStore(folder)
    epoch = store.acquire()
    store.release()
    return epoch


def stores_opened() -> Iterator[Callable[..., CheckpointStore]]:
    """A function that makes a store; all let go of their folders at the end."""
    made = []

    def make(folder, kept=3):
        made.append(CheckpointStore(folder, kept))
        return made[-1]

    yield make

    for store in made:
        store.release()


def saved_thrice(store: CheckpointStore) -> CheckpointStore:
    """The store, acquired, with the checkpoints of steps 1, 2 and 3."""
    store.acquire()
    for step in (1, 2, 3):
        store.save(snapshot(step))
    return store
