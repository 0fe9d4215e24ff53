"""The sampled step's kernels, compiled and interpreted; what they compute: test_sampled.py, test_ranking.py."""

import numpy as np
import pytest
import torch
from ranked_batches import SAMPLED_RATES, WIDTHS, make_batch

import model.sampled
from model.kernels.compiled import interpreted
from model.kernels.sample import SEEN_LOOKED_AT, collect_rows, describe_samples


@pytest.mark.parametrize("kernel", [collect_rows, interpreted(collect_rows)], ids=["compiled", "interpreted"])
def test_rows_are_numbered_by_first_mention_and_the_room_is_left_as_it_was(kernel):
    drawn, items, windows = np.array([7, 2]), np.array([5, 2]), np.array([[9, 7, -1], [5, 4, 5]], dtype=np.int32)
    room, rows = np.full(10, -1, dtype=np.int32), np.zeros(10, dtype=np.int64)
    places, of_windows = np.zeros(2, dtype=np.int64), np.zeros((2, 3), dtype=np.int32)

    size = kernel(drawn, items, windows, room, rows, places, of_windows)

    assert rows[:size].tolist() == [7, 2, 5, 9, 4]
    assert places.tolist() == [2, 1]
    assert of_windows.tolist() == [[3, 0, -1], [2, 4, 2]]
    assert (room == -1).all()


@pytest.mark.parametrize("kernel", [describe_samples, interpreted(describe_samples)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("hides_seen", [False, True])
def test_the_newest_items_that_a_user_has_are_no_negatives_and_older_ones_are(kernel, hides_seen):
    items = SEEN_LOOKED_AT + 12
    pool = np.concatenate([[9], np.arange(10, items), [9]]).astype(np.int32)  # others' lists around the user's
    drawn, nothing = np.array([10, 11, 12, items - 1, 9, 3]), np.zeros(0)
    seen = SEEN_LOOKED_AT, SEEN_LOOKED_AT + 2  # as the user's two events find it
    hidden = np.zeros((2, 6), dtype=np.bool_)

    kernel(
        1, drawn, np.array([3, 3]), np.array([5, 5]), np.zeros(2, dtype=np.bool_), np.zeros(6, dtype=np.int64),
        np.zeros(3, dtype=np.int64), nothing.astype(np.int32), nothing.astype(np.float32),
        hides_seen, pool, np.array([1, 1]), np.array(seen), np.full(items, -1, dtype=np.int32),
        np.zeros((2, 6), dtype=np.int64), np.zeros(2), np.zeros((2, 6)), hidden,
    )  # fmt: skip

    assert hidden.tolist() == ([[1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1]] if hides_seen else [[0, 0, 0, 0, 0, 1]] * 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_step_is_the_same_interpreted(monkeypatch, width, allow_repeats, dtype):
    given, twin = (
        make_batch(7, allow_repeats=allow_repeats, rates=SAMPLED_RATES, dtype=dtype, width=width) for _ in range(2)
    )
    turn = given.head.rank_then_learn(given.batch, given.features, given.weights, 1)
    for name in ("collect_rows", "soften_samples", "describe_samples"):
        monkeypatch.setattr(model.sampled, name, interpreted(getattr(model.sampled, name)))

    plain = twin.head.rank_then_learn(twin.batch, twin.features, twin.weights, 1)

    assert turn.loss == pytest.approx(plain.loss, rel=1e-5)
    near = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(given.head.items.values, twin.head.items.values, atol=near, rtol=near)
    torch.testing.assert_close(given.head.biases.values, twin.head.biases.values, atol=near, rtol=near)
