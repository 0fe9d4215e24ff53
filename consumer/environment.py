"""Where settings come from: HEADRACE_* and KAFKA_* variables, and the files that ..._FILE variables name.

What the values must look like is `consumer.config`'s. Other tools write variables of these prefixes too: Kubernetes
for Services called headrace, kafka, kafka-ui or the like, and Kafka's own scripts. Those are passed over.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

PREFIX: Final = "HEADRACE_"
KAFKA_PREFIX: Final = "KAFKA_"
FILE: Final = "_FILE"
_FILES_CONTENT: Final = "********"
"""In place of a value that was read from a file: it may have been meant for another variable."""

_OF_OTHERS: Final = re.compile(
    r"((.+_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_.*)?)"  # Kubernetes
    r"|HOME|OPTS|VERSION|.*_OPTS|JMX_.*|LOG_DIR|MODE|CLUSTER_ID|SCALA_VERSION)"  # Kafka's scripts and images
)
# Where a setting has the name that Kubernetes gives to the address of a Service: headrace-metrics, say.
_SERVICE_ADDRESS: Final = ("tcp://", "udp://", "sctp://")
_OF_THE_TESTS: Final = frozenset({"HEADRACE_REQUIRE_KAFKA"})
_PROPERTIES_NAMED_FILE: Final = frozenset(
    {
        "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.oauthbearer.assertion.jwt.template.file",
    }
)
_GUARANTEES: Final[Mapping[str, tuple[str, ...]]] = {
    "enable.auto.commit": ("false",),
    "enable.auto.offset.store": ("false",),
    "enable.idempotence": ("true",),
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "partitioner": ("murmur2_random",),
}
"""Properties that the promises hang on, and the values that keep them."""
_NOT_OF_PERSONS: Final = frozenset(
    {
        "delivery.report.only.error",
        "default.topic.config",
        "logger",
        "transactional.id",
        "enable.gapless.guarantee",
    }
)
"""Three of Python's client that no text can set; the first would keep from us that records are on the broker. With a
transactional id a client refuses what is sent outside of a transaction, and nobody here begins one. The last is refused
by clients that do not send.
"""
_INSTEAD: Final[Mapping[str, str]] = {"bootstrap.servers": "bootstrap_servers", "group.id": "group_id"}
"""Properties that are settings of our own."""
_SECRET: Final = re.compile(
    r"password|passphrase|secret|token|key|jaas|credential|\.pem|oauthbearer\.(config|assertion)"
)


class SettingsError(ValueError):
    """Wrong settings: every one of them, each with its name, what would be right and what came."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Several lines, or one text."""
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class EnvironmentValues(NamedTuple):
    """What the environment says, unchecked."""

    settings: dict[str, str]
    """By the name of the setting."""
    librdkafka: dict[str, str]
    """By the name of the property."""
    from_files: frozenset[str]
    """Names of both kinds whose value was the content of a file."""


def read_environment(names: Iterable[str], environment: Mapping[str, str] | None = None) -> EnvironmentValues:
    """The values of the settings `names` and of the librdkafka properties; an empty variable counts as not set.

    SettingsError where a file cannot be read, a value is given twice, or a property would break a promise.
    """
    given = os.environ if environment is None else environment
    variables = {name: value for name, value in given.items() if value and not _is_of_a_service(name, value)}
    settings: dict[str, str] = {}
    from_files: set[str] = set()
    problems: list[str] = []
    for name in names:
        _take(name, PREFIX + name.upper(), variables, settings, from_files, problems)
    librdkafka: dict[str, str] = {}
    for variable in sorted(variables):
        property_name = _property(variable)
        if property_name is not None:
            base = variable.removesuffix(FILE) if property_name not in _PROPERTIES_NAMED_FILE else variable
            _take(property_name, base, variables, librdkafka, from_files, problems)
    for property_name, setting in _INSTEAD.items():
        if property_name in librdkafka:
            settings.setdefault(setting, librdkafka.pop(property_name))
            from_files = from_files - {property_name} | ({setting} if property_name in from_files else set())
    shown = {name: _FILES_CONTENT if name in from_files else repr(value) for name, value in librdkafka.items()}
    problems += _broken_promises(librdkafka, shown)
    problems += [
        f"{_variable(name)}: expected nothing, since Headrace decides it itself, got {shown[name]}; leave it out"
        for name in sorted(_NOT_OF_PERSONS & librdkafka.keys())
    ]
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return EnvironmentValues(settings, librdkafka, frozenset(from_files))


