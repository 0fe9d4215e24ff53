"""The residual network with its gradient written down. What it promises as an encoder: test_encoders_interface.py."""

import torch
from encoder_cases import HISTORIES, STRANGER, make_items, make_windows, new, used

from model.windows import LENGTH_BUCKETS


def test_it_starts_as_the_recency_sums():
    users = new("dnn").encode(make_windows(), make_items())

    assert torch.equal(users, new("recency").encode(make_windows(), make_items()))


def test_what_it_adds_is_one_hidden_layer_over_the_sums_and_the_length_of_the_history():
    encoder, windows = used("dnn"), make_windows()
    sums = encoder.recency.encode(windows, make_items())

    users = encoder.encode(windows, make_items())

    lengths = torch.eye(LENGTH_BUCKETS, dtype=torch.float64)[windows.lengths_B.astype(int)]
    hidden = (torch.cat((sums, lengths), 1) @ encoder.layers["first"]).clamp(min=0)
    torch.testing.assert_close(users, sums + hidden @ encoder.layers["second"])


def test_strangers_get_a_vector_once_there_is_one_to_learn():
    encoder = new("dnn")
    users, pull_back = encoder.trace(make_windows(), make_items())
    assert not users[STRANGER].any()

    pull_back(make_items(len(HISTORIES), seed=2), make_items())
    encoder.step()

    assert encoder.encode(make_windows(), make_items())[STRANGER].any()
