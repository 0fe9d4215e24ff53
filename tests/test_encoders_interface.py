"""What every encoder promises, asked of each of them."""

import pytest
import torch

from model.learner import ENCODERS, LearnerSettings

WINDOWS = torch.tensor([[3, 1, 4, 1], [2, -1, -1, -1], [-1, -1, -1, -1], [0, 3, -1, -1]])

pytestmark = pytest.mark.parametrize("name", sorted(ENCODERS))


def encoder(name):
    return ENCODERS[name](LearnerSettings(window=4))


def items(seed=1):
    return torch.randn((6, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_window_gives_a_vector_in_the_space_of_the_items(name):
    users = encoder(name).encode(WINDOWS, items())

    assert users.shape == (4, 3)
    assert users.dtype == torch.float64


def test_an_empty_window_gives_the_zero_vector(name):
    users = encoder(name).encode(WINDOWS, items())

    assert not users[2].any()
    assert users[[0, 1, 3]].any(1).all()


def test_users_do_not_depend_on_who_else_is_encoded(name):
    together = encoder(name).encode(WINDOWS, items())

    alone = torch.cat([encoder(name).encode(window[None], items()) for window in WINDOWS])

    torch.testing.assert_close(together, alone)


def test_the_gradient_by_the_items_is_that_of_autograd_and_is_added(name):
    traced = items().requires_grad_()
    of_users = items(2)[:4]
    gradient = torch.ones((6, 3), dtype=torch.float64)

    encoder(name).encode(WINDOWS, traced).backward(of_users)
    encoder(name).pull_back(WINDOWS, of_users, gradient)

    torch.testing.assert_close(gradient - 1, traced.grad)


def test_a_catalogue_without_items_and_a_batch_without_users_give_empty_answers(name):
    nobody = encoder(name).encode(WINDOWS[:0], items())
    nothing = encoder(name).encode(torch.full((2, 4), -1), items()[:0])

    assert nobody.shape == (0, 3)
    assert nothing.tolist() == [[0, 0, 0], [0, 0, 0]]
