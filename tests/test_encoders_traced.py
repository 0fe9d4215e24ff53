"""Traced encoders: they start as the recency sums, and draw their first values from names and seed alone."""

import pytest
import torch
from encoder_cases import CPU, HISTORIES, WIDTH, make_items, make_windows, new, used
from torch import nn

from model.encoders.choice import ENCODERS
from model.encoders.recency import recency_of
from model.encoders.traced import TracedEncoder, fill, read
from model.state import state_digest

TRACED = sorted(name for name in ENCODERS if isinstance(new(name), TracedEncoder))
EVERY_TRACED = pytest.mark.parametrize("name", TRACED)


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(400, 30)
        self.embedding = nn.Embedding(50, 40)
        self.norm = nn.LayerNorm(4)
        self.convolution = nn.Conv1d(50, 30, kernel_size=2)


def test_most_networks_are_traced():
    assert TRACED == ["autoencoder", "cnn", "gru", "lstm", "transformer"]


@EVERY_TRACED
def test_it_starts_as_the_recency_sums(name):
    users = new(name).encode(make_windows(), make_items())

    assert torch.equal(users, new("recency").encode(make_windows(), make_items()))


@EVERY_TRACED
def test_the_recency_sums_below_it_learn_as_they_would_alone(name):
    encoder, alone, of_users = new(name), new("recency"), make_items(len(HISTORIES), seed=2)

    for one in (encoder, alone):
        one.trace(make_windows(), make_items()).pull_back(of_users, make_items())
        one.step()

    assert state_digest(recency_of(encoder.state())) == state_digest(alone.state())


@EVERY_TRACED
def test_after_one_step_the_network_has_left_its_start(name):
    encoder, of_users = new(name), make_items(len(HISTORIES), seed=2)
    encoder.trace(make_windows(), make_items()).pull_back(of_users, make_items())

    encoder.step()

    sums = encoder.recency.encode(make_windows(), make_items())
    assert not torch.allclose(encoder.encode(make_windows(), make_items()), sums)


@EVERY_TRACED
def test_the_network_reads_times_and_kinds_where_it_has_a_place_for_them(name):
    encoder = used(name)
    parts = {part.split(".")[1] for part in encoder.gradients() if part.startswith("reader.")}

    assert ({"gaps", "kinds"} <= parts) == (name != "autoencoder")


@EVERY_TRACED
def test_the_optimiser_moves_the_very_numbers_of_the_network(name):
    encoder = used(name)

    assert all(
        encoder.layers.values[part].data_ptr() == value.data_ptr() for part, value in encoder.network.named_parameters()
    )


def filled(seed, name="network"):
    with torch.device("meta"):
        network = Everything()
    network.to_empty(device=CPU).to(torch.float64)
    fill(network, name, seed)
    return network


def test_first_values_depend_on_names_and_seed_alone():
    first = filled(1).state_dict()

    torch.manual_seed(5)
    again, other_seed, other_name = filled(1).state_dict(), filled(2).state_dict(), filled(1, "other").state_dict()

    assert state_digest(first) == state_digest(again)
    for part in ("linear.weight", "embedding.weight", "convolution.weight"):
        assert not torch.equal(first[part], other_seed[part])
        assert not torch.equal(first[part], other_name[part])


def test_first_values_have_the_size_that_keeps_a_signal_as_it_is():
    start = filled(1).state_dict()

    assert start["linear.weight"].std().item() == pytest.approx(400**-0.5, rel=0.05)
    assert start["convolution.weight"].std().item() == pytest.approx(100**-0.5, rel=0.05)
    assert start["embedding.weight"].std().item() == pytest.approx(0.1, rel=0.05)
    assert start["norm.weight"].tolist() == [1, 1, 1, 1]
    assert not any(start[part].any() for part in ("linear.bias", "norm.bias", "convolution.bias"))


def test_a_reading_holds_the_newest_items_and_zeros_where_there_is_nothing():
    items = make_items()

    reading, rows = read(make_windows([[3, 1, 4], [2], []]), 2, items)

    assert rows.tolist() == [[3, 1], [2, -1], [-1, -1]]
    assert reading.filled_BW.tolist() == [[True, True], [True, False], [False, False]]
    assert torch.equal(reading.items_BWD[0], items[[3, 1]])
    assert torch.equal(reading.items_BWD[1], torch.stack((items[2], torch.zeros(WIDTH, dtype=torch.float64))))
    assert not reading.items_BWD[2].any()
