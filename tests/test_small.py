"""Small parameters: Adagrad, element by element, with what was gathered since the last step."""

import pytest
import torch

from model.small import SmallParameters
from model.state import state_digest


def parameters(rate=0.1):
    return SmallParameters({"one": torch.tensor([1.0, -2.0]).double(), "other": torch.zeros((2, 3)).double()}, rate)


def gather(small, generator):
    for gradient in small.gradients.values():
        gradient += torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)


def test_they_move_as_torchs_own_adagrad_moves_them():
    small, generator = parameters(), torch.Generator().manual_seed(1)
    twins = [torch.nn.Parameter(value.clone()) for value in small.values.values()]
    theirs = torch.optim.Adagrad(twins, lr=0.1)

    for _ in range(20):
        gather(small, generator)
        for twin, gradient in zip(twins, small.gradients.values(), strict=True):
            twin.grad = gradient.clone()
        small.step()
        theirs.step()

    for value, twin in zip(small.values.values(), twins, strict=True):
        torch.testing.assert_close(value, twin.data, rtol=1e-6, atol=1e-8)


def test_what_has_no_gradient_stays():
    small = parameters()
    small.gradients["one"][0] = 5

    small.step()

    assert small["one"].tolist() == [pytest.approx(0.9), -2]
    assert not small["other"].any()


def test_after_a_step_gathering_begins_anew():
    small = parameters()
    gather(small, torch.Generator().manual_seed(1))

    small.step()

    assert not any(gradient.any() for gradient in small.gradients.values())


def test_dropped_gradients_leave_no_trace_in_the_steps_to_come():
    small, undisturbed = parameters(), parameters()
    gather(small, torch.Generator().manual_seed(1))
    small.gradients["one"][1] = torch.nan

    small.drop_gradients()
    for one in (small, undisturbed):
        gather(one, torch.Generator().manual_seed(2))
        one.step()

    assert state_digest(small.state()) == state_digest(undisturbed.state())


def test_saved_and_loaded_they_go_on_as_if_never_stopped():
    straight, generator = parameters(), torch.Generator().manual_seed(1)
    gather(straight, generator)
    straight.step()
    stopped = parameters()

    stopped.load({name: value.clone() for name, value in straight.state().items()})
    for one in (straight, stopped):
        gather(one, torch.Generator().manual_seed(2))
        one.step()

    assert state_digest(stopped.state()) == state_digest(straight.state())


def test_loading_keeps_the_tensors_that_others_hold():
    small = parameters()
    held = small["one"]

    small.load({**parameters().state(), "one": torch.tensor([7.0, 8.0]).double()})

    assert held.tolist() == [7, 8]


def test_on_gpus_they_move_as_by_the_kernel():
    ours, twin = parameters(), parameters()
    for seed in range(5):
        for small in (ours, twin):
            gather(small, torch.Generator().manual_seed(seed))
        ours.step()
        twin._step_anywhere(twin._all_gradients)

    for name, value in ours.state().items():
        torch.testing.assert_close(value, twin.state()[name])
    assert not any(gradient.any() for gradient in [*ours.gradients.values(), *twin.gradients.values()])
