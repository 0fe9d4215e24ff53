"""`compiled` and its plain twin."""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import consumer.kernels
import model.kernels
from model.kernels import compiled as module

SCRIPT = Path(__file__).parent / "kernel_digests.py"


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


# --- a process that compiles, and the next one that finds what it compiled ---


def loose_helpers():
    """(kernel, another kernel that it calls and that may reorder its sums), by names."""
    for package in (model.kernels, consumer.kernels):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for kernel in vars(importlib.import_module(found.name)).values():
                if not hasattr(kernel, "py_func") or kernel.py_func.__module__ != found.name:
                    continue
                for name in kernel.py_func.__code__.co_names:
                    helper = kernel.py_func.__globals__.get(name)
                    if getattr(helper, "targetoptions", {}).get("fastmath"):
                        yield f"{found.name}.{kernel.py_func.__name__}", helper


@pytest.mark.skipif(not module.IS_COMPILED, reason="numba is not installed")
def test_what_may_reorder_its_sums_is_a_part_of_each_kernel_that_calls_it():
    found = list(loose_helpers())

    assert len(found) > 10
    assert [(kernel, str(helper)) for kernel, helper in found if not helper.targetoptions["forceinline"]] == []


def digests(folder, *parts):
    surroundings = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(SCRIPT.parent.parent)}
    done = subprocess.run(
        [sys.executable, SCRIPT, *parts], env=surroundings, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.skipif(not module.IS_COMPILED, reason="numba is not installed")
@pytest.mark.parametrize(
    "parts", [("ratings",), pytest.param((), marks=pytest.mark.soak, id="all")], ids=lambda parts: " ".join(parts)
)
def test_the_process_that_compiles_and_the_one_that_loads_agree_to_the_bit(tmp_path, parts):
    compiling = digests(tmp_path, *parts)

    assert any(tmp_path.rglob("*.nbc"))
    assert digests(tmp_path, *parts) == compiling
