"""Sampled negatives: distinct, known, and with the right share."""

import numpy as np
import pytest

from model.negatives import Negatives

POPULAR = np.array([900, 40, 20, 10, 5, 5, 4, 3, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
"""One item has nearly all the counts; eight have none."""


def known(items, but=()):
    flags = np.ones(items, dtype=np.bool_)
    flags[list(but)] = False
    return flags


def draw_negatives(flags, counts, number, draw, new=()):
    """From counts that came to be in two steps."""
    negatives, half = Negatives(), counts // 2
    negatives.follow(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_), half, int(half.sum()))
    left = np.repeat(np.arange(len(counts)), counts - half)
    negatives.follow(left, np.ones(len(left), dtype=np.bool_), counts, int(half.sum()))
    return negatives.draw(number, flags, counts, np.array(new, dtype=np.int64), draw)


def generator(seed=1):
    return np.random.default_rng(seed)


def test_negatives_are_distinct_known_items():
    draw = generator()

    for _ in range(50):
        drawn, log_share = draw_negatives(known(20, but=[0, 7]), POPULAR, 12, draw)
        assert len(set(drawn.tolist())) == len(drawn) == len(log_share)
        assert 1 <= len(drawn) <= 12
        assert not {0, 7} & set(drawn.tolist())
        assert (log_share <= 0).all()


@pytest.mark.parametrize("number", [1, 5, 8, 40])
def test_each_item_is_drawn_as_often_as_its_share_says(number):
    draw, times, shares = generator(2), np.zeros(20), np.full(20, np.nan)

    for _ in range(6000):
        drawn, log_share = draw_negatives(known(20), POPULAR, number, draw)
        times[drawn] += 1
        shares[drawn] = np.exp(log_share)

    seen = ~np.isnan(shares)
    errors = (times[seen] / 6000 - shares[seen]) / np.sqrt(shares[seen] * (1 - shares[seen]) / 6000 + 1e-9)
    assert seen.sum() > 15
    assert np.abs(errors).max() < 4


@pytest.mark.parametrize("number", [4, 8, 30])
def test_the_corrected_sample_estimates_the_partition_function_without_bias(number):
    draw = generator(3)
    scores = draw.normal(size=20) + 0.5 * np.log(POPULAR + 0.5)
    estimates = []

    for _ in range(6000):
        drawn, log_share = draw_negatives(known(20), POPULAR, number, draw)
        estimates.append(np.exp(scores[drawn] - log_share).sum())

    standard_error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - np.exp(scores).sum()) < 4 * standard_error
    assert standard_error < 0.05 * np.exp(scores).sum()


def test_without_counts_all_items_are_drawn_alike():
    _, log_share = draw_negatives(known(20), np.zeros(20, dtype=np.int64), 10, generator())

    assert np.allclose(np.exp(log_share), 1 - 0.95**10)


def test_an_only_item_is_drawn_for_certain():
    drawn, log_share = draw_negatives(known(3, but=[0, 2]), np.array([0, 4, 0]), 6, generator())

    assert drawn.tolist() == [1]
    assert np.allclose(log_share, 0)


@pytest.mark.parametrize(("flags", "number"), [(known(3, but=[0, 1, 2]), 5), (known(0), 5), (known(3), 0)])
def test_nothing_to_draw_or_nothing_asked_gives_nothing(flags, number):
    drawn, log_share = draw_negatives(flags, np.ones(len(flags), dtype=np.int64), number, generator())

    assert drawn.tolist() == log_share.tolist() == []


def test_the_same_generator_draws_the_same():
    one, other, later = (draw_negatives(known(20), POPULAR, 6, generator(seed))[0].tolist() for seed in (4, 4, 5))

    assert one == other
    assert one != later


def test_what_became_known_in_the_batch_is_left_out():
    drawn, log_share = draw_negatives(known(20), POPULAR, 200, generator(6), new=[0, 3])

    assert {0, 3}.isdisjoint(drawn.tolist())
    assert len(drawn) == len(log_share) >= 15


def test_any_part_of_the_drawn_items_is_as_good_as_another():
    """They come in random order: what is first is not what is popular."""
    draw, places = generator(7), []

    for _ in range(500):
        drawn, _ = draw_negatives(known(20), POPULAR, 40, draw)
        places.append(drawn.tolist().index(0) / (len(drawn) - 1))

    assert abs(np.mean(places) - 0.5) < 4 * np.std(places) / len(places) ** 0.5


def test_counts_that_it_did_not_follow_are_summed_up_anew():
    """As after loading, or after steps that drew nothing: 5,000 items, so that there are blocks of blocks."""
    counts = generator(8).integers(0, 9, 5000)
    followed, fresh = Negatives(), Negatives()
    nothing, nobody = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    followed.follow(nothing, nobody, counts, int(counts.sum()))
    items = generator(9).integers(0, 5000, 700)
    enters = generator(10).random(700) < 0.8
    after = counts.copy()
    np.add.at(after, items[enters], 1)

    followed.follow(items, enters, after, int(counts.sum()))
    fresh.follow(items, enters, after, int(counts.sum()))

    drawn = [one.draw(300, known(5000), after, nothing, generator(11)) for one in (followed, fresh)]
    assert followed.total == fresh.total == after.sum()
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_after_a_restart_nothing_that_was_followed_counts():
    negatives, counts = Negatives(), np.array([5, 0, 0])
    nothing, nobody = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    negatives.follow(nothing, nobody, counts, 5)
    negatives.restart()

    negatives.follow(nothing, nobody, counts[::-1].copy(), 5)

    _, log_share = negatives.draw(2, known(3, but=[0, 1]), counts[::-1].copy(), nothing, generator())
    assert np.allclose(log_share, 0)  # the only item with a count: by count it is drawn for certain


def test_what_items_that_are_let_go_had_is_taken_off_and_where_it_was_not_followed_nothing_counts():
    counts = generator(8).integers(0, 9, 5000)
    followed, fresh, stale = Negatives(), Negatives(), Negatives()
    nothing, nobody = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    total, gone = int(counts.sum()), generator(9).permutation(5000)[:700]
    after = counts.copy()
    after[gone] = 0
    followed.follow(nothing, nobody, counts, total)
    stale.follow(nothing, nobody, counts[::-1].copy(), total)
    stale.total = int(after.sum())  # by chance what it will be

    for negatives in (followed, stale):
        negatives.let_go(gone, counts[gone], total)
    for negatives in (followed, fresh, stale):
        negatives.follow(nothing, nobody, after, int(after.sum()))

    drawn = [one.draw(300, known(5000), after, nothing, generator(11)) for one in (followed, fresh, stale)]
    assert followed.total == after.sum()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_items_without_a_count_may_go_before_anything_was_followed():
    negatives = Negatives()

    negatives.follow(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64), 0)
    negatives.let_go(np.array([70]), np.array([0]), 0)

    assert negatives.total != 0
