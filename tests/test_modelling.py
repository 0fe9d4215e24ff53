"""From the settings to a learner: each setting arrives where it belongs."""

from typing import Literal

import pytest
import torch
from streams import random_stream

from consumer import modelling
from consumer.config import Settings, load
from consumer.environment import SettingsError
from consumer.modelling import choose_device, learner_settings, make_learner, make_top_k, warm_up
from model.drift import DriftSettings
from model.factors import FactorRates
from model.kernels import leaving
from model.kernels.compiled import IS_COMPILED
from model.ranking import RankingRates
from model.ratings import RatingRates
from model.settings import LearnerSettings
from model.state import state_digest

KERNELS_OF_LEAVING = [kernel for name, kernel in vars(leaving).items() if name.startswith("take_out_of_")]


def settings(**flags: object) -> Settings:
    return load({"device": "cpu", "embedding_dim": 8, "rating_dim": 4, **flags}, environment={})


def test_every_setting_of_the_model_arrives() -> None:
    made = learner_settings(
        settings(
            embedding_dim=12,
            rating_model="factors",
            rating_dim=6,
            history_window=40,
            seen_per_user=99,
            rating_min=1,
            rating_max=7,
            quality_share=0.5,
            max_users=12_345,
            max_items=54_321,
            seed=11,
            optimizer="adam",
            learning_rate=0.01,
            full_softmax_items=100,
            negatives=33,
            rating_learning_rate=0.02,
            drift_boost=2.0,
            encoder="recency",
        ),
        allow_repeats=True,
        strictly_before=True,
    )

    assert made == LearnerSettings(
        encoder="recency",
        width=12,
        rating_model="factors",
        rating_width=6,
        window=40,
        depth=80,
        most_seen=99,
        rating_min=1,
        rating_max=7,
        ranked_share=0.5,
        allow_repeats=True,
        strictly_before=True,
        max_users=12_345,
        max_items=54_321,
        seed=11,
        ranking=RankingRates(optimizer="adam", rate=0.01, full_softmax_items=100, negatives=33),
        ratings=RatingRates(item_rate=0.02),
        factors=FactorRates(rate=0.02),
        drift=DriftSettings(boost=2.0),
    )


@pytest.mark.parametrize(("window", "depth"), [(1, 64), (20, 64), (100, 200)])
def test_more_is_kept_of_a_history_than_the_encoder_reads(window: int, depth: int) -> None:
    assert learner_settings(settings(history_window=window)).depth == depth


def test_the_learner_is_made_as_the_settings_say_on_their_device_with_one_thread() -> None:
    learner = make_learner(settings(seed=3), strictly_before=True)

    assert learner.settings == learner_settings(settings(seed=3), strictly_before=True)
    assert learner.device == torch.device("cpu")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("mode", [None, "exact", "fast"])
def test_lists_are_made_as_the_settings_say(mode: Literal["exact", "fast"] | None) -> None:
    said = settings(k=7, cold_items=False, topk="fast", topk_recall=0.9, topk_threads=3)

    made = make_top_k(said, make_learner(said), mode=mode)

    assert (made.k, made.cold_items, made.mode, made.recall.least) == (7, False, mode or "fast", 0.9)
    assert made.threads == 3


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_unless_it_is_said_each_processor_has_a_thread_for_lists_up_to_four(
    processors: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelling, "processors", lambda: processors)

    assert make_top_k(settings(), make_learner(settings())).threads == threads


def test_an_encoder_that_there_is_none_of_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_ENCODER: expected one of blend, .*, got 'magic'"):
        make_learner(settings(encoder="magic"))


def test_warming_up_leaves_no_trace_in_what_is_learned_afterwards() -> None:
    stream = random_stream(seed=1, events=200)
    cold = make_learner(settings())
    cold.test_then_learn(stream)

    warm_up(settings())

    warm = make_learner(settings())
    warm.test_then_learn(stream)
    assert state_digest(warm.state()) == state_digest(cold.state())


@pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")
def test_with_a_bound_on_the_items_what_takes_them_out_is_warm_too() -> None:
    bounded = settings(max_items=2)
    warm_up(bounded)
    warm = [len(kernel.signatures) for kernel in KERNELS_OF_LEAVING]

    learner = make_learner(bounded)
    for at in range(20):
        learner.test_then_learn(random_stream(seed=at, events=10))

    assert [len(kernel.signatures) for kernel in KERNELS_OF_LEAVING] == warm
    assert min(warm) > 0


@pytest.mark.parametrize(("low", "high"), [(0.5, 5), (0, 1), (1, 1.5), (-10, -9), (1, 100)])
def test_every_scale_can_be_warmed_up(low: float, high: float) -> None:
    warm_up(settings(rating_min=low, rating_max=high))


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelling.torch.cuda, "is_available", lambda: True)
    with_one = choose_device("auto")
    monkeypatch.setattr(modelling.torch.cuda, "is_available", lambda: False)
    without = choose_device("auto")

    assert (with_one.type, without.type) == ("cuda", "cpu")


@pytest.mark.parametrize(("name", "found", "fits"), [("cuda", 0, False), ("cuda:1", 1, False), ("cuda:1", 2, True)])
def test_a_gpu_that_is_not_here_is_refused_with_what_to_set_instead(
    monkeypatch: pytest.MonkeyPatch, name: str, found: int, fits: bool
) -> None:
    monkeypatch.setattr(modelling.torch.cuda, "device_count", lambda: found)

    if fits:
        assert choose_device(name) == torch.device(name)
    else:
        with pytest.raises(SettingsError, match=rf"HEADRACE_DEVICE: {name} is not here .* found: {found}\).*auto"):
            choose_device(name)
