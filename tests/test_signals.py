"""What SIGTERM and Ctrl-C do to a command: the first asks, the second ends."""

import os
import signal
import subprocess
import sys

import pytest

from consumer.signals import stop_signals

TWO_SIGNALS = """
import os, signal, sys
from consumer.signals import stop_signals
with stop_signals() as stopping:
    os.kill(os.getpid(), signal.{first})
    print("asked", stopping.is_set(), flush=True)
    os.kill(os.getpid(), signal.{second})
    print("not reached")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_only_sets_the_event(number: signal.Signals) -> None:
    with stop_signals() as stopping:
        before = stopping.is_set()
        os.kill(os.getpid(), number)

        assert stopping.wait(5)

    assert not before


@pytest.mark.parametrize(("first", "second", "status"), [("SIGTERM", "SIGTERM", 143), ("SIGTERM", "SIGINT", 130)])
def test_a_second_signal_leaves_at_once(first: str, second: str, status: int) -> None:
    program = TWO_SIGNALS.format(first=first, second=second)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("asked True\n", status)


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    with stop_signals():
        during = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert during[0] is during[1]
    assert during[0] not in before
