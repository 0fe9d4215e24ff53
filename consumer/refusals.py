"""Why a saved state cannot be gone on with, or not be written, in the words of the settings that decide it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from consumer.checkpoint import CheckpointError
from model.state import OtherSettings

SET_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "encoder": ("encoder",),
    "width": ("encoder", "embedding_dim"),
    "rating_model": ("rating_model",),
    "rating_width": ("rating_dim",),
    "window": ("history_window",),
    "depth": ("history_window",),
    "rating_min": ("rating_min",),
    "rating_max": ("rating_max",),
    "seed": ("seed",),
    "optimizer": ("optimizer",),
}
"""What binds a saved model, by the model's name for it -> the settings that it follows from."""


@contextmanager
def disk_errors_told(folder: Path, kept: int) -> Iterator[None]:
    """CheckpointError for what the disk of this folder refuses; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        where = Path(error.filename)
        if not where.is_relative_to(folder) and not folder.is_relative_to(where):
            raise
        raise CheckpointError(
            f"{where}: {error.strerror}. The worker has to be able to write to HEADRACE_CHECKPOINT_DIR ({folder}), and "
            f"needs room there for one checkpoint more than HEADRACE_CHECKPOINTS_KEPT (now {kept}). Mend that and "
            "start it again: it goes on from its newest checkpoint and loses no event"
        ) from error


def other_settings(
    error: OtherSettings, saved: Mapping[str, Any], now: Mapping[str, Any], folder: Path
) -> CheckpointError:
    """The error for a checkpoint whose settings (`saved`, by our names for them) are not those of `now`."""
    changed: dict[str, str] = {}
    for name, (theirs, ours) in error.differing.items():
        settings = [one for one in SET_BY.get(name, ()) if saved.get(one) != now[one]]
        changed.update({one: f"HEADRACE_{one.upper()} (was {saved.get(one)}, is {now[one]})" for one in settings})
        if not settings:
            changed[name] = f"{name} (was {theirs}, is {ours}; no setting: take the version that saved it)"
    return CheckpointError(
        f"the checkpoint in {folder} was made with other settings: {', '.join(changed.values())}. Set them back to "
        "go on from it. To begin anew, give the worker another folder (HEADRACE_CHECKPOINT_DIR) and start it "
        "with --reset earliest: it learns again what the topic still holds, and nothing before that"
    )
