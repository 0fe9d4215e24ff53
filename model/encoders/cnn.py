"""Dilated causal convolutions over the last W items, in the manner of NextItNet (Yuan et al. 2019).

Layer l joins each place with the one 2^l items older: x(t) + relu(A x(t) + B x(t - 2^l) + c). Only the newest place
is asked for the summary, so each layer computes every second place of the one before, W - 1 joints in all. How the
summary changes the recency sums: `model.encoders.traced`.
"""

from torch import Tensor, nn

from model.encoders.traced import Reader, Reading
from model.windows import GAP_BUCKETS, KINDS


class ConvolutionReader(Reader):
    """`layers` layers, so the last 2^layers items."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.window = 2**layers
        self.summary_width = width
        self.gaps = nn.Embedding(GAP_BUCKETS, width)
        self.kinds = nn.Embedding(KINDS, width)
        self.joints = nn.ModuleList(nn.Conv1d(width, width, kernel_size=2, stride=2) for _ in range(layers))
        self.after = nn.LayerNorm(width)

    def forward(self, reading: Reading) -> Tensor:
        filled_B1W = reading.filled_BW[:, None, :]
        places_BWD = reading.items_BWD + self.gaps(reading.gaps_BW) + self.kinds(reading.kinds_BW)
        places_BDW = places_BWD.transpose(1, 2) * filled_B1W
        missing = self.window - filled_B1W.shape[2]
        places_BDW = nn.functional.pad(places_BDW, (0, missing))
        filled_B1W = nn.functional.pad(filled_B1W, (0, missing))
        for joint in self.joints:
            filled_B1W = filled_B1W[:, :, ::2]
            places_BDW = (places_BDW[:, :, ::2] + joint(places_BDW).relu()) * filled_B1W
        summary_BD: Tensor = self.after(places_BDW[:, :, 0])
        return summary_BD
