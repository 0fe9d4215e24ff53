"""`headrace watch [USER]`: follow the recommendations topic, with what changed in each list marked."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from consumer.config import Settings
from consumer.signals import stop_signals
from producer.events import Recommendations
from producer.subscriber import Forgotten, Subscriber

LISTS_REMEMBERED: Final = 10_000
"""Users whose last list is kept to compare the next one with; beyond, the one longest without news is dropped."""

_POLL_SECONDS = 0.2
_NO_ITEMS: Final = "      no items: all that are known were seen, or cannot be recommended"


def run(
    settings: Settings,
    user_id: str | None = None,
    *,
    from_beginning: bool = False,
    limit: int | None = None,
    write: Callable[[str], None] = lambda text: print(text, flush=True),
) -> dict[str, Any]:
    """Write each list as it comes, until Ctrl-C or `limit` messages: whole for one user, a line each for all users.

    from_beginning: first what the topic holds already. A topic that does not exist is waited for, and that is logged.
    The answer: `lists`, `forgotten` and `malformed`, as counted.
    Raises ConnectionError where no broker answers, SystemExit where it is told to stop before one does, and ValueError
    for a limit below 1 and for a user whom nobody can be.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected 1 or more, got {limit}")
    if user_id == "":
        raise ValueError("USER: expected a user_id, got an empty one; leave it out to see everybody's lists")
    changes = Changes(one_user=user_id is not None)
    with stop_signals() as stopping, ExitStack() as open_ones:
        with stopping.nothing_begun():
            subscriber = open_ones.enter_context(
                Subscriber(
                    settings.bootstrap_servers,
                    topic=settings.recommendations_topic,
                    users=None if user_id is None else [user_id],
                    from_beginning=from_beginning,
                    librdkafka=settings.librdkafka,
                    stopping=stopping.is_set,
                )
            )
        while not stopping.is_set() and (limit is None or changes.lists + changes.forgotten < limit):
            news = subscriber.poll(_POLL_SECONDS)
            if news is not None:
                write(changes.text(news, now_ms=time.time_ns() // 1_000_000))
        return {"lists": changes.lists, "forgotten": changes.forgotten, "malformed": subscriber.malformed}


class Changes:
    """Turns messages into text, marked with what changed since the user's last list."""

    def __init__(self, *, one_user: bool) -> None:
        self.lists = 0
        self.forgotten = 0
        self._one_user = one_user
        self._last: dict[str, list[str]] = {}

    def text(self, news: Recommendations | Forgotten, *, now_ms: int) -> str:
        if isinstance(news, Forgotten):
            self.forgotten += 1
            self._last.pop(news.user_id, None)
            return f"{printable(news.user_id)}  forgotten"
        self.lists += 1
        items = [item.item_id for item in news.items]
        before = self._last.pop(news.user_id, None)
        self._last[news.user_id] = items
        if len(self._last) > LISTS_REMEMBERED:
            del self._last[next(iter(self._last))]
        age_seconds = (now_ms - news.source.timestamp) / 1000
        head = f"{printable(news.user_id)}  version {news.model_version}, {age_seconds:.3f} s after the event"
        if self._one_user:
            return "\n".join([head, *(_rows(news, before) or [_NO_ITEMS]), *_gone(items, before)])
        return f"{head}: {_in_short(items, before)}"


def printable(text: str) -> str:
    """Ids come from anybody: a control character must not reach the terminal."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _rows(news: Recommendations, before: Sequence[str] | None) -> list[str]:
    return [
        f"{place:>4}  {item.score:>9.4f}  {printable(item.item_id)}{_mark(item.item_id, place, before)}"
        for place, item in enumerate(news.items, start=1)
    ]


def _mark(item_id: str, place: int, before: Sequence[str] | None) -> str:
    if before is None:
        return ""
    if item_id not in before:
        return "  new"
    moved = before.index(item_id) + 1 - place
    return f"  {'up' if moved > 0 else 'down'} {abs(moved)}" if moved else ""


def _gone(items: Sequence[str], before: Sequence[str] | None) -> list[str]:
    gone = [printable(item_id) for item_id in before or () if item_id not in items]
    return [f"      gone: {', '.join(gone)}"] if gone else []


def _in_short(items: Sequence[str], before: Sequence[str] | None) -> str:
    """`+i9 -i7 of i9 i3 i4`: what came, what went, the list."""
    came = [f"+{printable(item_id)}" for item_id in items if before is not None and item_id not in before]
    went = [f"-{printable(item_id)}" for item_id in before or () if item_id not in items]
    if not items:
        return " ".join([*went, _NO_ITEMS.strip()])
    changed = " ".join(came + went) or ("new" if before is None else "reordered")
    return f"{changed} of {' '.join(map(printable, items))}"
