"""The recurrent reader, one history at a time. What it promises as an encoder: test_encoders_interface.py."""

import pytest
import torch
from encoder_cases import HISTORIES, STRANGER, make_items, make_windows, used
from torch import nn

from model.encoders.traced import read


@pytest.mark.parametrize(("name", "cell"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_the_summary_is_the_state_after_the_newest_of_the_items_oldest_first(name, cell):
    reader = used(name).network.reader
    reading, _ = read(make_windows(), reader.window, make_items())

    with torch.no_grad():
        summary = reader(reading)

    assert isinstance(reader.cell, cell)
    steps = reading.items_BWD + reader.gaps(reading.gaps_BW) + reader.kinds(reading.kinds_BW)
    for place, history in enumerate(HISTORIES):
        if history:
            oldest_first = steps[place, : len(history)].flip(0)
            states, _ = reader.cell(oldest_first[None])
            torch.testing.assert_close(summary[place], states[0, -1])
    assert not summary[STRANGER].any()


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_order_of_the_items_matters(name):
    reader, windows = used(name).network.reader, make_windows([[1, 2, 3], [1, 3, 2]], bare=True)

    with torch.no_grad():
        one, other = reader(read(windows, 5, make_items())[0])

    assert not torch.allclose(one, other)
