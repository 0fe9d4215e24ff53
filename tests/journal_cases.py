"""Journals that are opened one after another in one folder, and steps in them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from consumer.journal import Journal, Run


def journals_in(folder: Path) -> Iterator[Callable[[], Journal]]:
    """A function that opens the journal of this folder anew, as the next run does; all are closed at the end."""
    opened = []

    def reopen():
        opened.append(Journal(folder))
        return opened[-1]

    yield reopen

    for journal in opened:
        journal.close()


def started(journal, *steps, oldest_step=0):
    """Let the journal begin a segment with these steps (`append`)."""
    journal.start_segment(oldest_step)
    append(journal, *steps)
    return journal


def append(journal, *steps):
    """Steps of one record each, whose offset is the step's number."""
    for step in steps:
        journal.append(step, [Run(0, step, step + 1)])
