"""Recall of loose bounds: measured, rolling, turned into the slack that keeps it, and kept."""

import numpy as np
import pytest

from model.recall import LEAST_LISTS, STEPS, Recall


def learn(recall, needed, lists=LEAST_LISTS):
    needed_UK = np.tile(np.array(needed, dtype=np.float32), (lists, 1))
    recall.learn(needed_UK, np.full(lists, len(needed), dtype=np.int32))


def measure(recall, exact, fast):
    arrays = (np.array([one], dtype=np.int32) for one in (exact, fast))
    exact_UK, fast_UK = arrays
    lengths = [np.array([len(one)], dtype=np.int32) for one in (exact, fast)]
    recall.measure(exact_UK, lengths[0], fast_UK, lengths[1])


def test_before_enough_lists_were_measured_bounds_are_exact():
    recall = Recall(0.99)

    learn(recall, [0.1, 0.2], LEAST_LISTS - 1)
    assert not recall.is_measured
    assert recall.slack == 1

    learn(recall, [0.1, 0.2], 1)
    assert recall.is_measured
    assert recall.slack < 1


@pytest.mark.parametrize("least", [0.5, 0.9, 0.98])
def test_the_slack_loses_half_of_what_may_be_lost(least):
    recall = Recall(least)
    needed = np.random.default_rng(1).random(1000)

    learn(recall, needed)

    lost = (needed > recall.slack).mean()
    assert lost <= (1 - least) / 2
    assert (needed > recall.slack - 1 / STEPS).mean() > (1 - least) / 2


def test_nothing_may_be_lost_where_recall_has_to_be_whole():
    recall = Recall(1.0)

    learn(recall, [0.0] * 999 + [0.6])

    assert 0.6 < recall.slack <= 0.6 + 2 / STEPS


def test_a_whole_recall_keeps_to_what_was_needed_however_its_sums_are_rounded():
    draw, recall = np.random.default_rng(0), Recall(1.0)
    most = 0.0
    for lists in draw.integers(5, 40, 100).tolist():
        needed_UK = (0.6 * draw.random((lists, 20)) ** 2).astype(np.float32)
        most = max(most, float(needed_UK.max()))

        recall.learn(needed_UK, np.full(lists, 20, dtype=np.int32))

        assert recall.slack >= most


def test_what_lies_behind_the_end_of_a_list_does_not_count():
    recall = Recall(0.99)
    needed_UK = np.array([[0.1, np.nan, 0.9]] * LEAST_LISTS, dtype=np.float32)

    recall.learn(needed_UK, np.ones(LEAST_LISTS, dtype=np.int32))

    assert recall.slack < 0.2


def test_lists_taken_in_one_by_one_or_together_give_the_same_slack():
    together, one_by_one = Recall(0.9), Recall(0.9)
    needed_UK = np.random.default_rng(2).random((200, 5)).astype(np.float32)
    lengths_U = np.full(200, 5, dtype=np.int32)

    together.learn(needed_UK, lengths_U)
    for place in range(200):
        one_by_one.learn(needed_UK[place : place + 1], lengths_U[place : place + 1])

    assert together.slack == one_by_one.slack
    np.testing.assert_allclose(together.state()["needed slacks"], one_by_one.state()["needed slacks"])


def test_recall_is_the_share_of_exact_items_found_and_it_rolls():
    recall = Recall(0.99)
    assert recall.value == 1
    assert not recall.is_low

    measure(recall, [1, 2, 3, 4], [4, 3, 9, 8])
    assert recall.value == 0.5
    assert recall.is_low

    for _ in range(20_000):
        measure(recall, [1, 2, 3, 4], [1, 2, 3, 4])
    assert recall.value > 0.999
    assert not recall.is_low


def test_a_slack_follows_when_what_is_needed_changes():
    recall = Recall(0.99)
    learn(recall, [0.9], 1000)
    assert recall.slack > 0.9

    learn(recall, [0.1], 20_000)

    assert recall.slack < 0.2


def test_saved_and_loaded_it_goes_on_as_if_never_stopped():
    first, second = Recall(0.9), Recall(0.9)
    learn(first, [0.2, 0.7], 100)
    measure(first, [1, 2, 3], [1, 2, 4])

    second.load(first.state())

    for recall in (first, second):
        learn(recall, [0.5], 10)
        measure(recall, [1], [1])
    assert second.slack == first.slack
    assert second.value == first.value
    assert second.is_measured


def test_a_state_of_another_shape_is_refused():
    state = Recall(0.9).state()
    with pytest.raises(ValueError, match="expected 64 and 3 numbers"):
        Recall(0.9).load({**state, "recall": np.zeros(2)})


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_a_least_recall_that_is_no_share_is_refused(least):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        Recall(least)
