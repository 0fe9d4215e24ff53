"""The watch over blocks of errors: compiled and interpreted raise the same alarms; what they mean: test_drift.py."""

import numpy as np

from model.kernels.compiled import interpreted
from model.kernels.drift import WARM_UP, watch_blocks


def test_compiled_and_interpreted_raise_the_same_alarms_and_leave_the_same_numbers():
    draw = np.random.default_rng(1)
    means = np.concatenate((draw.normal(size=200), draw.normal(2.0, size=100), draw.normal(-1.0, size=100)))
    found = []
    for kernel in (watch_blocks, interpreted(watch_blocks)):
        numbers, rises = np.zeros(7), np.zeros(len(means))

        alarms = kernel(means, numbers, rises)

        found.append((alarms, numbers, rises))
    (alarms, numbers, rises), (plain_alarms, plain_numbers, plain_rises) = found
    assert alarms == plain_alarms > 0
    np.testing.assert_array_equal(numbers, plain_numbers)
    np.testing.assert_array_equal(rises, plain_rises)
    assert rises[0] > 1


def test_nothing_is_an_alarm_before_the_spread_is_known():
    numbers, rises = np.zeros(7), np.zeros(WARM_UP)

    assert watch_blocks(np.linspace(0, 1000, WARM_UP), numbers, rises) == 0
    assert numbers[0] == WARM_UP
