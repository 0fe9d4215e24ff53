"""Tables: rows of parameters that start at their first value, grow, and come back from a saved state."""

import numpy as np
import pytest
import torch

from model.growth import LARGE_BYTES
from model.tables import Rows, Table, renewed_rows


def table(spread=0.1, width=3, dtype=torch.float32, seed=1):
    return Table("t", width, spread=spread, seed=seed, device=torch.device("cpu"), dtype=dtype)


def test_growth_keeps_what_was_learned_and_starts_the_new_rows():
    grown = table()
    grown.grow(2)
    grown.values.fill_(9.0)
    at_once = table()
    at_once.grow(500)

    grown.grow(500)

    assert (grown.values[:2] == 9.0).all()
    assert torch.equal(grown.values[2:], at_once.values[2:])
    assert grown.values.shape == (500, 3)


def test_asking_for_fewer_rows_changes_nothing():
    small = table()
    small.grow(4)

    small.grow(2)

    assert small.values.shape == (4, 3)


def test_writing_to_the_values_moves_the_parameters():
    moved = table()
    moved.grow(2)

    moved.values[1] = 5.0

    assert (moved.values[1] == 5.0).all()


def test_a_row_put_back_has_its_first_value_again():
    used = table()
    used.grow(3)
    first = used.values.clone()
    used.values.fill_(9.0)

    used.reset(1)

    assert torch.equal(used.values[1], first[1])
    assert (used.values[[0, 2]] == 9.0).all()


def test_rows_that_begin_anew_are_spread_as_new_ones_by_seed_name_and_step_whatever_they_held():
    rows_N = np.array([70, 3, 12])
    made = [table() for _ in range(3)]
    for used, step in zip(made, (8, 8, 9), strict=True):
        used.grow(80)
        used.values[:] += step * float(used is made[0])
        used.renew(rows_N, step)
    many = renewed_rows("t", 1, 5, 4000, 3, 0.1)

    assert torch.equal(made[0].values[rows_N], made[1].values[rows_N])
    assert not torch.isclose(made[1].values[rows_N], made[2].values[rows_N]).any()
    others = np.setdiff1d(np.arange(80), rows_N)
    assert torch.equal(made[1].values[others], made[2].values[others])
    assert abs(many.std() - 0.1) < 0.005
    assert abs(many.mean()) < 0.005
    assert not renewed_rows("t", 1, 5, 4, 3, 0).any()


def test_a_loaded_table_is_a_copy_and_grows_on_as_the_saved_one_would():
    saved = table()
    saved.grow(2)
    values = saved.values.numpy().copy()
    loaded = table()

    loaded.load(values)
    values[:] = 7.0
    loaded.grow(100)
    saved.grow(100)

    assert torch.equal(loaded.values, saved.values)


@pytest.mark.parametrize("shape", [(2, 4), (6,)])
def test_rows_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=r"table t: the saved rows have the shape .*, the settings ask for width 3"):
        table().load(np.zeros(shape, dtype=np.float32))


def test_first_values_are_the_same_numbers_in_double_precision():
    single, double = table(), table(dtype=torch.float64)

    single.grow(5)
    double.grow(5)

    assert double.values.dtype == torch.float64
    assert torch.equal(double.values.float(), single.values)


def rows_of(dtype=torch.float32, width=4):
    return Rows(width, device=torch.device("cpu"), dtype=dtype)


def test_large_rows_of_a_cpu_grow_where_they_lie_also_after_loading():
    rows, large = rows_of(), LARGE_BYTES // 16
    rows.first(large)
    loaded = rows_of()
    loaded.load(torch.ones(large, 4))

    addresses = [(held.first(large).data_ptr(), held.first(3 * large).data_ptr()) for held in (rows, loaded)]

    assert all(before == after for before, after in addresses)
    assert (loaded.first(3 * large)[:large] == 1).all()
    assert not loaded.first(3 * large)[large:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_of_every_type_keep_what_they_hold_and_new_ones_are_zeros(dtype):
    rows = rows_of(dtype)
    rows.first(3).fill_(2)

    for size in (5, 70, 300, 1000):
        assert (rows.first(size)[:3] == 2).all()
        assert not rows.first(size)[3:].any()
    assert rows.first(1000).dtype == dtype


def test_loaded_rows_are_a_copy():
    values, rows = torch.ones(3, 4), rows_of()

    rows.load(values)
    values.fill_(9)

    assert (rows.first(3) == 1).all()
