"""A denoising autoencoder of the window (Vincent et al. 2008; as a recommender Wu et al. 2016, Liang et al. 2018).

The mean of the window's items, whatever their order, goes through a narrow layer of tanh units and comes out as a
vector in the space of the items, the summary of `model.encoders.traced`. Beside the stream's own loss the network
learns to denoise: half of each window is hidden, and from the rest it must tell the hidden items from all others of
the batch's windows, by the softmax over summary . item.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from model.encoders.interface import Encoded
from model.encoders.recency import RecencyEncoder
from model.encoders.traced import Reader, Reading, TracedEncoder, read
from model.windows import Windows

HIDDEN_SHARE = 0.5
MOST_CANDIDATES = 1024
"""Items, drawn from those in the windows, among which the hidden ones are to be found."""


class AutoencoderReader(Reader):
    """Mean -> `units` tanh units -> vector."""

    def __init__(self, width: int, units: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.summary_width = width
        self.narrow = nn.Linear(width, units)
        self.wide = nn.Linear(units, width)

    def forward(self, reading: Reading) -> Tensor:
        counts_B1 = reading.filled_BW.sum(1, keepdim=True).clamp(min=1)
        filled_BW1 = reading.filled_BW[:, :, None]
        # the root, not the count: a long history says more (Liang et al. normalise to length 1 as well)
        pooled_BD = (reading.items_BWD * filled_BW1).sum(1) / counts_B1.sqrt()
        summary_BD: Tensor = self.wide(torch.tanh(self.narrow(pooled_BD)))
        return summary_BD


class DenoisingEncoder(TracedEncoder):
    """A traced encoder that also learns to denoise, with weight `denoising` a window beside 1 for an interaction."""

    def __init__(
        self,
        recency: RecencyEncoder,
        make_reader: Callable[[], AutoencoderReader],
        width: int,
        hidden: int,
        *,
        denoising: float,
        rate: float,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(recency, make_reader, width, hidden, rate=rate, seed=seed, device=device, dtype=dtype)
        self.denoising = denoising
        self._seed = seed
        self._steps = torch.zeros(1, dtype=torch.int64)

    def trace(self, windows: Windows, items_ID: Tensor) -> Encoded:
        users_BD, pull_users_back = super().trace(windows, items_ID)

        def pull_back(gradient_BD: Tensor, gradient_ID: Tensor) -> None:
            pull_users_back(gradient_BD, gradient_ID)
            self.denoise(windows, items_ID, gradient_ID)

        return Encoded(users_BD, pull_back)

    def denoise(self, windows: Windows, items_ID: Tensor, gradient_ID: Tensor) -> float:
        """The denoising loss of these windows, a function of seed and step; its gradients are added and kept."""
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, int(self._steps)])))
        reading, rows_BW = read(windows, self.network.reader.window, items_ID)
        candidates_C = self._candidates(rows_BW, draw)
        hidden_BW = torch.from_numpy(draw.random(rows_BW.shape) < HIDDEN_SHARE).to(rows_BW.device) & reading.filled_BW
        kept_BW = reading.filled_BW & ~hidden_BW
        places_BW = torch.searchsorted(candidates_C, rows_BW).clamp(max=max(len(candidates_C) - 1, 0))
        is_candidate_BW = torch.zeros_like(hidden_BW)
        if len(candidates_C):
            is_candidate_BW = candidates_C[places_BW] == rows_BW
        shown_BC = torch.zeros((len(rows_BW), len(candidates_C)), dtype=torch.bool, device=rows_BW.device)
        events, ages = torch.nonzero(kept_BW & is_candidate_BW, as_tuple=True)
        shown_BC[events, places_BW[events, ages]] = True
        events, ages = torch.nonzero(hidden_BW & is_candidate_BW, as_tuple=True)
        is_target = ~shown_BC[events, places_BW[events, ages]]  # an item met twice may be hidden and shown
        events, ages = events[is_target], ages[is_target]
        if not len(events):
            return 0.0
        with torch.enable_grad():
            items_BWD = reading.items_BWD.requires_grad_()
            candidates_CD = items_ID[candidates_C].requires_grad_()
            summary_BD = self.network.reader(reading._replace(items_BWD=items_BWD, filled_BW=kept_BW))
            logits_BC = (summary_BD @ candidates_CD.T).masked_fill(shown_BC, -torch.inf)
            with_target, of_event = torch.unique(events, return_inverse=True)
            log_p_TC = torch.log_softmax(logits_BC[with_target], 1)
            targets_T = torch.bincount(of_event).to(items_ID)
            losses = -log_p_TC[of_event, places_BW[events, ages]] / targets_T[of_event]
            loss = self.denoising * losses.sum()
        by_items_BWD, by_candidates_CD = self.keep(loss, [items_BWD, candidates_CD], None)
        gradient_ID.index_add_(0, candidates_C, by_candidates_CD)
        gradient_ID.index_add_(0, rows_BW[reading.filled_BW], by_items_BWD[reading.filled_BW])
        return loss.item()

    def step(self) -> None:
        super().step()
        self._steps += 1

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "steps": self._steps}

    def load(self, state: dict[str, Tensor]) -> None:
        super().load(state)
        self._steps.copy_(state["steps"])

    @staticmethod
    def _candidates(rows_BW: Tensor, draw: np.random.Generator) -> Tensor:
        """Rows in the windows, each once, ascending: all of them, or as many as are allowed."""
        distinct: Tensor = torch.unique(rows_BW[rows_BW >= 0])
        if len(distinct) > MOST_CANDIDATES:
            drawn = np.sort(draw.choice(len(distinct), MOST_CANDIDATES, replace=False, shuffle=False))
            distinct = distinct[torch.from_numpy(drawn).to(distinct.device)]
        return distinct
