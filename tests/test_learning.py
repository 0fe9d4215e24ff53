"""Known answers: streams with something planted in them, and whether the model finds it."""

import numpy as np
import pytest
from streams import click, hit_ratio, joined, run, sessions

from model.learner import Learner
from model.ranking import RankingRates
from model.settings import LearnerSettings
from model.topk import TopK

OPTIMIZERS = [
    RankingRates(),
    RankingRates(optimizer="adam", rate=0.02),
    RankingRates(optimizer="sgd", rate=0.05),
    RankingRates(full_softmax_items=5, negatives=12),
]
NAMES = ["adagrad", "adam", "sgd", "sampled"]


def make_learner(**settings):
    return Learner(LearnerSettings(**{"width": 16, "rating_width": 4, **settings}))


@pytest.mark.parametrize("rates", OPTIMIZERS, ids=NAMES)
def test_on_a_checkerboard_the_one_withheld_item_of_the_own_colour_comes_first(rates):
    draw = np.random.default_rng(1)
    colours = {user: [f"i{item}" for item in range(20) if item % 2 == user % 2] for user in range(60)}
    withheld = {user: items[(user // 2) % 10] for user, items in colours.items()}
    visits = [(user, item) for user, items in colours.items() for item in items if item != withheld[user]]
    stream = [click(f"u{user}", item) for user, item in draw.permutation(np.array(visits, dtype=object)).tolist()]
    learner = make_learner(ranking=rates)

    run(learner, stream, 8)
    lists = TopK(learner, 3).lists_of([f"u{user}" for user in colours])

    assert [one.item_ids[0] for one in lists] == list(withheld.values())


def test_after_a_and_b_comes_c():
    draw = np.random.default_rng(2)
    ring = [f"i{n}" for n in range(24)]
    stream = [
        click(f"u{user}", ring[(start + step) % 24])
        for user, start in enumerate(draw.integers(24, size=400).tolist())
        for step in range(4)
    ]
    learner = make_learner()
    run(learner, stream, 16)

    run(learner, [click(f"new{start}", ring[(start + step) % 24]) for start in range(24) for step in range(2)], 48)
    lists = TopK(learner, 1).lists_of([f"new{start}" for start in range(24)])

    right = [one.item_ids[0] == ring[(start + 2) % 24] for start, one in enumerate(lists)]
    assert np.mean(right) > 0.9


def test_planted_biases_are_learned_to_within_the_noise():
    draw = np.random.default_rng(3)
    of_users, of_items = draw.normal(scale=0.6, size=30), draw.normal(scale=0.6, size=40)
    users, items = draw.integers(30, size=3000), draw.integers(40, size=3000)
    ratings = np.clip(2.75 + of_users[users] + of_items[items] + draw.normal(scale=0.2, size=3000), 0.5, 5.0)
    stream = [click(f"u{u}", f"i{i}", rating=r) for u, i, r in zip(users, items, ratings.tolist(), strict=True)]

    steps = run(make_learner(), stream, 32)

    predictions, late = joined(steps, "predictions_B"), slice(1500, None)
    error = np.abs(predictions[late] - ratings[late]).mean()
    of_the_mean = np.abs(ratings[late].mean() - ratings[late]).mean()
    assert error < 0.23
    assert error < of_the_mean / 2.5


def test_the_median_is_nearer_than_the_mean_where_ratings_are_lopsided():
    draw = np.random.default_rng(4)
    users, items = draw.integers(20, size=2000), draw.integers(20, size=2000)
    ratings = np.where(draw.random(2000) < 0.7, 5.0, 1.0)
    stream = [click(f"u{u}", f"i{i}", rating=r) for u, i, r in zip(users, items, ratings.tolist(), strict=True)]

    steps = run(make_learner(), stream, 32)

    of_median = np.abs(joined(steps, "medians_B") - ratings)[1000:].mean()
    of_mean = np.abs(joined(steps, "predictions_B") - ratings)[1000:].mean()
    assert of_median < of_mean - 0.2


@pytest.mark.parametrize("rates", OPTIMIZERS, ids=NAMES)
def test_a_repelled_item_falls(rates):
    draw = np.random.default_rng(5)
    learner = make_learner(ranking=rates)
    run(learner, [click(f"u{n}", f"i{draw.integers(10)}") for n in range(300)], 16)
    run(learner, [click("judge", "i1"), click("judge", "i2")], 2)
    before = TopK(learner, 10).lists_of(["judge"])[0].item_ids
    disliked = before[0]

    run(learner, [click(f"u{n}", disliked, weight=-1.0) for n in range(300)], 16)

    after = TopK(learner, 10).lists_of(["judge"])[0].item_ids
    assert after.index(disliked) > len(after) // 2


def test_a_newcomer_gets_what_is_popular():
    draw = np.random.default_rng(6)
    items = (30 * draw.random(1500) ** 3).astype(int)
    learner = make_learner()
    run(learner, [click(f"u{n % 200}", f"i{item}") for n, item in enumerate(items.tolist())], 16)

    run(learner, [click("newcomer", "i29", weight=0.0)], 1)
    user_list = TopK(learner, 5).lists_of(["newcomer"])[0]

    by_count = [f"i{item}" for item in np.argsort(-np.bincount(items), kind="stable")]
    assert set(user_list.item_ids) <= set(by_count[:8])
    assert user_list.item_ids[0] in by_count[:2]


def tastes(seed, groups=8, items=120, users=150, visits=20):
    """Users stay within their group's items, popular ones more often; all take turns."""
    draw = np.random.default_rng(seed)
    group_of = draw.integers(groups, size=users)
    own = [np.flatnonzero(np.arange(items) % groups == group) for group in range(groups)]
    stream = []
    for user in draw.permutation(np.repeat(np.arange(users), visits)).tolist():
        item = own[group_of[user]][int(len(own[0]) * draw.random() ** 1.5)]
        stream.append(click(f"u{user}", f"i{item}"))
    return stream


def hit_rate_late(rates):
    steps = run(make_learner(ranking=rates, allow_repeats=True), tastes(7), 32)
    ranks, by_popularity = joined(steps, "ranks_B")[1500:], joined(steps, "popularity_ranks_B")[1500:]
    return (ranks < 10).mean(), (by_popularity < 10).mean()


def test_tastes_are_learned_far_beyond_popularity_and_about_as_well_from_sampled_negatives():
    full, popularity = hit_rate_late(RankingRates())
    sampled, _ = hit_rate_late(RankingRates(full_softmax_items=5, negatives=40))

    assert full > 3 * popularity
    assert abs(full - sampled) < 0.08


@pytest.mark.parametrize("rates", OPTIMIZERS[:2], ids=NAMES[:2])
def test_a_skewed_stream_in_large_batches_does_not_diverge(rates):
    draw = np.random.default_rng(8)
    items = np.where(draw.random(6000) < 0.9, 0, draw.integers(50, size=6000))
    stream = [click(f"u{n % 40}", f"i{item}") for n, item in enumerate(items.tolist())]

    steps = run(make_learner(ranking=rates, allow_repeats=True), stream, 512)

    assert np.isfinite([step.ranking_loss for step in steps]).all()
    assert (joined(steps, "ranks_B")[items == 0][1000:] < 10).mean() > 0.9


def zipf(seed, events, users=2000, items=3000, exponent=1.2, groups=10):
    """Zipf's popularity over all, and half of the events from the user's own group of items."""
    draw = np.random.default_rng(seed)
    share = np.arange(1, items + 1) ** -exponent
    drawn = draw.choice(items, size=events, p=share / share.sum())
    user = draw.integers(users, size=events)
    own = draw.random(events) < 0.5
    drawn[own] = drawn[own] // groups * groups + user[own] % groups
    return [click(f"u{u}", f"i{i}", n) for n, (u, i) in enumerate(zip(user.tolist(), drawn.tolist(), strict=True))]


def on_a_zipf_stream(rates):
    """(losses of the steps, hit ratio, popularity's) at batches of 4,096; the ratios over the second half."""
    shape = {"width": 24, "rating_width": 2, "window": 20, "smallest_piece": 4096}
    learner = Learner(LearnerSettings(**shape, ranking=rates, allow_repeats=True))
    with np.errstate(over="ignore", invalid="ignore"):
        steps = run(learner, zipf(9, 10 * 4096), 4096)
    losses = [np.inf if step.refused else step.ranking_loss for step in steps[1:]]  # nothing is known at the first
    half = 5 * 4096
    return losses, hit_ratio(steps, half), hit_ratio(steps, half, "popularity_ranks_B")


@pytest.mark.parametrize("sampled", [False, True], ids=["full", "sampled"])
def test_on_a_zipf_stream_at_batch_4096_the_defaults_do_not_diverge(sampled):
    losses, hits, by_popularity = on_a_zipf_stream(RankingRates(full_softmax_items=500 if sampled else 4096))

    assert max(losses) < 2 * losses[0]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert hits > 1.03 * by_popularity


def test_on_a_zipf_stream_at_batch_4096_plain_sgd_diverges_at_the_rate_that_suits_adagrad():
    losses, hits, by_popularity = on_a_zipf_stream(RankingRates(optimizer="sgd"))

    assert losses[0] > 10  # a few nats at the default
    assert losses[-1] == np.inf  # refused by now, and every step after it: what was accepted before had run away
    assert hits < 1.03 * by_popularity


@pytest.mark.parametrize("encoder", ["recency", "blend"])
def test_once_warm_batches_of_512_lose_little_against_small_ones_on_sessions_with_repeats_and_new_items(encoder):
    stream = sessions(1, 60_000)

    def hits(batch_size):
        """Over the second half: a step a batch needs more events until the mix has found its place."""
        return hit_ratio(run(make_learner(encoder=encoder, window=20, allow_repeats=True), stream, batch_size), 30_000)

    assert hits(512) > 0.98 * hits(32)
