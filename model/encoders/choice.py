"""Encoders by name."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from model.encoders.autoencoder import AutoencoderReader, DenoisingEncoder
from model.encoders.cnn import ConvolutionReader
from model.encoders.cooccurrence import NoVector
from model.encoders.dnn import DnnEncoder
from model.encoders.interface import Encoder
from model.encoders.recency import RecencyEncoder
from model.encoders.recurrent import RecurrentReader
from model.encoders.traced import Reader, TracedEncoder
from model.encoders.transformer import AttentionReader

if TYPE_CHECKING:
    from model.settings import LearnerSettings

NETWORK_RATE = 0.01
"""Of the networks' Adagrad; an accumulator an element makes it fit any size of gradient (measured: docs/quality.md)."""
ATTENTION_RATE = 0.004
DENOISING = 0.02
"""Weight of a window's denoising loss; at a tenth it draws the items away from what the next item asks of them."""

Maker = Callable[["LearnerSettings", torch.device, torch.dtype], Encoder]


class Choice(NamedTuple):
    make: Maker
    counts_pairs: bool
    """Whether co-occurrence is part of the score."""
    reads_context: bool = False
    """Whether the context of a user's newest event is part of the user's vector."""
    width: int = 96
    """Of an item embedding, where none is asked for."""


def make_encoder(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> Encoder:
    return ENCODERS[settings.encoder].make(settings, device, dtype)


def _recency(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> RecencyEncoder:
    return RecencyEncoder(settings.width, settings.window, rate=settings.ranking.mix_rate, device=device, dtype=dtype)


def _dnn(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> DnnEncoder:
    return DnnEncoder(
        _recency(settings, device, dtype),
        settings.width,
        settings.hidden,
        rate=NETWORK_RATE,
        seed=settings.seed,
        device=device,
        dtype=dtype,
    )


def _traced(make_reader: Callable[["LearnerSettings"], Reader], rate: float = NETWORK_RATE) -> Maker:
    def make(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> TracedEncoder:
        return TracedEncoder(
            _recency(settings, device, dtype),
            partial(make_reader, settings),
            settings.width,
            settings.hidden,
            rate=rate,
            seed=settings.seed,
            device=device,
            dtype=dtype,
        )

    return make


def _recurrent(cell: type[nn.LSTM] | type[nn.GRU], settings: "LearnerSettings") -> RecurrentReader:
    return RecurrentReader(cell, settings.width, settings.hidden, min(settings.window, 20))


def _attention(settings: "LearnerSettings") -> AttentionReader:
    return AttentionReader(settings.width, min(settings.window, 32), blocks=1, heads=2)


def _convolutions(settings: "LearnerSettings") -> ConvolutionReader:
    return ConvolutionReader(settings.width, layers=min(settings.window.bit_length() - 1, 4))


def _autoencoder(settings: "LearnerSettings", device: torch.device, dtype: torch.dtype) -> DenoisingEncoder:
    return DenoisingEncoder(
        _recency(settings, device, dtype),
        lambda: AutoencoderReader(settings.width, max(settings.width // 2, 1), settings.window),
        settings.width,
        settings.hidden,
        denoising=DENOISING,
        rate=NETWORK_RATE,
        seed=settings.seed,
        device=device,
        dtype=dtype,
    )


ENCODERS: dict[str, Choice] = {
    "blend": Choice(_dnn, counts_pairs=True),
    "recency": Choice(_recency, counts_pairs=False, width=48),
    "dnn": Choice(_dnn, counts_pairs=False, reads_context=True),
    "lstm": Choice(_traced(partial(_recurrent, nn.LSTM)), counts_pairs=False),
    "gru": Choice(_traced(partial(_recurrent, nn.GRU)), counts_pairs=False),
    "transformer": Choice(_traced(_attention, rate=ATTENTION_RATE), counts_pairs=False),
    "cnn": Choice(_traced(_convolutions), counts_pairs=False),
    "autoencoder": Choice(_autoencoder, counts_pairs=False),
    "cooccurrence": Choice(lambda *_: NoVector(), counts_pairs=True),
}
