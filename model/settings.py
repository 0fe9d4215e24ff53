"""What makes two learners different: every setting of the model, and which of them a saved state is bound to."""

from dataclasses import dataclass, field

import torch

from model.content import ContentSettings
from model.cooccurrence import CooccurrenceSettings
from model.drift import DriftSettings
from model.encoders.choice import ENCODERS
from model.factors import FactorRates
from model.ranking import RankingRates
from model.ratings import RatingRates
from model.user_content import UserContentSettings


@dataclass(frozen=True)
class LearnerSettings:
    """What makes two learners different; equal settings, seed and stream give equal states."""

    encoder: str = "blend"
    width: int = 0
    """Width of an item embedding; where 0 is given it becomes the encoder's own (`model.encoders.choice`)."""
    rating_model: str = "neighbours"
    """Which model predicts ratings (`model.rating_choice`)."""
    rating_width: int = 16
    window: int = 50
    """Last items that the encoder reads."""
    hidden: int = 64
    """Units of a network's hidden layer."""
    depth: int = 64
    """Last interactions kept a user."""
    most_seen: int = 4096
    rating_min: float = 0.5
    rating_max: float = 5.0
    ranked_share: float | None = 1.0
    """Share of the users whose events are ranked before they are learned. None: all of them where the full softmax
    ranks them anyway, and in larger catalogues as many as add little to the cost of an event
    (`model.learner.RANKED_ITEMS`)."""
    allow_repeats: bool = False
    """Items the user has seen stay candidates."""
    strictly_before: bool = False
    """Rank from history before the event's own millisecond only: for honest tests on coarse clocks. Texts, contexts and
    predictions of ratings know all earlier events."""
    smallest_piece: int = 16
    """A young model learns larger batches in pieces: of so many interactions, or a share of those before."""
    max_users: int = 0
    """Users that are kept; of more the idle ones are given back (`model.idle`). 0: everybody."""
    max_items: int = 0
    """Items that are kept; of more the idle ones leave (`model.leaving`). 0: all of them."""
    seed: int = 0
    ranking: RankingRates = field(default_factory=RankingRates)
    cooccurrence: CooccurrenceSettings = field(default_factory=CooccurrenceSettings)
    ratings: RatingRates = field(default_factory=RatingRates)
    factors: FactorRates = field(default_factory=FactorRates)
    content: ContentSettings = field(default_factory=ContentSettings)
    user_content: UserContentSettings = field(default_factory=UserContentSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)

    def __post_init__(self) -> None:
        if self.width == 0 and self.encoder in ENCODERS:
            object.__setattr__(self, "width", ENCODERS[self.encoder].width)  # frozen, but not before it is whole

    def that_bind(self, dtype: torch.dtype) -> dict[str, object]:
        """The settings without which a saved state, of numbers of this type, has no meaning."""
        return {
            "encoder": self.encoder,
            "width": self.width,
            "rating_model": self.rating_model,
            "rating_width": self.rating_width,
            "depth": self.depth,
            "window": self.window,
            "hidden": self.hidden,
            "rating_min": float(self.rating_min),
            "rating_max": float(self.rating_max),
            "seed": self.seed,
            "optimizer": self.ranking.optimizer,
            "dtype": str(dtype),
        }
