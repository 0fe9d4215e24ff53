"""Attention against the formula, and its causality. What it promises as an encoder: test_encoders_interface.py."""

import pytest
import torch
from encoder_cases import HISTORIES, WIDTH, WINDOW, make_items, make_windows, numerical_gradient
from torch import nn

from model.encoders.traced import fill, read
from model.encoders.transformer import AttentionReader, Block


def reader(blocks=2, heads=2, width=WIDTH):
    made = AttentionReader(width, WINDOW, blocks=blocks, heads=heads).double()
    fill(made, "reader", 1)
    for value in made.parameters():
        if value.dim() == 1:
            nn.init.normal_(value, std=0.3, generator=torch.Generator().manual_seed(len(value)))
    return made.requires_grad_(False)


def reading(histories=HISTORIES, items=None):
    return read(make_windows(histories, bare=True), WINDOW, make_items() if items is None else items)[0]


def test_one_head_attends_by_the_softmax_of_query_times_key_over_the_allowed_places():
    torch.manual_seed(1)
    block = Block(4, 1).double().requires_grad_(False)
    places = make_items(6, width=4).view(2, 3, 4)
    allowed = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.bool)

    after = block(places, allowed.expand(2, 1, 3, 3), 3)

    for row, place in ((row, place) for row in range(2) for place in range(3)):
        normed = block.before_attention(places[row, place:])
        keys, values = block.key_value(normed).chunk(2, 1)
        weights = torch.softmax(keys @ block.query(normed[0]) / 2, 0)
        here = places[row, place] + block.joined(weights @ values)
        expected = here + block.down(torch.relu(block.up(block.before_units(here))))
        torch.testing.assert_close(after[row, place], expected)


def test_the_newest_place_alone_is_what_it_is_among_all():
    torch.manual_seed(1)
    block = Block(4, 2).double().requires_grad_(False)
    places, allowed = make_items(6, width=4).view(2, 3, 4), torch.ones(2, 1, 3, 3, dtype=torch.bool).triu()

    newest = block(places, allowed, 1)

    torch.testing.assert_close(newest, block(places, allowed, 3)[:, :1])


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_place_attends_to_no_newer_one(blocks):
    made, seen = reader(blocks), []
    for block in made.blocks[:-1]:
        block.register_forward_hook(lambda _, __, places: seen.append(places))

    made(reading([[3, 1, 4, 2]]))
    made(reading([[7, 1, 4, 2]]))

    half = len(seen) // 2
    for first, second in zip(seen[:half], seen[half:], strict=True):
        torch.testing.assert_close(first[:, 1:4], second[:, 1:4])
        assert not torch.allclose(first[:, 0], second[:, 0])
    assert half == blocks - 1


def test_an_item_older_than_the_newest_is_read_through_attention():
    first, second = reader()(reading([[3, 1, 4]])), reader()(reading([[3, 1, 5]]))

    assert not torch.allclose(first, second)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_gradient_by_the_items_is_numerically_right_for_any_number_of_blocks(blocks):
    made, items = reader(blocks), make_items()
    by_summary = make_items(len(HISTORIES), seed=2)
    watched = items.clone().requires_grad_()
    rows = torch.from_numpy(make_windows().items_BW).long()
    given = reading()

    gathered = watched[rows.clamp(min=0)] * (rows >= 0)[:, :, None]
    made(given._replace(items_BWD=gathered)).backward(by_summary)

    expected = numerical_gradient(lambda: float((made(reading(items=items)) * by_summary).sum()), items)
    torch.testing.assert_close(watched.grad, expected, rtol=1e-5, atol=1e-7)


def test_heads_that_do_not_divide_the_width_become_one():
    assert [reader(heads=heads).blocks[0].heads for heads in (1, 2, 3, 4)] == [1, 2, 3, 1]
