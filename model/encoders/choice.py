"""Encoders by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from model.encoders.dnn import DnnEncoder
from model.encoders.interface import Encoder
from model.encoders.recency import RecencyEncoder

if TYPE_CHECKING:
    from model.learner import LearnerSettings

Maker = Callable[["LearnerSettings", torch.device, torch.dtype], Encoder]


class Choice(NamedTuple):
    make: Maker
    counts_pairs: bool
    """Whether co-occurrence is part of the score."""


def make_encoder(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> Encoder:
    return ENCODERS[settings.encoder].make(settings, device, dtype)


def _recency(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> RecencyEncoder:
    return RecencyEncoder(settings.width, settings.window, rate=settings.ranking.mix_rate, device=device, dtype=dtype)


def _dnn(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> DnnEncoder:
    return DnnEncoder(
        _recency(settings, device, dtype),
        settings.width,
        settings.hidden,
        rate=0.01,
        seed=settings.seed,
        device=device,
        dtype=dtype,
    )


ENCODERS: dict[str, Choice] = {
    "blend": Choice(_dnn, counts_pairs=True),
    "recency": Choice(_recency, counts_pairs=False),
    "dnn": Choice(_dnn, counts_pairs=False),
}
