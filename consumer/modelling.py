"""From the settings to a learner: the one place that knows both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from consumer.config import Settings
from consumer.environment import SettingsError
from consumer.processors import processors
from consumer.turns import in_turn
from model.content import ContentSettings
from model.drift import BLOCK, DriftSettings, Watch
from model.encoders.choice import ENCODERS
from model.entries import ItemContent
from model.factors import FactorRates
from model.interactions import Forget, Interaction
from model.item_index import warm_up_products
from model.kernels.compiled import kept_in
from model.kernels.compiling import before_each_compilation
from model.learner import Learner
from model.ranking import RankingRates
from model.ratings import RatingRates
from model.settings import LearnerSettings
from model.topk import Mode, TopK

MOST_THREADS = 4
"""For lists, where nobody asked for a number: each has its own room to work in, and the loop waits for the last."""


def make_learner(settings: Settings, *, allow_repeats: bool = False, strictly_before: bool = False) -> Learner:
    """A new learner as the settings ask for it. torch runs on one thread from then on.

    SettingsError where the device is not here, or for an encoder that there is none of.
    """
    torch.set_num_threads(1)  # two threads beside a busy core run many times slower than one
    return Learner(
        learner_settings(settings, allow_repeats=allow_repeats, strictly_before=strictly_before),
        device=choose_device(settings.device),
    )


def make_top_k(settings: Settings, learner: Learner, *, mode: Mode | None = None) -> TopK:
    """What makes the learner's lists as the settings ask for it; `mode`: another one than they say."""
    return TopK(
        learner,
        settings.k,
        cold_items=settings.cold_items,
        mode=mode or settings.topk,
        least_recall=settings.topk_recall,
        threads=settings.topk_threads or min(processors(), MOST_THREADS),
    )


def warm_up(settings: Settings, look_up: Callable[[], None] = lambda: None) -> None:
    """Compile the kernels and wake torch up on a learner that is thrown away, so that the first event need not wait.

    `look_up` is called before each compilation, and else every now and then: what it raises ends this.
    """
    with compiling(look_up):
        _warm_up(settings, look_up)


@contextmanager
def compiling(look_up: Callable[[], None]) -> Iterator[None]:
    """Call `look_up` before each compilation, and while another process compiles: what it raises leaves the block.

    Processes that start together compile one after the other: the next finds the kernels on disk, where numba's index
    of them is not made for two who write at once. A turn within a turn would wait for itself.
    """
    with in_turn(Path(kept_in()), look_up), before_each_compilation(look_up):
        yield


def _warm_up(settings: Settings, look_up: Callable[[], None]) -> None:
    low, high = settings.rating_min, settings.rating_max
    said = ItemContent(title="a title", text="a text", categories=["a category"], features={"a number": 1.0})
    for full_softmax_items in (settings.full_softmax_items, 0):  # a large catalogue is learned by kernels of its own
        for_all = settings.model_copy(update={"full_softmax_items": full_softmax_items})
        # The table of contents moves with each step, for once.
        learner_of_all = replace(learner_settings(for_all), content=ContentSettings(every_events=1))
        learner = Learner(learner_of_all, device=choose_device(settings.device))
        for past in (16, 32):
            look_up()
            learner.test_then_learn(
                [
                    Interaction(f"user {n % 4}", f"item {n % 5}", n, 1.0, low + (high - low) * n / 31, "a text")
                    for n in range(past - 16, past)
                ]
            )
            TopK(learner, settings.k, cold_items=True).lists_of(["user 1"])
            learner.users.hashes(np.zeros(1, dtype=np.int64))
            learner.describe({"item 1": said, "item 2": said, "new item": said})
            learner.describe_users(
                {"user 1": said._replace(title=None, text=None), "new user": said._replace(text=None)}
            )
        look_up()
        learner.test_then_learn([Forget("user 2")])
        if settings.max_items:
            for place in learner.letting_go.names_items():
                place.take_out(0, 1, np.zeros(len(learner.items), dtype=np.uint8))
    Watch().update(np.zeros(BLOCK))  # so many events that the watch over drift has something to look at
    if learner.device.type == "cpu":
        warm_up_products(learner.ranking.items.values)


def learner_settings(
    settings: Settings, *, allow_repeats: bool = False, strictly_before: bool = False
) -> LearnerSettings:
    """What of the settings makes the model; SettingsError for an encoder that there is none of."""
    if settings.encoder not in ENCODERS:
        raise SettingsError(f"HEADRACE_ENCODER: expected one of {', '.join(ENCODERS)}, got {settings.encoder!r}")
    return LearnerSettings(
        encoder=settings.encoder,
        width=settings.embedding_dim,
        rating_model=settings.rating_model,
        rating_width=settings.rating_dim,
        window=settings.history_window,
        depth=max(2 * settings.history_window, 64),
        most_seen=settings.seen_per_user,
        rating_min=settings.rating_min,
        rating_max=settings.rating_max,
        ranked_share=settings.quality_share,
        allow_repeats=allow_repeats,
        strictly_before=strictly_before,
        max_users=settings.max_users,
        max_items=settings.max_items,
        seed=settings.seed,
        ranking=RankingRates(
            optimizer=settings.optimizer,
            rate=settings.learning_rate,
            full_softmax_items=settings.full_softmax_items,
            negatives=settings.negatives,
        ),
        drift=DriftSettings(boost=settings.drift_boost),
        ratings=RatingRates(item_rate=settings.rating_learning_rate),
        factors=FactorRates(rate=settings.rating_learning_rate),
    )


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one. SettingsError says what to set instead."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"HEADRACE_DEVICE: {name} is not here (CUDA devices found: {torch.cuda.device_count()}); "
            "auto takes a GPU where there is one, cpu works everywhere"
        )
    return device
