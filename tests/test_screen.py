"""What the demo shows: a page on a terminal, lines elsewhere. Drawn for real, on a pseudo-terminal and on a text."""

import io
import os
import pty
import re
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from worker_fakes import Clock

from consumer.lists import Written
from consumer.quality import LiveQuality
from consumer.screen import Screen, as_share, in_ms, progress_line
from consumer.tally import Tally
from producer.events import Recommendations, ScoredItem, SourceEvent

TITLES = {"i1": "The Wheel (1999)", "i2": "[/b] A title: [red]in brackets[/red] :smile:", "i3": "The River (2001)"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    """A demo in its middle: 500 of 1,000 events in two seconds, one person whose list changed."""
    tally = Tally(1_000, LiveQuality(window=10), clock=clock)
    read(tally, "ada", "i3", "i1")
    for _ in range(2):
        clock.seconds += 1
        tally.list_settled([0.004] * 100, True)
        tally.batch_done(SimpleNamespace(taken=[None] * 250), Written(1, 0))  # type: ignore[arg-type]
    tally.rolling = tally.rolling._replace(hit_ratio=0.25, popularity_hit_ratio=0.125, mae=0.75)
    read(tally, "ada", "i1", "i2", "i3", "i99")
    return tally


def read(tally: Tally, user_id: str, *items: str) -> None:
    tally.list_read(
        Recommendations(
            user_id=user_id,
            recommendation_id="r",
            generated_at=0,
            model_version=1,
            source=SourceEvent("events", 0, 0, 0),
            items=[ScoredItem(item, 0.5) for item in items],
        )
    )


class Terminal:
    """A pseudo-terminal, and what was drawn on it."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w")
        self._drawn = b""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                self._drawn += os.read(self._ours, 65_536)
            except OSError:  # nobody writes any more
                return

    def drawn(self) -> str:
        """All of it, once the other side is closed, without colours and movements of the cursor."""
        self.stream.close()
        self._reading.join()
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._drawn.decode())

    def close(self) -> None:
        if not self.stream.closed:
            self.drawn()
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "80"), ("LINES", "40")):
        monkeypatch.setenv(name, value)
    opened = Terminal()
    yield opened
    opened.close()


def shown_on(terminal: Terminal, tally: Tally, clock: Clock, end: Callable[[Screen], Any] = Screen.close) -> str:
    screen = Screen(tally, TITLES, stream=terminal.stream, live=True, clock=clock)
    clock.seconds += 1
    screen.show()
    end(screen)
    screen.close()
    return terminal.drawn()


def test_the_page_shows_events_speed_freshness_and_quality(terminal: Terminal, tally: Tally, clock: Clock) -> None:
    page = shown_on(terminal, tally, clock)

    assert "500 of 1,000 events" in page
    assert re.search(r"events a second +250 ", page)
    assert re.search(r"lists a second +1 +\(2 published so far\)", page)
    assert re.search(r"freshness, sent to acknowledged +p50 4\.0 ms +p99 4\.0 ms", page)
    assert re.search(r"HR@10, newest events +0\.250 +\(popularity alone: 0\.125\)", page)
    assert re.search(r"MAE of ratings, newest +0\.750", page)


def test_the_page_shows_one_list_with_titles_and_what_changed(terminal: Terminal, tally: Tally, clock: Clock) -> None:
    page = shown_on(terminal, tally, clock)

    assert "user ada: list number 2, just changed" in page
    assert re.search(r" 1 +up 1 +The Wheel \(1999\) ", page)
    assert re.search(r" 2 +new +\[/b\] A title: \[red\]in brackets\[/red\] :smile: ", page)
    assert re.search(r" 3 +down 2 +The River \(2001\) ", page)
    assert re.search(r" 4 +new +i99 ", page)  # no title is known


def test_no_more_than_ten_of_a_list_are_shown(terminal: Terminal, tally: Tally, clock: Clock) -> None:
    read(tally, "ada", *(f"item {place}" for place in range(20)))

    page = shown_on(terminal, tally, clock)

    assert "item 9 " in page
    assert "item 10 " not in page


def test_before_the_first_list_the_page_says_so(terminal: Terminal, clock: Clock) -> None:
    page = shown_on(terminal, Tally(0, LiveQuality(window=10), clock=clock), clock)

    assert "waiting for the first list" in page
    assert "0 of 0 events" in page
    assert "p50 -   p99 -" in page
    assert "nan" not in page


def test_what_is_said_stays_as_it_is(terminal: Terminal, tally: Tally, clock: Clock) -> None:
    page = shown_on(terminal, tally, clock, lambda screen: screen.say("[/b] http://127.0.0.1:1/metrics :smile:"))

    assert "[/b] http://127.0.0.1:1/metrics :smile:" in page


def test_the_summary_has_a_line_a_fact(terminal: Terminal, tally: Tally, clock: Clock) -> None:
    page = shown_on(terminal, tally, clock, lambda screen: screen.summary({"events": "[1,000]", "HR@10": 0.25}))

    assert "What happened" in page
    assert re.search(r"events +\[1,000\] ", page)
    assert re.search(r"HR@10 +0\.25 ", page)


def test_the_page_is_drawn_four_times_a_second_at_most(terminal: Terminal, tally: Tally, clock: Clock) -> None:
    screen = Screen(tally, TITLES, stream=terminal.stream, live=True, clock=clock)

    for _ in range(100):
        clock.seconds += 0.02
        screen.show()
    screen.close()

    assert 4 <= terminal.drawn().count("Headrace: learning") <= 9  # and once more when it is closed


def test_without_a_terminal_there_is_a_plain_line_now_and_then(tally: Tally, clock: Clock) -> None:
    stream = io.StringIO()
    screen = Screen(tally, TITLES, stream=stream, live=False, clock=clock)

    for _ in range(110):
        clock.seconds += 0.1
        screen.show()
    screen.close()

    assert stream.getvalue() == 2 * (progress_line(tally, TITLES) + "\n")
    assert "\x1b" not in stream.getvalue()


def test_the_plain_line_says_the_same_as_the_page(tally: Tally) -> None:
    assert progress_line(tally, TITLES) == (
        "500 of 1,000 events, 250/s; 2 lists, 1/s; freshness p50 4.0 ms p99 4.0 ms; "
        "HR@10 0.250 (popularity 0.125), MAE 0.750; first for user ada: The Wheel (1999)"
    )


def test_the_plain_line_before_anything_happened_has_dashes(clock: Clock) -> None:
    line = progress_line(Tally(5, LiveQuality(window=10), clock=clock), TITLES)

    assert line == "0 of 5 events, 0/s; 0 lists, 0/s; freshness p50 - p99 -; HR@10 - (popularity -), MAE -"


def test_a_title_with_markup_in_it_is_a_title_on_a_plain_line_too(tally: Tally, clock: Clock) -> None:
    stream = io.StringIO()
    screen = Screen(tally, TITLES, stream=stream, live=False, clock=clock)
    read(tally, "ada", "i2")
    clock.seconds += 10

    screen.show()

    assert TITLES["i2"] in stream.getvalue()


def test_figures_have_units_and_digits() -> None:
    assert (in_ms(0.0123), in_ms(float("nan"))) == ("12.3 ms", "-")
    assert (as_share(0.12345), as_share(0.12345, 4), as_share(float("nan"), 4)) == ("0.123", "0.1235", "-")
