"""What every encoder promises, asked of each of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from encoder_cases import (
    HISTORIES,
    STRANGER,
    WIDTH,
    WINDOW,
    make_items,
    make_windows,
    many_histories,
    new,
    numerical_gradient,
    used,
)

from model.encoders.choice import ENCODERS
from model.state import state_digest

pytestmark = pytest.mark.parametrize("name", sorted(ENCODERS))
VECTORLESS = {"cooccurrence"}
DRAWN_FROM_THE_SEED = set(ENCODERS) - {"recency", "cooccurrence"}


def learn(encoder, steps=3, seed=9):
    """Some steps of gradients that only the seed knows; the items stay."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        users, pull_back = encoder.trace(make_windows(), make_items())
        pull_back(torch.randn(users.shape, generator=generator, dtype=users.dtype), torch.zeros_like(make_items()))
        encoder.step()
    return encoder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_window_gives_a_vector_in_the_space_and_the_type_of_the_items(name, dtype):
    users = used(name, dtype=dtype).encode(make_windows(), make_items(dtype=dtype))

    assert users.shape == (len(HISTORIES), WIDTH)
    assert users.dtype == dtype
    assert not users.requires_grad
    assert users.isfinite().all()
    assert name in VECTORLESS or users.any(1).sum() >= len(HISTORIES) - 1


def test_to_trace_gives_the_vectors_of_to_encode(name):
    encoder = used(name)

    traced = encoder.trace(make_windows(), make_items()).users_BD

    assert not traced.requires_grad
    torch.testing.assert_close(traced, encoder.encode(make_windows(), make_items()), rtol=1e-12, atol=1e-12)


def test_an_encoder_starts_with_nothing_to_say_of_a_stranger(name):
    users = new(name).encode(make_windows(), make_items())

    assert not users[STRANGER].any()


