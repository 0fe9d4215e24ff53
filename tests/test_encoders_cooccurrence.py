"""No vector at all: what ranks is what the ranking head counts and adds. The rest: test_encoders_interface.py."""

import torch
from encoder_cases import WIDTH, make_items, make_windows, new
from streams import SMALL, click, random_stream

from model.learner import Learner
from model.settings import LearnerSettings


def test_everybody_has_the_zero_vector_and_nothing_comes_back():
    items, gradient = make_items(), make_items(seed=2)

    users, pull_back = new("cooccurrence").trace(make_windows([[1, 2], []]), items)
    pull_back(torch.ones_like(users), gradient)

    assert users.tolist() == [[0] * WIDTH] * 2
    assert torch.equal(gradient, make_items(seed=2))


def test_the_embeddings_stay_where_they_started():
    learner, still = (Learner(LearnerSettings(encoder="cooccurrence", **SMALL)) for _ in range(2))
    stream = random_stream(1)
    still.ranking.parameters.grow(30)

    learner.test_then_learn(stream)

    rows = len(learner.items)
    assert torch.equal(learner.ranking.items.values, still.ranking.items.values[:rows])
    assert learner.ranking.biases.values.any()


def test_an_item_that_came_together_with_the_last_one_comes_before_a_more_popular_one():
    learner = Learner(LearnerSettings(encoder="cooccurrence", **SMALL))
    pairs = [click(f"u{number}", item) for number in range(10) for item in ("flour", "yeast")]
    hits = [click(f"v{number}", "hit") for number in range(15)]
    learner.test_then_learn(pairs + hits)

    step = learner.test_then_learn([click("w", "flour"), click("w", "yeast")])

    assert step.ranks_B[1] == 0
    assert step.popularity_ranks_B[1] == 1
