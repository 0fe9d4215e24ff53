"""Windows, items and encoders for the tests of the encoders."""

import numpy as np
import torch

from model.encoders.choice import make_encoder
from model.settings import LearnerSettings
from model.windows import GAP_BUCKETS, KINDS, LENGTH_BUCKETS, Windows

WIDTH, WINDOW, HIDDEN = 6, 5, 7
CPU = torch.device("cpu")
HISTORIES = [[3, 1, 4, 1, 5], [2], [], [0, 3], [5, 5, 5, 2], [7, 6, 5, 4]]
STRANGER = HISTORIES.index([])


def settings(name, **others):
    return LearnerSettings(encoder=name, **{"width": WIDTH, "window": WINDOW, "hidden": HIDDEN, **others})


def new(name, *, device=CPU, dtype=torch.float64, **others):
    """The encoder of that name, as it starts."""
    return make_encoder(settings(name, **others), device, dtype)


def used(name, *, seed=5, **others):
    """The same after it has left its start: no parameter is zero any more."""
    encoder = new(name, **others)
    generator = torch.Generator().manual_seed(seed)
    state = {part: value.clone() for part, value in encoder.state().items()}
    for part in encoder.gradients():
        noise = torch.randn(state[part].shape, generator=generator, dtype=torch.float64)
        state[part] += 0.3 * noise.to(state[part])
    encoder.load(state)
    return encoder


def make_windows(histories=HISTORIES, width=WINDOW, seed=3, *, bare=False):
    """Windows of these items, newest first; the same history has the same gaps and kinds, drawn, or `bare` none."""
    made = Windows(
        np.full((len(histories), width), -1, dtype=np.int32),
        np.zeros((len(histories), width), dtype=np.int8),
        np.zeros((len(histories), width), dtype=np.int8),
        np.array([min(len(history), LENGTH_BUCKETS - 1) for history in histories], dtype=np.int8),
    )
    for place, history in enumerate(histories):
        draw = np.random.default_rng([seed, *history])
        filled = slice(0, len(history[:width]))
        made.items_BW[place, filled] = history[:width]
        if bare:
            continue
        made.gaps_BW[place, filled] = np.sort(draw.integers(GAP_BUCKETS, size=len(history)))[filled]
        made.kinds_BW[place, filled] = draw.integers(KINDS, size=len(history))[filled]
    return made


def many_histories(size, items, longest, seed=4):
    draw = np.random.default_rng(seed)
    return [draw.integers(items, size=draw.integers(longest + 1)).tolist() for _ in range(size)]


def make_items(rows=8, width=WIDTH, dtype=torch.float64, seed=1):
    return torch.randn((rows, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def numerical_gradient(loss, value, step=1e-6):
    """d loss() / d value by central differences; `value` is changed in place and put back."""
    gradient, flat = torch.zeros_like(value), value.view(-1)
    for place in range(len(flat)):
        before = flat[place].item()
        flat[place] = before + step
        above = loss()
        flat[place] = before - step
        below = loss()
        flat[place] = before
        gradient.view(-1)[place] = (above - below) / (2 * step)
    return gradient