def read_variable(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """What the environment says of this setting alone, whatever is wrong with others; None where nothing can be had."""
    given = os.environ if environment is None else environment
    values: dict[str, str] = {}
    _take(name, PREFIX + name.upper(), {key: value for key, value in given.items() if value}, values, set(), [])
    return values.get(name)


def unknown_variables(names: Iterable[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """A line for each HEADRACE_ variable that is no setting and so has no effect, with the nearest name that is one."""
    known = {PREFIX + name.upper() for name in names}
    given = os.environ if environment is None else environment
    lines = []
    for variable in sorted(given):
        name = variable.removesuffix(FILE)
        if not variable.startswith(PREFIX) or name in known or variable in _OF_THE_TESTS:
            continue
        if not _is_of_others(variable.removeprefix(PREFIX), given[variable]):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            lines.append(f"{variable} is not a setting and has no effect; did you mean {nearest[0]}?")
    return lines


def is_secret(property_name: str) -> bool:
    """Whether the value of a librdkafka property must not be shown."""
    return _SECRET.search(property_name.lower()) is not None


def property_name(variable: str) -> str:
    """The librdkafka property of a KAFKA_ variable: `_` is `.`, `__` is `_`, `___` is `-`."""
    stands_for = {"_": ".", "__": "_", "___": "-"}
    return re.sub("_{1,3}", lambda run: stands_for[run[0]], variable.removeprefix(KAFKA_PREFIX)).lower()


def _is_of_others(name: str, value: str) -> bool:
    """Whether another tool wrote a HEADRACE_ variable; a port under a wrong name is a person's."""
    if name.endswith("_PORT") and not name.endswith("SERVICE_PORT") and not value.startswith(_SERVICE_ADDRESS):
        return False
    return _OF_OTHERS.fullmatch(name) is not None


def _is_of_a_service(variable: str, value: str) -> bool:
    """Whether Kubernetes wrote it, under what could be the name of a setting."""
    return variable.startswith(PREFIX) and variable.endswith("_PORT") and value.startswith(_SERVICE_ADDRESS)


def _property(variable: str) -> str | None:
    name = variable.removeprefix(KAFKA_PREFIX)
    if not variable.startswith(KAFKA_PREFIX) or not name or _OF_OTHERS.fullmatch(name):
        return None
    whole = property_name(variable)
    return whole if whole in _PROPERTIES_NAMED_FILE else property_name(variable.removesuffix(FILE))


def _take(
    name: str,
    variable: str,
    variables: Mapping[str, str],
    values: dict[str, str],
    from_files: set[str],
    problems: list[str],
) -> None:
    """Puts the value of `variable`, or the content of the file that `variable`_FILE names, under `name`."""
    path = variables.get(variable + FILE)
    if path is None:
        if variable in variables:
            values[name] = variables[variable]
    elif variable in variables:
        problems.append(f"{variable}: given twice, also as {variable}{FILE}; leave one of them out")
    else:
        try:
            values[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            from_files.add(name)
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            problems.append(f"{variable}{FILE}: expected the path of a readable file, got {path!r} ({what})")


def _broken_promises(librdkafka: Mapping[str, str], shown: Mapping[str, str]) -> list[str]:
    return [
        f"{_variable(name)}: expected {' or '.join(allowed)}, got {shown[name]}. "
        "The promise that no event is lost or learned twice hangs on it; leave it out."
        for name, allowed in _GUARANTEES.items()
        if name in librdkafka and librdkafka[name].lower() not in allowed
    ]


def _variable(property_name: str) -> str:
    """The variable of a property whose name has dots only."""
    return KAFKA_PREFIX + property_name.upper().replace(".", "_")
