"""From a parsed command line to an exit status: settings, logs, the command, its answer on standard output.

    0   done
    1   failed while running: one line that says why
    2   wrong usage or settings: every wrong setting, a line each

With --json the last line of standard output is one JSON object: the command's answer, or {"error": ...}. With
HEADRACE_LOG_FORMAT=json what is wrong is an entry of the log.
"""

import codecs
import importlib
import inspect
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import msgspec
import structlog

from consumer import config, logs
from consumer.environment import SettingsError, read_variable, unknown_variables

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130

_WORKERS: Final = frozenset({"run", "demo"})
"""Commands in which a ValueError is no word about what the person typed."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Invocation:
    """A command to run: `function` of consumer/commands/`module`.py, called with the settings and the options."""

    name: str
    module: str
    options: Mapping[str, object] = field(default_factory=dict)
    function: str = "run"
    shows_result: bool = False
    """Whether the command itself shows people what came out."""


def invoke(invocation: Invocation, flags: Mapping[str, object], *, as_json: bool, debug: bool) -> int:
    """Run the command and answer with its exit status; `flags` are settings by name, None where not given."""
    secrets: frozenset[str] = frozenset()
    as_log = str(flags.get("log_format") or read_variable("log_format")).lower() == "json"
    if as_log:
        logs.configure(log_format="json")  # settings that are wrong are told in it too
    try:
        settings = config.load({**flags, "log_level": "debug"} if debug else flags)
        secrets = settings.secrets()
        debug = settings.log_level == "debug"
        logs.configure(settings.log_level, settings.log_format, secrets=secrets)
        for line in unknown_variables(config.setting_names()):
            if as_log:
                log.warning(line)
            else:
                print(f"headrace: warning: {line}", file=sys.stderr)
        module = importlib.import_module(f"consumer.commands.{invocation.module}")  # only now: torch is slow to come
        result = _run(module, invocation, settings, as_json)
        if as_json:
            print(to_json(result), flush=True)
        elif not invocation.shows_result:
            print(getattr(module, "as_text", as_text)(result), flush=True)
        return DONE
    except SettingsError as error:
        return _failed(invocation, error, WRONG_USAGE, secrets, as_json=as_json, as_log=as_log, debug=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone
        _write_no_more()
        return FAILED
    except ValueError as error:
        status = FAILED if invocation.module in _WORKERS else WRONG_USAGE
        return _failed(invocation, error, status, secrets, as_json=as_json, as_log=as_log, debug=debug)
    except Exception as error:
        return _failed(invocation, error, FAILED, secrets, as_json=as_json, as_log=as_log, debug=debug)


def to_json(result: Mapping[str, object]) -> str:
    """One line of JSON; numbers that are not finite become null, and bytes of a path that are not UTF-8 `?`."""
    try:
        return msgspec.json.encode(result, enc_hook=_plain).decode()
    except UnicodeEncodeError:
        text = json.dumps(result, default=_plain, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace").decode()


def print_error_as_json(what: str) -> None:
    """The last line where something went wrong; people are told on standard error, so it may fail."""
    try:
        print(to_json({"error": what}), flush=True)
    except OSError:
        _write_no_more()


def escape_what_stdout_lacks() -> None:
    """From now on a character that standard output's encoding has not comes as JSON's escape of it, not as an error."""
    codecs.register_error("headrace.escape", _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="headrace.escape")


def as_text(result: Mapping[str, object]) -> str:
    """For people, where the command has no `as_text` of its own: a line a key; what is nested stays JSON."""
    width = max(map(len, result), default=0)
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in result.items())


def _run(module: ModuleType, invocation: Invocation, settings: config.Settings, as_json: bool) -> dict[str, object]:
    """Calls the command; one that prints while it works asks with a parameter `as_json` how."""
    function: Callable[..., dict[str, object]] = getattr(module, invocation.function)
    asks = "as_json" in inspect.signature(function).parameters
    return function(settings, **invocation.options, **({"as_json": as_json} if asks else {}))


def _failed(
    invocation: Invocation,
    error: Exception,
    status: int,
    secrets: Collection[str],
    *,
    as_json: bool,
    as_log: bool,
    debug: bool,
) -> int:
    """Says what was wrong, without the secrets: a Kafka client may quote one."""
    what = logs.masked(str(error), secrets) or type(error).__name__
    if isinstance(error, LookupError | TypeError | AttributeError | AssertionError):
        what = f"{type(error).__name__}: {what} (a fault of Headrace; --debug shows where)"
    with suppress(OSError):  # whoever reads it may have gone, or the disk is full
        _tell(invocation, what, status, error if debug else None, secrets, as_log=as_log)
    if as_json:
        print_error_as_json(what)
    return status


def _tell(
    invocation: Invocation, what: str, status: int, traced: Exception | None, secrets: Collection[str], *, as_log: bool
) -> None:
    if as_log:
        log.error("failed", command=invocation.name, why=what, status=status, exc_info=traced)
        return
    if traced is not None:
        print(logs.masked("".join(traceback.format_exception(traced)), secrets), end="", file=sys.stderr)
    print("\n".join(f"headrace {invocation.name}: {line}" for line in what.splitlines()), file=sys.stderr, flush=True)


def _write_no_more() -> None:
    """Standard output takes nothing; Python would complain once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, str | int):
        return str(value)
    return to_json(value)  # type: ignore[arg-type]


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _plain(value: Any) -> object:
    """What JSON does not know: numpy's numbers and arrays, paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
