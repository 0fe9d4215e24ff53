"""What stands between a worker and its saved state is told with the names of the settings."""

import errno
from pathlib import Path

import pytest
import torch

from consumer.checkpoint import CheckpointError
from consumer.config import load, setting_names
from consumer.modelling import learner_settings
from consumer.refusals import SET_BY, disk_errors_told, other_settings
from model.state import OtherSettings

FOLDER = Path("/var/lib/headrace")


def refused(path: str | None, number: int = errno.ENOSPC) -> None:
    raise OSError(number, "No space left on device", path)


@pytest.mark.parametrize("path", ["/var/lib/headrace/checkpoints/unfinished-x/state.safetensors", "/var/lib/headrace"])
def test_what_the_disk_refuses_names_the_path_and_the_setting(path: str) -> None:
    with (
        pytest.raises(CheckpointError, match=rf"^{path}: No space left on device\. .*HEADRACE_CHECKPOINT_DIR"),
        disk_errors_told(FOLDER, 3),
    ):
        refused(path)


def test_a_folder_above_that_cannot_be_made_is_of_the_same_kind() -> None:
    with pytest.raises(CheckpointError, match=r"^/var: .* \(/var/lib/headrace\)"), disk_errors_told(FOLDER, 3):
        refused("/var", errno.EACCES)


@pytest.mark.parametrize("path", [None, "/somewhere/else"])
def test_other_errors_pass(path: str | None) -> None:
    with pytest.raises(OSError, match="No space"), disk_errors_told(FOLDER, 3):
        refused(path)


def message(saved: dict[str, object], now: dict[str, object]) -> str:
    """What is said of a checkpoint that was made with `saved`, by a worker that is given `now`."""
    theirs, ours = load(saved, environment={}), load(now, environment={})
    theirs_bind = learner_settings(theirs).that_bind(torch.float32)
    differing = {
        name: (theirs_bind[name], value)
        for name, value in learner_settings(ours).that_bind(torch.float32).items()
        if theirs_bind[name] != value
    }
    return str(other_settings(OtherSettings(differing), theirs.shown(), ours.shown(), FOLDER))


def test_changed_settings_are_told_by_their_variables_and_with_both_ways_out() -> None:
    told = message({"history_window": 50, "seed": 1}, {"history_window": 10, "seed": 2})

    assert told.startswith(
        "the checkpoint in /var/lib/headrace was made with other settings: HEADRACE_HISTORY_WINDOW (was 50, is 10), "
        "HEADRACE_SEED (was 1, is 2). Set them back to go on from it"
    )
    assert "HEADRACE_CHECKPOINT_DIR" in told
    assert "--reset earliest" in told


def test_what_follows_from_another_setting_is_told_by_that_one_alone() -> None:
    told = message({"encoder": "recency"}, {"encoder": "blend"})

    assert "HEADRACE_ENCODER (was recency, is blend). Set" in told
    assert "HEADRACE_EMBEDDING_DIM" not in told


def test_what_no_setting_changes_is_told_as_such() -> None:
    settings = load({}, environment={}).shown()

    told = str(other_settings(OtherSettings({"hidden": (64, 96)}), settings, settings, FOLDER))

    assert "hidden (was 64, is 96; no setting" in told


def test_everything_that_binds_a_model_is_either_set_by_settings_that_exist_or_by_none() -> None:
    binding = learner_settings(load({}, environment={})).that_bind(torch.float32)

    assert set(binding) - set(SET_BY) == {"hidden", "dtype"}
    assert {name for names in SET_BY.values() for name in names} <= set(setting_names())
