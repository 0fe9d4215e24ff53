"""The recency encoder: the newest counts most. What it promises as an encoder: test_encoders_interface.py."""

import numpy as np
import pytest
import torch
from encoder_cases import CPU, HISTORIES, WIDTH, WINDOW, make_items, make_windows, many_histories, used

from model.encoders.recency import SCALES, RecencyEncoder, Scale

HALVED = (Scale(0.5, 1.0, 10),)


def encoder(scales=HALVED, width=4, window=3):
    return RecencyEncoder(width, window, rate=0.1, device=CPU, dtype=torch.float64, scales=scales)


def plain_sums(made, windows, items):
    """The sums item by item, from the words of the module."""
    small, users = made.small, torch.zeros((len(windows), items.shape[1]), dtype=torch.float64)
    starts = np.linspace(0, items.shape[1], len(SCALES) + 1).round().astype(int)
    for place, (rows, gaps, kinds) in enumerate(zip(windows.items_BW, windows.gaps_BW, windows.kinds_BW, strict=True)):
        for group, scale in enumerate(SCALES):
            columns = slice(starts[group], starts[group + 1])
            for age in range(min(scale.width, WINDOW, sum(rows >= 0))):
                log = small["lag"][group, age] + small["gap"][group, gaps[age]] + small["kind"][group, kinds[age]]
                users[place, columns] += log.exp() * items[rows[age], columns]
    return users


def test_each_item_counts_by_its_age():
    users = encoder().encode(make_windows([[2, 0, 3], [1]], width=3), torch.eye(4, dtype=torch.float64))

    torch.testing.assert_close(users, torch.tensor([[0.5, 0, 1, 0.25], [0, 1, 0, 0]], dtype=torch.float64))


def test_an_item_met_twice_counts_twice():
    users = encoder(width=2).encode(make_windows([[1, 1]], width=3), torch.eye(2, dtype=torch.float64))

    torch.testing.assert_close(users, torch.tensor([[0, 1.5]], dtype=torch.float64))


def test_a_scale_starts_at_its_size_and_reads_no_further_than_its_width():
    made = encoder((Scale(1.0, 0.25, 2),))

    users = made.encode(make_windows([[0, 1, 2]], width=3), torch.eye(4, dtype=torch.float64))

    torch.testing.assert_close(users, torch.tensor([[0.25, 0.25, 0, 0]], dtype=torch.float64))


def test_each_share_of_the_columns_has_its_own_scale():
    made = encoder((Scale(0.5, 1.0, 10), Scale(0.1, 2.0, 10)), width=5)

    users = made.encode(make_windows([[0, 1]], width=3), torch.ones((2, 5), dtype=torch.float64))

    torch.testing.assert_close(users, torch.tensor([[1.5, 1.5, 2.2, 2.2, 2.2]], dtype=torch.float64))


def test_fewer_columns_than_scales_leave_the_last_scales_out():
    made = encoder((Scale(0.5, 1.0, 10), Scale(0.1, 2.0, 10)), width=1)

    users = made.encode(make_windows([[0, 1]], width=3), torch.ones((2, 1), dtype=torch.float64))

    torch.testing.assert_close(users, torch.tensor([[1.5]], dtype=torch.float64))


def test_the_sums_are_those_of_the_plain_formula_with_gaps_and_kinds():
    made, windows = used("recency"), make_windows(many_histories(30, 8, WINDOW))

    users = made.encode(windows, make_items())

    torch.testing.assert_close(users, plain_sums(made, windows, make_items()))


def test_the_gradients_are_those_of_autograd_through_the_torch_twin():
    made, windows = used("recency"), make_windows()
    items, of_users = make_items().requires_grad_(), make_items(len(HISTORIES), seed=2)
    small = {name: value.clone().requires_grad_() for name, value in made.small.values.items()}
    gradient = torch.zeros((8, WIDTH), dtype=torch.float64)

    made.traced(windows, items, small).backward(of_users)
    made.trace(windows, make_items()).pull_back(of_users, gradient)

    torch.testing.assert_close(gradient, items.grad)
    for name, value in small.items():
        torch.testing.assert_close(made.gradients()[name], value.grad)


@pytest.mark.parametrize("width", [1, 2, 3, 48])
def test_the_way_of_gpus_gives_the_vectors_and_gradients_of_the_kernels(width):
    """The branch for other devices, run here: it is torch alone, and torch is the same everywhere."""
    here, there = used("recency", width=width), used("recency", width=width)
    items, of_users = make_items(width=width), make_items(len(HISTORIES), width=width, seed=2)
    by_items_here, by_items_there = torch.zeros_like(items), torch.zeros_like(items)
    users_here, pull_back_here = here.trace(make_windows(), items)
    users_there, pull_back_there = there._trace_anywhere(make_windows(), items)

    pull_back_here(of_users, by_items_here)
    pull_back_there(of_users, by_items_there)

    torch.testing.assert_close(users_here, users_there)
    torch.testing.assert_close(by_items_here, by_items_there)
    for name, kept in here.gradients().items():
        torch.testing.assert_close(kept, there.gradients()[name])
