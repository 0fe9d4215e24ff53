"""The denoising loss. What the encoder promises as an encoder: test_encoders_interface.py."""

import pytest
import torch
from encoder_cases import HISTORIES, make_items, make_windows, many_histories, new, used

import model.encoders.autoencoder as module
from model.encoders.traced import read


def denoise(encoder, histories=HISTORIES, items=None):
    items = make_items() if items is None else items
    gradient = torch.zeros_like(items)
    return encoder.denoise(make_windows(histories), items, gradient), gradient


def test_the_order_of_the_items_does_not_matter_to_the_summary():
    reader = new("autoencoder").network.reader

    with torch.no_grad():
        one, other = reader(read(make_windows([[1, 2, 3], [3, 1, 2]]), 5, make_items())[0])

    torch.testing.assert_close(one, other)


def test_encoding_hides_nothing():
    encoder = used("autoencoder")
    before = encoder.encode(make_windows(), make_items())

    encoder._steps += 1

    assert torch.equal(encoder.encode(make_windows(), make_items()), before)


def test_what_is_hidden_depends_on_the_seed_and_on_the_step_alone():
    encoder, histories = used("autoencoder"), many_histories(50, 8, 5)
    first, again = denoise(encoder, histories)[0], denoise(encoder, histories)[0]

    encoder.step()
    encoder_of_other_seed = used("autoencoder", seed=5)
    encoder_of_other_seed._seed = 1

    assert first == again
    assert denoise(encoder, histories)[0] != first
    assert denoise(encoder_of_other_seed, histories)[0] != first


def test_windows_of_one_item_leave_nothing_to_tell_from_anything():
    loss, gradient = denoise(used("autoencoder"), [[4], [4], []])

    assert loss == pytest.approx(0)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_an_item_that_is_shown_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(module, "HIDDEN_SHARE", 0.0)

    loss, gradient = denoise(used("autoencoder"))

    assert loss == 0
    assert not gradient.any()


def test_a_blind_network_loses_the_logarithm_of_the_number_of_candidates(monkeypatch):
    monkeypatch.setattr(module, "HIDDEN_SHARE", 1.0)
    encoder, histories = new("autoencoder"), [[0, 1, 2], [3, 4], [5]]
    for value in encoder.network.reader.parameters():
        value.data.zero_()

    loss, _ = denoise(encoder, histories)

    assert loss == pytest.approx(encoder.denoising * 3 * torch.tensor(6.0).log().item())


def test_denoising_learns_which_items_go_together():
    encoder, items = new("autoencoder", width=16, hidden=8), make_items(width=16) * 0.3
    histories = [[0, 1, 2, 3], [4, 5, 6, 7]] * 20
    losses = []
    for _ in range(150):
        loss, gradient = denoise(encoder, histories, items)
        items -= 0.05 * gradient
        encoder.step()
        losses.append(loss)

    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


def test_more_candidates_than_allowed_are_drawn_from(monkeypatch):
    monkeypatch.setattr(module, "MOST_CANDIDATES", 3)
    encoder = used("autoencoder")
    losses = {denoise(encoder, [[0, 1, 2, 3, 4], [5, 6, 7, 1, 0]])[0] for _ in range(3)}

    _, gradient = denoise(encoder, [[0, 1, 2, 3, 4], [5, 6, 7, 1, 0]])

    assert len(losses) == 1
    assert gradient.isfinite().all()
