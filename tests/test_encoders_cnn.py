"""The convolutions against the plain recursion. What they promise as an encoder: test_encoders_interface.py."""

import pytest
import torch
from encoder_cases import WIDTH, make_items, make_windows, many_histories

from model.encoders.cnn import ConvolutionReader
from model.encoders.traced import fill, read


def reader(layers):
    made = ConvolutionReader(WIDTH, layers).double()
    fill(made, "reader", 1)
    return made.requires_grad_(False)


def plain(made, places, layer):
    """Every place (newest first) after `layer` layers: x(t) + relu(A x(t) + B x(t - 2^(layer - 1)) + c)."""
    if layer == 0:
        return places
    below = plain(made, places, layer - 1)
    joint = made.joints[layer - 1]
    newer, older = joint.weight.unbind(2)
    after = []
    for place, here in enumerate(below):
        further = place + 2 ** (layer - 1)
        there = below[further] if further < len(below) else torch.zeros_like(here)
        after.append(here + torch.relu(newer @ here + older @ there + joint.bias))
    return after


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_the_summary_is_the_newest_place_of_the_stack_of_dilated_convolutions(layers):
    made, histories = reader(layers), many_histories(20, 8, 11)
    reading, _ = read(make_windows(histories, width=12), made.window, make_items())

    summary = made(reading)

    for place, history in enumerate(histories):
        read_of_it = min(len(history), 2**layers)
        steps = reading.items_BWD + made.gaps(reading.gaps_BW) + made.kinds(reading.kinds_BW)
        newest = plain(made, list(steps[place, :read_of_it]), layers)[0] if history else torch.zeros(WIDTH).double()
        torch.testing.assert_close(summary[place], made.after(newest))


def test_it_reads_as_many_items_as_its_layers_reach():
    assert [reader(layers).window for layers in range(5)] == [1, 2, 4, 8, 16]
