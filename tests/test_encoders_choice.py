"""Every encoder inside a whole learner. What each promises by itself: test_encoders_interface.py."""

import numpy as np
import pytest
from streams import SMALL, click, joined, random_stream, run

from model.encoders.choice import ENCODERS
from model.learner import Learner
from model.ranking import RankingRates
from model.settings import LearnerSettings
from model.state import state_digest

EVERY_ENCODER = pytest.mark.parametrize("name", sorted(ENCODERS))
FULL, SAMPLED = RankingRates(), RankingRates(full_softmax_items=5, negatives=12)


def learner(name, ranking=FULL):
    return Learner(LearnerSettings(encoder=name, hidden=8, ranking=ranking, **SMALL))


def test_the_encoders_are_those_that_are_promised():
    assert set(ENCODERS) == {
        "blend", "recency", "dnn", "lstm", "gru", "transformer", "cnn", "autoencoder", "cooccurrence",
    }  # fmt: skip
    assert {name for name, choice in ENCODERS.items() if choice.counts_pairs} == {"blend", "cooccurrence"}


@EVERY_ENCODER
@pytest.mark.parametrize("ranking", [FULL, SAMPLED], ids=["full", "sampled"])
def test_stopped_saved_and_loaded_a_learner_ends_where_it_would_have_ended(name, ranking):
    stream = random_stream(1, events=200, forgets=0.02)
    straight, first, second = (learner(name, ranking) for _ in range(3))

    run(straight, stream, 20)
    run(first, stream[:100], 20)
    second.load(first.state())
    run(second, stream[100:], 20)

    assert state_digest(second.state()) == state_digest(straight.state())


@EVERY_ENCODER
def test_of_a_window_of_more_than_fifty_items_the_autoencoder_alone_reads_more(name):
    draw, windows = np.random.default_rng(2), {"of 50": 50, "of 120": 120}
    stream = [click(f"u{draw.integers(2)}", f"i{draw.integers(300)}", 1_000 * n) for n in range(400)]

    ranks = {}
    for window, items in windows.items():
        made = Learner(LearnerSettings(**{**SMALL, "encoder": name, "hidden": 8, "window": items, "depth": 2 * items}))
        ranks[window] = joined(run(made, stream, 40), "ranks_B")

    assert np.array_equal(ranks["of 50"], ranks["of 120"], equal_nan=True) == (name != "autoencoder")


@EVERY_ENCODER
def test_it_learns_what_comes_after_what(name):
    made, draw = learner(name), np.random.default_rng(3)
    pairs = [(f"first {number}", f"second {number}") for number in range(6)]
    chosen = draw.integers(6, size=400)
    run(made, [click(f"u{visit}", item) for visit, pair in enumerate(chosen) for item in pairs[pair]], 10)

    asked = made.test_then_learn([click(f"w{pair}", item) for pair in range(6) for item in pairs[pair]])

    assert asked.ranks_B[1::2].tolist() == [0] * 6
