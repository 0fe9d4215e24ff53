"""What a whole state is asked: its digest, its parts, and whether it was saved under the same settings."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.ragged import Part, Ragged

Value = TypeVar("Value")


def on_cpu(value: Tensor) -> NDArray[Any]:
    """The numbers of a tensor: a view where they lie on the CPU."""
    array: NDArray[Any] = value.detach().cpu().numpy()
    return array


def tensors_of(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """What is saved of parts that nothing moves; lists are put end to end, those of a table in its own memory."""
    return {
        name: torch.from_numpy(part.packed(in_place=True) if isinstance(part, Ragged) else part)
        for name, part in parts.items()
    }


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes in the order of the names: equal states, equal digests."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu()
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}\n".encode())
        digest.update(as_bytes(value))
    return digest.hexdigest()


def as_bytes(value: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, in the order of its last axis: a view where it is contiguous."""
    flat = value.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def under(state: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """What stands in a state under names with this prefix, by the rest of the name."""
    return {name.removeprefix(prefix): part for name, part in state.items() if name.startswith(prefix)}


def settings_as_bytes(settings: Mapping[str, object]) -> NDArray[np.uint8]:
    """Settings as an array that can stand in a state: JSON, names in order."""
    return np.frombuffer(json.dumps(settings, sort_keys=True).encode(), dtype=np.uint8)


NOT_ALWAYS_SAVED: Mapping[str, object] = {"rating_model": "neighbours"}
"""Settings that came later, and what a state that does not name them was made with."""


class OtherSettings(ValueError):
    """A state was saved under other settings than ours."""

    def __init__(self, differing: Mapping[str, tuple[object, object]]) -> None:
        """`differing`: theirs and ours, by the name of the setting."""
        self.differing = differing
        named = [f"{name} (saved {theirs}, now {ours})" for name, (theirs, ours) in differing.items()]
        super().__init__(f"the saved model was made with other settings: {', '.join(named)}")


def refuse_other_settings(saved: Tensor, ours: Mapping[str, object]) -> None:
    """OtherSettings naming each setting in which a saved state (`settings_as_bytes`) differs from ours."""
    named: dict[str, object] = json.loads(saved.numpy().tobytes())
    theirs = {**{name: value for name, value in NOT_ALWAYS_SAVED.items() if name in ours}, **named}
    differing = {
        name: (theirs.get(name), ours.get(name))
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    }
    if differing:
        raise OtherSettings(differing)
