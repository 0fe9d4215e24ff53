"""Optimizers by row: torch's own where the two coincide, and what rows promise beyond that."""

import pytest
import torch

from model.optimizers import OPTIMIZERS, make_optimizer
from model.tables import Table

EVERY_OPTIMIZER = pytest.mark.parametrize("name", sorted(OPTIMIZERS))
TORCH_TWINS = {
    "sgd": (4, lambda p: torch.optim.SGD([p], lr=0.1)),
    "adagrad": (1, lambda p: torch.optim.Adagrad([p], lr=0.1)),
    "adam": (1, lambda p: torch.optim.Adam([p], lr=0.1, betas=(0.9, 0.99), eps=1e-10)),
}


def table(rows, width):
    made = Table("t", width, spread=1.0, seed=1, device=torch.device("cpu"), dtype=torch.float64)
    made.grow(rows)
    return made


def gradients(seed, number, rows, width):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((number, rows, width), generator=generator, dtype=torch.float64)


@EVERY_OPTIMIZER
def test_it_moves_as_torchs_own_where_a_row_has_one_number(name):
    width, twin = TORCH_TWINS[name]
    ours = table(6, width)
    parameter = torch.nn.Parameter(ours.values.clone())
    optimizer, theirs = make_optimizer(name, ours, 0.1), twin(parameter)

    for gradient in gradients(2, 20, 6, width):
        optimizer.step(None, gradient)
        parameter.grad = gradient.clone()
        theirs.step()

    torch.testing.assert_close(ours.values, parameter.data, rtol=1e-6, atol=1e-8)


@EVERY_OPTIMIZER
def test_some_rows_move_as_they_would_with_all(name):
    of_some, of_all = table(6, 3), table(6, 3)
    some, everything = make_optimizer(name, of_some, 0.1), make_optimizer(name, of_all, 0.1)
    rows = torch.tensor([4, 1, 2])

    for gradient in gradients(3, 5, 6, 3):
        only_these = torch.zeros_like(gradient)
        only_these[rows] = gradient[rows]
        some.step(rows, gradient[rows])
        everything.step(None, only_these)

    torch.testing.assert_close(of_some.values, of_all.values)


@EVERY_OPTIMIZER
def test_a_row_without_gradient_stays_where_it_is(name):
    moved = table(4, 3)
    optimizer = make_optimizer(name, moved, 0.1)
    optimizer.step(None, torch.ones((4, 3), dtype=torch.float64))
    before = moved.values.clone()
    gradient = torch.ones((4, 3), dtype=torch.float64)
    gradient[[0, 2]] = 0

    optimizer.step(None, gradient)

    assert torch.equal(moved.values[[0, 2]], before[[0, 2]])
    assert not torch.isclose(moved.values[[1, 3]], before[[1, 3]]).any()


@pytest.mark.parametrize("name", ["adagrad", "adam"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e12])
def test_the_first_step_is_as_long_as_the_rate_says_whatever_the_size_of_the_gradient(name, size):
    moved = table(1, 4)
    before = moved.values.clone()
    gradient = torch.tensor([[3.0, -1.0, 0.5, 2.0]], dtype=torch.float64) * size

    make_optimizer(name, moved, 0.1).step(None, gradient)

    length = float((moved.values - before).norm())
    assert length <= 0.1 * 4**0.5 * (1 + 1e-9)
    assert size < 1 or length >= 0.1 * 4**0.5 * (1 - 1e-6)


@pytest.mark.parametrize("name", ["adagrad", "adam"])
def test_a_row_that_gets_the_sum_of_hundreds_of_gradients_settles_instead_of_diverging(name):
    skewed = table(2, 3)
    optimizer = make_optimizer(name, skewed, 0.1)
    mentions = torch.tensor([[800.0], [1.0]], dtype=torch.float64)

    for _ in range(2000):
        optimizer.step(None, mentions * (skewed.values - 2.0))  # each mention pulls its row to 2

    torch.testing.assert_close(skewed.values, torch.full((2, 3), 2.0, dtype=torch.float64), atol=0.05, rtol=0)


@EVERY_OPTIMIZER
def test_saved_and_loaded_it_goes_on_alike_while_the_table_grows(name):
    never_saved, restored = table(3, 2), table(3, 2)
    first = make_optimizer(name, never_saved, 0.1)
    first.step(None, gradients(4, 1, 3, 2)[0])
    restored.values.copy_(never_saved.values)
    saved = {part: value.clone() for part, value in first.state().items()}
    kept = {part: value.clone() for part, value in saved.items()}

    second = make_optimizer(name, restored, 0.1)
    second.load(saved)
    for moved, optimizer in ((never_saved, first), (restored, second)):
        moved.grow(200)
        for gradient in gradients(5, 3, 200, 2):
            optimizer.step(None, gradient)

    assert torch.equal(never_saved.values, restored.values)
    assert all(torch.equal(saved[part], value) for part, value in kept.items())


@EVERY_OPTIMIZER
def test_a_reset_row_moves_like_a_new_one(name):
    used, new = table(2, 3), table(2, 3)
    optimizer = make_optimizer(name, used, 0.1)
    optimizer.step(None, gradients(6, 1, 2, 3)[0])
    used.reset(1)
    optimizer.reset(1)
    gradient = gradients(7, 1, 2, 3)[0]

    optimizer.step(None, gradient)
    make_optimizer(name, new, 0.1).step(None, gradient)

    torch.testing.assert_close(used.values[1], new.values[1])


def test_a_name_that_is_no_optimizer_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="optimizer: expected one of sgd, adagrad, adam, got 'rmsprop'"):
        make_optimizer("rmsprop", table(1, 1), 0.1)


def test_faded_adagrad_moves_a_row_as_one_that_gathered_less():
    ours, other = table(1, 4), table(1, 4)
    faded, fresh = make_optimizer("adagrad", ours, 0.1), make_optimizer("adagrad", other, 0.1)
    gradient = torch.full((1, 4), 2.0, dtype=torch.float64)
    faded.step(None, gradient)
    fresh.step(None, gradient / 2)
    moved, moved_too = ours.values.clone(), other.values.clone()

    faded.fade(0.25)

    faded.step(None, gradient)
    fresh.step(None, gradient)
    torch.testing.assert_close(ours.values - moved, other.values - moved_too)


@EVERY_OPTIMIZER
def test_fading_by_one_changes_nothing(name):
    ours, other = table(3, 4), table(3, 4)
    faded, plain = make_optimizer(name, ours, 0.1), make_optimizer(name, other, 0.1)

    for gradient in gradients(4, 5, 3, 4):
        faded.fade(1.0)
        faded.step(None, gradient)
        plain.step(None, gradient)

    assert torch.equal(ours.values, other.values)


@pytest.mark.parametrize("rows", [None, torch.tensor([4, 1, 2])], ids=["all", "some"])
def test_the_adagrad_of_gpus_moves_rows_as_the_kernel_does(rows):
    ours, twin = table(6, 11), table(6, 11)
    kernel, plain = make_optimizer("adagrad", ours, 0.1), make_optimizer("adagrad", twin, 0.1)

    for gradient in gradients(8, 5, 6 if rows is None else 3, 11):
        kernel.step(rows, gradient)
        plain._step_anywhere(rows, gradient)

    torch.testing.assert_close(ours.values, twin.values)
    torch.testing.assert_close(kernel.state()["squares"], plain.state()["squares"])
