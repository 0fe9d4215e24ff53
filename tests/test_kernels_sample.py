"""The sampled step's kernels, compiled and interpreted; what they compute: test_sampled.py, test_ranking.py."""

import numpy as np
import pytest
import torch
from ranked_batches import SAMPLED_RATES, WIDTHS, make_batch

import model.sampled
from model.kernels.compiled import interpreted
from model.kernels.sample import collect_rows


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
