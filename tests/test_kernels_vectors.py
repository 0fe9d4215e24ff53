"""Eight numbers at once: compiled and interpreted, what the words say."""

import numpy as np
import pytest

from model.kernels.compiled import compiled_loosely, interpreted
from model.kernels.vectors import load, plus_product, plus_scaled, scaled, store, total, zeros


@compiled_loosely
def everything(values_ND, factor, out_ND):
    one, other = load(values_ND, 0, 1), load(values_ND, 1, 3)
    store(out_ND, 0, 2, plus_scaled(one, other, factor))
    store(out_ND, 1, 0, plus_product(zeros(values_ND), one, other))
    store(out_ND, 2, 4, scaled(one, factor))
    return total(other)


@pytest.mark.parametrize("kernel", [everything, interpreted(everything)], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loads_stores_and_sums(kernel, dtype):
    values, out = np.random.default_rng(1).normal(size=(2, 12)).astype(dtype), np.full((3, 12), 7, dtype)
    expected = out.copy()
    expected[0, 2:10] = values[0, 1:9] + values[1, 3:11] * dtype(0.3)
    expected[1, :8] = values[0, 1:9] * values[1, 3:11]
    expected[2, 4:] = values[0, 1:9] * dtype(0.3)

    whole = kernel(values, dtype(0.3), out)

    np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert whole == pytest.approx(values[1, 3:11].sum(), rel=1e-5)
