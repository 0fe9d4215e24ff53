"""Settings of the model: which of them a saved state is bound to, and which may change."""

import pytest
import torch
from streams import random_stream, run, small_learner

from model.learner import Learner
from model.ranking import RankingRates
from model.settings import LearnerSettings
from model.state import OtherSettings, state_digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 16}, r"width \(saved 8, now 16\)"),
        ({"rating_model": "factors"}, r"rating_model \(saved neighbours, now factors\)"),
        ({"rating_width": 2}, r"rating_width \(saved 4, now 2\)"),
        ({"window": 4}, r"window \(saved 5, now 4\)"),
        ({"hidden": 9}, r"hidden \(saved 64, now 9\)"),
        ({"depth": 9}, r"depth \(saved 8, now 9\)"),
        ({"seed": 5}, r"seed \(saved 0, now 5\)"),
        ({"rating_min": 1.0}, r"rating_min \(saved 0.5, now 1.0\)"),
        ({"rating_max": 10}, r"rating_max \(saved 5.0, now 10.0\)"),
        ({"ranking": RankingRates(optimizer="sgd")}, r"optimizer \(saved adagrad, now sgd\)"),
        ({"width": 16, "depth": 9}, r"depth \(saved 8, now 9\), width \(saved 8, now 16\)"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_state_of_other_settings_is_refused_by_name_and_nothing_of_it_is_taken(change, message):
    saved, other = small_learner(), small_learner(**change)
    run(saved, random_stream(12, events=40), 16)
    run(other, random_stream(13, events=40), 16)
    before = state_digest(other.state())

    with pytest.raises(OtherSettings, match=f"made with other settings: {message}$"):
        other.load(saved.state())

    assert state_digest(other.state()) == before


def test_a_state_may_go_on_under_other_rates():
    saved, other = small_learner(), small_learner(ranking=RankingRates(rate=0.01), most_seen=3)
    run(saved, random_stream(14), 16)

    other.load(saved.state())

    assert torch.equal(other.ranking.items.values, saved.ranking.items.values)


def test_an_encoder_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"encoder: expected one of blend, recency.*, got 'oracle'"):
        Learner(LearnerSettings(encoder="oracle"))
