"""The recency encoder: the newest counts most. What it promises as an encoder: test_encoders_interface.py."""

import torch

from model.encoders.recency import RecencyEncoder


def test_each_item_counts_by_its_age():
    items = torch.eye(4)
    windows = torch.tensor([[2, 0, 3], [1, -1, -1]])

    users = RecencyEncoder(window=3, decay=0.5).encode(windows, items)

    assert users.tolist() == [[0.5, 0, 1, 0.25], [0, 1, 0, 0]]


def test_an_item_met_twice_counts_twice():
    users = RecencyEncoder(window=3, decay=0.5).encode(torch.tensor([[1, 1, -1]]), torch.eye(2))

    assert users.tolist() == [[0, 1.5]]


def test_without_decay_the_order_does_not_matter():
    encoder = RecencyEncoder(window=3, decay=1.0)

    users = encoder.encode(torch.tensor([[0, 1, 2], [2, 0, 1]]), torch.eye(3))

    assert torch.equal(users[0], users[1])
