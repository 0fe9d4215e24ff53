"""LSTM and GRU over the last W items, oldest first, in the manner of GRU4Rec (Hidasi et al. 2016).

LSTM: Hochreiter and Schmidhuber 1997. GRU: Cho et al. 2014. What the recurrence holds after the newest item is the
summary; how it changes the recency sums: `model.encoders.traced`.
"""

import torch
from torch import Tensor, nn

from model.encoders.traced import Reader, Reading
from model.windows import GAP_BUCKETS, KINDS


class RecurrentReader(Reader):
    """`cell` is nn.LSTM or nn.GRU. A step reads an item, its time before the newest, and what the interaction was."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], width: int, units: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.summary_width = units
        self.gaps = nn.Embedding(GAP_BUCKETS, width)
        self.kinds = nn.Embedding(KINDS, width)
        self.cell = cell(width, units, batch_first=True)

    def forward(self, reading: Reading) -> Tensor:
        filled_BW1 = reading.filled_BW[:, :, None]
        steps_BWD = reading.items_BWD + self.gaps(reading.gaps_BW) + self.kinds(reading.kinds_BW)
        # filled places to the front, oldest first: what follows the newest item is never read
        counts_B1 = reading.filled_BW.sum(1, keepdim=True)
        ages_BW = (counts_B1 - 1 - torch.arange(reading.filled_BW.shape[1], device=counts_B1.device)).clamp(min=0)
        oldest_first_BWD = (steps_BWD * filled_BW1).gather(1, ages_BW[:, :, None].expand_as(steps_BWD))
        states_BWH, _ = self.cell(oldest_first_BWD)
        newest_B1H = (counts_B1 - 1).clamp(min=0)[:, :, None].expand(-1, 1, self.summary_width)
        summary_BH: Tensor = states_BWH.gather(1, newest_B1H)[:, 0] * (counts_B1 > 0)
        return summary_BH
