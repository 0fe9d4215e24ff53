"""`headrace checkpoint show|verify`: what was saved. Only reads, so that a running worker is not disturbed."""

from typing import Any

from torch import Tensor

from consumer.checkpoint import (
    MODEL_PREFIX,
    CheckpointDamaged,
    CheckpointError,
    CheckpointStore,
    Manifest,
    read_checkpoint,
)
from consumer.config import Settings
from model.state import state_digest, under


def show(settings: Settings) -> dict[str, Any]:
    """What the newest checkpoint that verifies holds. CheckpointError where there is none."""
    return newest(settings)[0].summary()


def newest(settings: Settings) -> tuple[Manifest, dict[str, Tensor]]:
    """The newest checkpoint that verifies. CheckpointError where there is none."""
    found = _store(settings).newest()
    if found is None:
        raise _nothing_there(settings)
    return found


def verify(settings: Settings) -> dict[str, Any]:
    """Read every checkpoint and check every byte and the digest of the model's state.

    CheckpointDamaged, naming each one, where any does not verify. One that a running worker drops meanwhile is passed
    over.
    """
    verified, damages, is_any_dropped = [], [], False
    for path in _store(settings).paths():
        try:
            manifest, tensors = read_checkpoint(path)
            if state_digest(under(tensors, MODEL_PREFIX)) != manifest.state_sha256:
                raise CheckpointDamaged(f"{path}: the model's state does not have the digest that the manifest says")
            verified.append(manifest.step)
        except CheckpointDamaged as damage:
            if path.exists():
                damages.append(str(damage))
            else:
                is_any_dropped = True
    if is_any_dropped and not verified and not damages:
        return verify(settings)  # it was dropped for a newer one
    if damages:
        raise CheckpointDamaged("\n".join([*damages, f"{len(verified)} of {len(verified) + len(damages)} verify"]))
    if not verified:
        raise _nothing_there(settings)
    return {"checkpoint_dir": str(settings.checkpoint_dir), "verified": len(verified), "steps": verified}


def _store(settings: Settings) -> CheckpointStore:
    return CheckpointStore(settings.checkpoint_dir, settings.checkpoints_kept)


def _nothing_there(settings: Settings) -> CheckpointError:
    return CheckpointError(
        f"there is no checkpoint in {settings.checkpoint_dir}; --checkpoint-dir or HEADRACE_CHECKPOINT_DIR says where"
    )
