"""Causal self-attention over the last W items, in the manner of SASRec (Kang and McAuley 2018).

Positions and time gaps (TiSASRec, Li et al. 2020) are embeddings added to the items. Only the newest place is asked
for the summary, so the last layer computes that one alone. How it changes the recency sums: `model.encoders.traced`.
"""

import torch
from torch import Tensor, nn

from model.encoders.traced import Reader, Reading
from model.windows import GAP_BUCKETS, KINDS


class Block(nn.Module):
    """Attention, then a layer of relu units, each normalised before and added to what came in (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.joined = nn.Linear(width, width, bias=False)
        self.before_units = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, places_BWD: Tensor, allowed_B1WW: Tensor, newest: int) -> Tensor:
        """The first `newest` places after this block; `allowed_B1WW` says who attends to whom."""
        normed_BWD = self.before_attention(places_BWD)
        queries = self._by_head(self.query(normed_BWD[:, :newest]))
        keys, values = (self._by_head(part) for part in self.key_value(normed_BWD).chunk(2, 2))
        attended = nn.functional.scaled_dot_product_attention(queries, keys, values, allowed_B1WW[:, :, :newest])
        here_BWD = places_BWD[:, :newest] + self.joined(attended.transpose(1, 2).flatten(2))
        units_BWX = torch.relu(self.up(self.before_units(here_BWD)))
        after_BWD: Tensor = here_BWD + self.down(units_BWX)
        return after_BWD

    def _by_head(self, places_BWD: Tensor) -> Tensor:
        size, window, width = places_BWD.shape
        return places_BWD.view(size, window, self.heads, width // self.heads).transpose(1, 2)


class AttentionReader(Reader):
    """`blocks` blocks of `heads` heads; a learned first place, older than all, stands for a history not yet begun."""

    def __init__(self, width: int, window: int, *, blocks: int, heads: int) -> None:
        super().__init__()
        self.window = window
        self.summary_width = width
        self.ages = nn.Embedding(window, width)
        self.gaps = nn.Embedding(GAP_BUCKETS, width)
        self.kinds = nn.Embedding(KINDS, width)
        self.beginning = nn.Embedding(1, width)
        heads = heads if width % heads == 0 else 1
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.after = nn.LayerNorm(width)

    def forward(self, reading: Reading) -> Tensor:
        size, window = reading.filled_BW.shape
        places_BWD = reading.items_BWD + self.gaps(reading.gaps_BW) + self.kinds(reading.kinds_BW)
        places_BWD = (places_BWD + self.ages.weight[:window]) * reading.filled_BW[:, :, None]
        places_BWD = torch.cat((places_BWD, self.beginning.weight.expand(size, 1, -1)), 1)
        filled_BW = torch.cat((reading.filled_BW, reading.filled_BW.new_ones((size, 1))), 1)
        older_WW = torch.ones((window + 1, window + 1), dtype=torch.bool, device=filled_BW.device).triu()
        allowed_B1WW = (filled_BW[:, None, :] & older_WW)[:, None]
        for number, block in enumerate(self.blocks, 1):
            places_BWD = block(places_BWD, allowed_B1WW, 1 if number == len(self.blocks) else window + 1)
        summary_BD: Tensor = self.after(places_BWD[:, 0])
        return summary_BD
