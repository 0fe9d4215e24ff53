"""Logs: structlog and the standard library's logging, both to standard error, in one format, without secrets.

JSON lines, or text on a terminal. Standard output is left to results.
"""

import logging
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.types import EventDict, Processor

MASK: Final = "********"
_SECRET_NAME: Final = re.compile(
    r"password|passphrase|secret|token|jaas|credential|(^|[._-])key$|\.pem$", re.IGNORECASE
)
_SHORTEST_SECRET: Final = 4
"""Shorter values are masked by their name only: taking every "a" out of the log would help nobody."""


def configure(
    level: str = "info",
    log_format: str = "auto",
    *,
    secrets: Collection[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send everything from `level` on to `stream` (standard error). May be called again.

    `log_format` is json, console or auto: console on a terminal. None of the values `secrets` is ever written, nor
    any value under a name such as password.
    """
    stream = sys.stderr if stream is None else stream
    as_text = log_format == "console" or (log_format == "auto" and stream.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer(default=str)
    )
    # Tracebacks become text before the masking, so that nothing is rendered that it did not see.
    rendering: list[Processor] = [structlog.processors.format_exc_info, _Masking(secrets), renderer]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=[*common, structlog.stdlib.PositionalArgumentsFormatter()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("numba").setLevel(logging.WARNING)  # its debug level tells of every byte it compiles
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def masked(text: str, secrets: Collection[str]) -> str:
    """The text without these values."""
    known = _any_of(secrets)
    return text if known is None else known.sub(MASK, text)


def _any_of(secrets: Collection[str]) -> re.Pattern[str] | None:
    """Matches a secret, or the rest of one from a word on: so the Kafka client quotes what it does not understand."""
    rests = {one[word.start() :] for one in secrets for word in re.finditer(r"(?<!\S)\S", one)}
    known = sorted((one for one in {*secrets, *rests} if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, known))) if known else None


class _Masking:
    """The last look at an entry before it is written."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._known = _any_of(secrets)

    def __call__(self, _logger: Any, _method: str, entry: EventDict) -> EventDict:
        return {name: self._masked(name, value) for name, value in entry.items()}

    def _masked(self, name: str, value: object) -> object:
        if _SECRET_NAME.search(name) is not None:
            return MASK
        if isinstance(value, str):
            return self._known.sub(MASK, value) if self._known is not None else value
        if isinstance(value, Mapping):
            return {key: self._masked(str(key), below) for key, below in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked("", below) for below in value]
        if self._known is None or value is None or isinstance(value, bool | int | float):
            return value
        text = str(value)
        masked = self._known.sub(MASK, text)
        return value if masked == text else masked