def test_all_strangers_are_the_same_whatever_the_items_are(name):
    encoder, nobody = used(name), make_windows([[], []])

    users, others = encoder.encode(nobody, make_items()), encoder.encode(nobody, make_items(seed=2))

    torch.testing.assert_close(users[0], users[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(users, others, rtol=1e-12, atol=1e-12)


def test_users_do_not_depend_on_who_else_is_encoded(name):
    encoder, windows = used(name), make_windows(many_histories(512, 8, WINDOW + 2))

    together = encoder.encode(windows, make_items())

    alone = torch.cat([encoder.encode(windows[place : place + 1], make_items()) for place in range(0, 512, 16)])
    torch.testing.assert_close(together[::16], alone, rtol=1e-10, atol=1e-12)


def test_what_stands_where_nothing_is_filled_changes_nothing(name):
    encoder, windows = used(name), make_windows()
    empty = windows.items_BW < 0
    scribbled = replace(
        windows,
        gaps_BW=np.where(empty, 7, windows.gaps_BW).astype(np.int8),
        kinds_BW=np.where(empty, 2, windows.kinds_BW).astype(np.int8),
    )

    users = encoder.encode(scribbled, make_items())

    torch.testing.assert_close(users, encoder.encode(windows, make_items()), rtol=1e-12, atol=1e-12)


def test_wider_windows_without_more_in_them_change_nothing(name):
    encoder = used(name)

    users = encoder.encode(make_windows(width=WINDOW + 3), make_items())

    torch.testing.assert_close(users, encoder.encode(make_windows(), make_items()), rtol=1e-12, atol=1e-12)


def test_narrower_windows_than_the_encoder_reads_are_histories_as_short(name):
    encoder, short = used(name), [history[:2] for history in HISTORIES]

    users = encoder.encode(make_windows(short, width=2), make_items())

    torch.testing.assert_close(users, encoder.encode(make_windows(short), make_items()), rtol=1e-12, atol=1e-12)


def test_an_item_beyond_the_window_changes_nothing(name):
    encoder, windows = used(name), make_windows([[3, 1, 4, 1, 5, 2, 0]], width=WINDOW + 2)
    other = replace(windows, items_BW=np.where(np.arange(WINDOW + 2) >= WINDOW, 6, windows.items_BW).astype(np.int32))

    users = encoder.encode(other, make_items())

    torch.testing.assert_close(users, encoder.encode(windows, make_items()), rtol=1e-12, atol=1e-12)


def test_the_newest_item_changes_the_vector_where_there_is_one(name):
    users = used(name).encode(make_windows([[1, 3], [2, 3]], bare=True), make_items())

    assert torch.allclose(users[0], users[1]) == (name in VECTORLESS)


def test_the_gradients_are_those_of_the_vectors_by_items_and_by_every_parameter(name):
    encoder, items, windows = used(name), make_items(), make_windows()
    of_users = make_items(len(HISTORIES), seed=2)
    denoise = getattr(encoder, "denoise", lambda *_: 0.0)

    def loss():
        return float((encoder.encode(windows, items) * of_users).sum()) + denoise(windows, items, items.clone())

    by_items = numerical_gradient(loss, items)
    parameters = {part: value for part, value in encoder.state().items() if part in encoder.gradients()}
    by_parameters = {part: numerical_gradient(loss, value) for part, value in parameters.items()}
    encoder.drop_gradients()

    gradient = torch.ones_like(items)
    encoder.trace(windows, items).pull_back(of_users, gradient)

    torch.testing.assert_close(gradient - 1, by_items, rtol=1e-5, atol=1e-7)
    assert encoder.gradients().keys() == by_parameters.keys()
    for part, kept in encoder.gradients().items():
        torch.testing.assert_close(kept, by_parameters[part], rtol=1e-5, atol=1e-7, msg=f"{part}: another gradient")
        assert by_parameters[part].any(), f"{part} has no part in the vectors"


def test_gradients_add_up_until_a_step(name):
    once, twice = used(name), used(name)
    of_users, gradient = make_items(len(HISTORIES), seed=2), torch.zeros_like(make_items())
    once.trace(make_windows(), make_items()).pull_back(of_users, gradient)

    for _ in range(2):
        twice.trace(make_windows(), make_items()).pull_back(of_users, gradient)

    for part, kept in twice.gradients().items():
        torch.testing.assert_close(kept, 2 * once.gradients()[part])


def test_a_step_goes_downhill_where_there_is_anything_to_learn(name):
    encoder, of_users = used(name), make_items(len(HISTORIES), seed=2)
    before, pull_back = encoder.trace(make_windows(), make_items())

    pull_back(of_users, torch.zeros_like(make_items()))
    encoder.step()

    after = encoder.encode(make_windows(), make_items())
    assert (((after - before) * of_users).sum() < 0) == (name not in VECTORLESS)
    assert not any(kept.any() for kept in encoder.gradients().values())


def test_dropped_gradients_move_nothing(name):
    encoder = used(name)
    before = encoder.encode(make_windows(), make_items())
    encoder.trace(make_windows(), make_items()).pull_back(before + 1, torch.zeros_like(make_items()))

    encoder.drop_gradients()
    encoder.step()

    assert torch.equal(encoder.encode(make_windows(), make_items()), before)


def test_the_same_seed_and_steps_give_the_same_digest(name):
    first, second = learn(new(name)), learn(new(name))

    assert state_digest(first.state()) == state_digest(second.state())


def test_another_seed_gives_another_start_where_there_is_anything_to_draw(name):
    differ = state_digest(new(name, seed=0).state()) != state_digest(new(name, seed=1).state())

    assert differ == (name in DRAWN_FROM_THE_SEED)


def test_saved_and_loaded_into_another_it_goes_on_as_if_never_stopped(name):
    straight = learn(learn(new(name)), seed=10)
    saved = {part: value.clone() for part, value in learn(new(name)).state().items()}
    stopped = learn(new(name), steps=1, seed=11)

    stopped.load(saved)
    learn(stopped, seed=10)

    assert state_digest(stopped.state()) == state_digest(straight.state())


def test_the_generators_that_belong_to_others_stay_where_they_are(name):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()

    learn(new(name))

    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_the_items_themselves_are_left_alone(name):
    items = make_items()
    users, pull_back = used(name).trace(make_windows(), items)

    pull_back(users, torch.zeros_like(items))

    assert torch.equal(items, make_items())
    assert not items.requires_grad


def test_a_catalogue_without_items_and_a_batch_without_users_give_empty_answers(name):
    encoder = used(name)
    nobody, pull_nobody_back = encoder.trace(make_windows([]), make_items())
    nothing, pull_nothing_back = encoder.trace(make_windows([[], []]), make_items(0))

    pull_nobody_back(nobody, torch.zeros_like(make_items()))
    pull_nothing_back(nothing, make_items(0))

    assert nobody.shape == (0, WIDTH)
    assert nothing.shape == (2, WIDTH)
    assert all(kept.isfinite().all() for kept in encoder.gradients().values())


@pytest.mark.parametrize(("width", "window", "hidden"), [(1, 1, 1), (5, 3, 2), (2, 50, 4)])
def test_any_width_window_and_hidden_layer_will_do(name, width, window, hidden):
    encoder = used(name, width=width, window=window, hidden=hidden)
    items, windows = make_items(width=width), make_windows(width=window)

    users, pull_back = encoder.trace(windows, items)
    pull_back(users, torch.zeros_like(items))
    encoder.step()

    assert encoder.encode(windows, items).isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_on_a_gpu_it_gives_the_same_vectors_and_gradients(name):
    here, there = used(name), used(name, device=torch.device("cuda"))
    by_items_here, by_items_there = torch.zeros_like(make_items()), torch.zeros_like(make_items()).cuda()
    of_users = make_items(len(HISTORIES), seed=2)
    users_here, pull_back_here = here.trace(make_windows(), make_items())
    users_there, pull_back_there = there.trace(make_windows(), make_items().cuda())

    pull_back_here(of_users, by_items_here)
    pull_back_there(of_users.cuda(), by_items_there)

    torch.testing.assert_close(users_there.cpu(), users_here)
    torch.testing.assert_close(by_items_there.cpu(), by_items_here)
    for part, kept in there.gradients().items():
        torch.testing.assert_close(kept.cpu(), here.gradients()[part])
