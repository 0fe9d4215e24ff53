"""The ranking loss against its definition, and its written-down gradient against autograd in float64."""

import math

import pytest
import torch

from model.losses import softmax_loss

NAN = float("nan")


def logits(seed, rows=5, columns=7):
    return 2 * torch.randn((rows, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(logits_BC, targets_B, weights_B):
    p_B = torch.softmax(logits_BC, 1)[torch.arange(len(targets_B)), targets_B]
    return torch.where(weights_B >= 0, weights_B * -torch.log(p_B), weights_B.abs() * -torch.log(1 - p_B))


def test_attraction_repulsion_and_indifference_have_the_losses_of_their_definitions():
    targets, weights = torch.tensor([0, 1, 2, 3, 6]), torch.tensor([1.0, 2.5, -1.0, -0.3, 0.0], dtype=torch.float64)

    losses, _ = softmax_loss(logits(1), targets, weights)

    torch.testing.assert_close(losses, by_definition(logits(1), targets, weights))
    assert losses[4] == 0


@pytest.mark.parametrize("left_out", [False, True])
def test_the_gradient_is_that_of_autograd(left_out):
    targets, weights = torch.tensor([0, 1, 2, 3, 6]), torch.tensor([1.0, 2.5, -1.0, -0.3, 0.0], dtype=torch.float64)
    given = logits(2)
    if left_out:
        given[0, 3] = given[2, 0] = given[2, 5] = -math.inf
    traced = given.clone().requires_grad_()

    _, gradient = softmax_loss(given.clone(), targets, weights)
    by_definition(traced, targets, weights).sum().backward()

    torch.testing.assert_close(gradient, traced.grad)
    assert (gradient[given == -math.inf] == 0).all()


def test_the_gradient_of_a_row_adds_up_to_nothing():
    _, gradient = softmax_loss(logits(3), torch.tensor([0, 1, 2, 3, 6]), torch.tensor([1.0, 2.0, -1.0, -3.0, 0.0]))

    torch.testing.assert_close(gradient.sum(1), torch.zeros(5, dtype=torch.float64))


def test_a_target_without_rivals_loses_nothing_and_pushes_nothing():
    given = torch.full((2, 3), -math.inf)
    given[:, 1] = 4.0

    losses, gradient = softmax_loss(given, torch.tensor([1, 1]), torch.tensor([1.0, -1.0]))

    assert losses[0] == 0
    assert math.isfinite(losses[1])
    assert not gradient.any()


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_scores_far_apart_give_finite_losses_and_gradients_no_longer_than_the_weight(weight):
    given = torch.tensor([[300.0, -300.0, 0.0], [-300.0, 300.0, 0.0]])

    losses, gradient = softmax_loss(given, torch.tensor([0, 0]), torch.tensor([weight, weight]))

    assert losses.isfinite().all()
    assert gradient.abs().max() <= abs(weight) * 1.1


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_a_score_that_is_no_number_shows_in_the_loss(bad):
    given = logits(4)
    given[1, 2] = bad

    losses, _ = softmax_loss(given, torch.tensor([0, 1, 2, 3, 6]), torch.ones(5))

    assert losses[1].isnan()
    assert losses[[0, 2, 3, 4]].isfinite().all()


def test_no_rows_have_no_loss():
    losses, gradient = softmax_loss(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64), torch.zeros(0))

    assert losses.shape == (0,)
    assert gradient.shape == (0, 4)
