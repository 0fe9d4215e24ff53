"""Being told of kernels that are compiled, and leaving between two of them."""

import importlib
import sys

import numpy as np
import pytest

from model.kernels import compiling as module
from model.kernels.compiled import IS_COMPILED, compiled
from model.kernels.compiling import before_each_compilation

needs_numba = pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")


class Enough(Exception):
    """What a teller may raise."""


@pytest.fixture(autouse=True)
def nothing_on_disk(tmp_path, monkeypatch):
    if IS_COMPILED:
        monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))


def two_kernels():
    """A kernel that calls another one."""

    @compiled
    def add(one, other):
        return one + other

    @compiled
    def add_up(numbers):
        total = 0.0
        for number in numbers:
            total = add(total, number)
        return total

    return add_up


@needs_numba
def test_each_kernel_is_told_of_once_before_it_is_compiled():
    add_up, told = two_kernels(), []

    with before_each_compilation(lambda: told.append(len(add_up.signatures))):
        assert add_up(np.arange(4.0)) == 6
        assert add_up(np.arange(5.0)) == 10

    assert told == [0, 0]


@needs_numba
@pytest.mark.parametrize("told_first", [0, 1], ids=["the kernel", "the one that it calls"])
def test_what_is_raised_leaves_the_call_and_the_next_one_compiles(told_first):
    add_up, told = two_kernels(), []

    def leave():
        told.append(None)
        if len(told) > told_first:
            raise Enough

    with pytest.raises(Enough), before_each_compilation(leave):
        add_up(np.arange(4.0))

    assert add_up(np.arange(4.0)) == 6


@needs_numba
def test_afterwards_nobody_is_told():
    add_up, told = two_kernels(), []

    with before_each_compilation(lambda: told.append(None)):
        pass
    add_up(np.arange(4.0))

    assert told == []


def test_without_numba_there_is_nothing_to_tell(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)  # import numba now raises ImportError
    monkeypatch.delitem(sys.modules, "numba.core", raising=False)
    spec = importlib.util.find_spec(module.__name__)
    without = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(without)

    with without.before_each_compilation(lambda: pytest.fail("told")):
        pass
