"""`compiled` and its plain twin."""

import importlib
import sys

import numpy as np
import pytest

from model.kernels import compiled as module


def double_all(numbers):
    for place in range(len(numbers)):
        numbers[place] *= 2


@pytest.mark.skipif(not module.IS_COMPILED, reason="numba is not installed")
def test_a_compiled_function_does_what_its_plain_twin_does():
    fast = module.compiled(double_all)
    by_fast, by_plain = np.arange(5.0), np.arange(5.0)

    fast(by_fast)
    module.interpreted(fast)(by_plain)

    assert by_fast.tolist() == by_plain.tolist() == [0, 2, 4, 6, 8]
    assert module.interpreted(fast) is double_all
    assert fast is not double_all


def test_a_plain_function_is_its_own_twin():
    assert module.interpreted(double_all) is double_all


def test_without_numba_the_function_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)  # import numba now raises ImportError
    spec = importlib.util.find_spec("model.kernels.compiled")
    without = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(without)

    assert not without.IS_COMPILED
    assert without.compiled(double_all) is double_all
