"""What the demo shows: a live page on a terminal, plain progress lines elsewhere. Reads a `Tally`, decides nothing."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consumer.tally import Tally

LIST_LENGTH = 10


class Screen:
    """Shows a tally again and again until it is closed; `show` is called often and draws when it is time."""

    def __init__(
        self,
        tally: Tally,
        titles: Mapping[str, str],
        *,
        stream: TextIO,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
        every_seconds: float | None = None,
    ) -> None:
        self._tally = tally
        self._titles = titles
        self._clock = clock
        self._every_seconds = every_seconds or (0.25 if live else 5.0)
        self._shown_at = clock()
        self._console = Console(file=stream, highlight=False, soft_wrap=not live)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if live else None
        if self._live is not None:
            self._live.start()

    def show(self) -> None:
        if self._clock() - self._shown_at < self._every_seconds:
            return
        self._shown_at = self._clock()
        if self._live is not None:
            self._live.update(self._page(), refresh=True)
        else:
            self.say(progress_line(self._tally, self._titles))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(Text(text))  # as it is: a title may hold what would be markup

    def summary(self, facts: Mapping[str, object]) -> None:
        """The end of the demo in words and figures."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value in facts.items():
            table.add_row(name, Text(str(value)))
        self._console.print(Panel(table, title="What happened", expand=False))

    def _page(self) -> Group:
        tally = self._tally
        done = Table.grid()  # a bar alone does not end its line
        done.add_row(ProgressBar(total=max(tally.events, 1), completed=tally.done, width=60))
        figures = Table.grid(padding=(0, 3))
        for row in _figures(tally):
            figures.add_row(*row)
        return Group(
            Text("Headrace: learning from each event, publishing what changed", style="bold"),
            done,
            Panel(figures, title=f"{tally.done:,} of {tally.events:,} events", expand=False),
            self._list_of_one_person(),
        )

    def _list_of_one_person(self) -> Panel:
        person = self._tally.person
        if person is None:
            return Panel("waiting for the first list", expand=False)
        rows = Table.grid(padding=(0, 2))
        before = {item: place for place, item in enumerate(person.before)}
        for place, item in enumerate(person.now[:LIST_LENGTH]):
            rows.add_row(f"{place + 1:2}", _mark(before.get(item), place), Text(self._titles.get(item, item)))
        title = Text(f"user {person.user_id}: list number {person.lists}, just changed")
        return Panel(rows, title=title, expand=False)


def progress_line(tally: Tally, titles: Mapping[str, str]) -> str:
    """One line for where there is no terminal to draw on."""
    rolling, fresh = tally.rolling, tally.newest_freshness()
    line = (
        f"{tally.done:,} of {tally.events:,} events, {tally.events_per_second():,.0f}/s; "
        f"{tally.published:,} lists, {tally.lists_per_second():,.0f}/s; "
        f"freshness p50 {in_ms(fresh.p50)} p99 {in_ms(fresh.p99)}; "
        f"HR@10 {as_share(rolling.hit_ratio)} (popularity {as_share(rolling.popularity_hit_ratio)}), "
        f"MAE {as_share(rolling.mae)}"
    )
    if tally.person is not None and tally.person.now:
        first = tally.person.now[0]
        line += f"; first for user {tally.person.user_id}: {titles.get(first, first)}"
    return line


def _figures(tally: Tally) -> list[tuple[str, str]]:
    rolling, fresh = tally.rolling, tally.newest_freshness()
    return [
        ("events a second", f"{tally.events_per_second():,.0f}"),
        ("lists a second", f"{tally.lists_per_second():,.0f}   ({tally.published:,} published so far)"),
        ("freshness, sent to acknowledged", f"p50 {in_ms(fresh.p50)}   p99 {in_ms(fresh.p99)}"),
        (
            "HR@10, newest events",
            f"{as_share(rolling.hit_ratio)}   (popularity alone: {as_share(rolling.popularity_hit_ratio)})",
        ),
        ("MAE of ratings, newest", as_share(rolling.mae)),
    ]


def _mark(before: int | None, now: int) -> Text:
    if before is None:
        return Text("new", style="bold green")
    if before == now:
        return Text("")
    return Text(f"up {before - now}", style="green") if before > now else Text(f"down {now - before}", style="red")


def in_ms(seconds: float) -> str:
    """Milliseconds with their unit; a dash where there is nothing to tell."""
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.1f} ms"


def as_share(value: float, digits: int = 3) -> str:
    """A figure with so many digits; a dash where there is nothing to tell."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
