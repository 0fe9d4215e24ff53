"""What SIGTERM and Ctrl-C do to a command: the first asks, the second ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from consumer.signals import stop_signals, until_stopped

TWO_SIGNALS = """
import os, signal, sys
from consumer.signals import stop_signals, until_stopped
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


def test_a_signal_ends_the_wait_for_the_next_input_and_not_what_is_done_with_one() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        time.sleep(60)

    with stop_signals() as stopping:
        told = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        found = []
        for one in until_stopped(inputs(), stopping):
            found.append((one, stopping.breaks_off))
            if one == 2:
                told.start()
        told.join()

        assert (found, stopping.is_set(), stopping.breaks_off) == ([(1, False), (2, False)], True, False)


def test_what_fails_before_anything_was_begun_is_the_signals_doing_once_there_was_one() -> None:
    with stop_signals() as stopping:
        with pytest.raises(ConnectionError), stopping.nothing_begun():
            raise ConnectionError

        os.kill(os.getpid(), signal.SIGTERM)
        with stopping.nothing_begun():
            assert stopping.wait(5)
        with pytest.raises(SystemExit) as left, stopping.nothing_begun():
            raise ConnectionError

    assert left.value.code == 143


def test_inputs_that_end_or_fail_do_so_as_ever() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with stop_signals() as stopping:
        assert list(until_stopped([1, 2], stopping)) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            list(until_stopped(failing(), stopping))
        assert not stopping.breaks_off
