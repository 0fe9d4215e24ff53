"""The console script `headrace`, and `python -m consumer ...`, which is the same.

The base installation brings the script without what it needs, so this file imports nothing that may be missing.
"""

import os
import signal
import sys
from types import FrameType
from typing import Final

OURS: Final = ("consumer", "model", "producer")
INTERRUPTED: Final = 130


def told_to_end(number: int, _frame: FrameType | None) -> None:
    """What SIGTERM does where a command has no better way to end: to the first process of a container it is nothing."""
    sys.exit(128 + number)


def hold_closed_streams() -> None:
    """Put nowhere in the place of standard output and error where they are closed: the next file that is opened would
    have that place, and what libraries write there.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            os.dup2(nowhere, number)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - open to the end
    if nowhere > 2:
        os.close(nowhere)


def main() -> None:
    """Run the command line; one line and exit status 2 where the extra `worker` is not installed."""
    hold_closed_streams()
    signal.signal(signal.SIGTERM, told_to_end)
    try:
        from consumer.cli import main as run
    except KeyboardInterrupt:  # the imports take a second; what comes later sees to it itself
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in OURS:
            raise
        print(
            f"headrace: {missing} is not installed. The base installation sends events and reads lists from Python; "
            "the commands need more: pip install '.[worker]' in the folder of Headrace",
            file=sys.stderr,
        )
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
