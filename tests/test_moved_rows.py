"""Whatever happens in a stream, a step names what it moves, and a copy made beside steps is the state of one moment."""

from itertools import product

import numpy as np
import pytest
from streams import assert_nothing_else_moved, grown_parts, random_stream, small_learner

from consumer.precopy import CopyMemory, Precopies
from model import growth, leaving
from model.drift import DriftSettings
from model.encoders.choice import ENCODERS
from model.entries import ItemContent
from model.factors import FactorRates
from model.interactions import Interaction
from model.ranking import RankingRates
from model.ratings import RatingRates
from model.state import state_digest, tensors_of

NOTHING = np.zeros(0, dtype=np.int64)
NONE_MOVED = {"user": NOTHING, "item": NOTHING}


class Copying:
    """Makes one copy after the other as `consumer.progress` does, a few bytes between two steps."""

    def __init__(self, learner, piece_bytes):
        self.learner, self.memory = learner, CopyMemory()
        self.precopies = Precopies(self.memory, learner.growing_parts(), piece_bytes)
        self.made = 0
        self._held = None

    def go_on(self, draw):
        if self._held is not None:
            state, digest = self._held
            assert state_digest(state) == digest, "until the next one begins nothing moves it"
            if draw.random() < 0.5:
                return
            self._held = None
        parts = self.learner.growing_parts()
        if not self.precopies.advance(parts):
            return
        if draw.random() < 0.3:  # it may have to wait
            return
        copied = self.precopies.finish(parts)
        state = tensors_of(
            {
                name: copied[name] if name in copied else self.memory.copy(name, part)
                for name, part in self.learner.parts().items()
            }
        )
        digest = state_digest(self.learner.state())
        assert state_digest(state) == digest
        self._held, self.made = (state, digest), self.made + 1


def mixed_stream(draw, seed):
    """As `random_stream`, but ids come and go, some ratings are of a fine scale, and some numbers are no numbers."""
    stream = random_stream(seed, events=300, users=25, items=40, forgets=0.06)
    for place, one in enumerate(stream):
        old = place // 12
        user = f"u{int(one.user_id[1:]) + old}"
        if isinstance(one, Interaction):
            rating = one.rating if one.rating is None or draw.random() < 0.5 else float(draw.uniform(0.5, 5))
            weight = one.weight
            if draw.random() < 0.01:
                rating, weight = float("inf"), 1e30
            stream[place] = one._replace(
                user_id=user, item_id=f"i{int(one.item_id[1:]) + old}", rating=rating, weight=weight
            )
        else:
            stream[place] = one._replace(user_id=user)
    return stream


HEADS = [*product(("neighbours", "factors"), (0, 4096))]
CASES = [(encoder, *head) for encoder, head in zip(ENCODERS, HEADS * len(ENCODERS), strict=False)]


@pytest.mark.parametrize(("encoder", "rating_model", "full_softmax_items"), CASES)
def test_a_copy_made_beside_a_stream_of_all_kinds_is_the_state_of_one_moment(
    encoder, rating_model, full_softmax_items, monkeypatch
):
    seed = CASES.index((encoder, rating_model, full_softmax_items))
    draw = np.random.default_rng(seed)
    for name, value in (("LARGE_BYTES", 64), ("PORTION_BYTES", 64)):
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr(leaving, "ENTRIES", 60 if rating_model == "factors" else 1 << 18)  # neighbours have many slots
    monkeypatch.setattr(leaving, "LET_GO", 1)
    learner = small_learner(
        encoder=encoder,
        hidden=8,
        rating_model=rating_model,
        ranking=RankingRates(
            optimizer=("adagrad", "adam", "sgd")[seed % 3], full_softmax_items=full_softmax_items, negatives=2
        ),
        ratings=RatingRates(item_rate=(0.115, 1e200)[seed % 4 == 1]),
        factors=FactorRates(rate=(0.115, 1e30)[seed % 4 == 3]),
        drift=DriftSettings(boost=3.0),
        max_users=15,
        max_items=12,
        smallest_piece=5,
        allow_repeats=bool(seed % 2),
    )
    if seed % 5 == 0:
        learner.ranking.parameters.changed._ring = np.zeros(30, dtype=np.int64)
    update = learner.drift.update
    monkeypatch.setattr(
        learner.drift, "update", lambda *given: (update(*given)[0], 0.5 if draw.random() < 0.1 else 1.0)
    )
    copying, stream, place = Copying(learner, int(draw.choice([300, 2000, 8000]))), mixed_stream(draw, seed), 0
    evicted = gone = 0
    while place < len(stream):
        before = grown_parts(learner)
        if draw.random() < 0.15:
            content = ItemContent(title=f"word{draw.integers(4)}", available=bool(draw.random() < 0.8))
            learner.describe(
                {f"i{n}": said for n, said in zip(draw.integers(60, size=2), (content, None), strict=True)}
            )
            learner.describe_users({f"u{draw.integers(60)}": ItemContent(categories=("a",))})
            assert_nothing_else_moved(learner, before, NONE_MOVED)
        size = int(draw.choice([1, 3, 12]))
        with np.errstate(all="ignore"):
            step = learner.test_then_learn(stream[place : place + size])
        moved = learner.moved_rows(step)
        assert_nothing_else_moved(learner, before, moved)
        copying.precopies.note(moved)
        copying.go_on(draw)
        place, evicted, gone = place + size, evicted + len(step.evicted_U), gone + len(step.evicted_I)

    assert copying.made > 2
    assert evicted > 10
    assert gone > 3
