"""The settings: one frozen class, checked at once, from flags, then the environment, then files, then defaults.

Nothing else of Headrace reads the environment. `load` is the way in; `SettingsError` says on one screen what is wrong.
Where values come from is `consumer.environment`'s.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from consumer.environment import PREFIX, SettingsError, is_secret, read_environment

MASK: Final = "********"
AUTO: Final = "auto"

ACTION_WEIGHTS: Final[Mapping[str, float]] = {
    "view": 0.3,
    "click": 1.0,
    "play": 1.0,
    "like": 1.5,
    "share": 2.0,
    "cart": 2.0,
    "purchase": 3.0,
    "skip": -0.5,
    "dislike": -1.0,
}


def _weights(value: object) -> object:
    """`like=2,skip=-1` or a mapping, on top of the defaults."""
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(separator for _, separator, _ in pairs):
            raise ValueError("expected pairs such as view=0.3,purchase=3")
        value = {action.strip(): weight.strip() for action, _, weight in pairs}
    return {**ACTION_WEIGHTS, **value} if isinstance(value, Mapping) else value


def _numbers(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _rising(edges: tuple[float, ...]) -> tuple[float, ...]:
    if not edges or edges[0] <= 0 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError("expected rising seconds above 0, such as 0.01,0.1,1")
    return edges


def _with_the_alerts_edge(edges: tuple[float, ...]) -> tuple[float, ...]:
    """With 1 among them: a quantile never comes out above the last edge, and between two edges it is a guess."""
    return tuple(sorted({*edges, 1.0}))


def _or_auto(value: object) -> object:
    """None for auto."""
    return None if _lower(value) == AUTO else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _home(path: Path) -> Path:
    """The path with ~ for what it stands for."""
    try:
        return path.expanduser()
    except RuntimeError as error:  # pydantic lets only ValueErrors become lines about a setting
        raise ValueError("expected the path of a folder, with a user that exists behind ~") from error


def _form(pattern: str, form: str) -> AfterValidator:
    """Accepts a text that matches the whole pattern; the error says the form in words."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"expected {form}")
        return value

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Weight = Annotated[float, Field(ge=-1000, le=1000)]
OnScale = Annotated[float, Field(ge=-(10**9), le=10**9)]
TopicName = Annotated[str, _form(r"[A-Za-z0-9._-]{1,249}", "1 to 249 letters, digits, dots, dashes and underscores")]
_SERVER: Final = r"((?i:plaintext|ssl|sasl_plaintext|sasl_ssl)://)?[^\s,/]+"
Servers = Annotated[str, _form(f"{_SERVER}(,{_SERVER})*", "host:port, several separated by commas")]
Device = Annotated[str, BeforeValidator(_lower), _form(r"auto|cpu|cuda(:\d{1,3})?", "auto, cpu, cuda or cuda:1")]
Text = Annotated[str, _form(r"\S(.*\S)?", "some text")]
Buckets = Annotated[
    tuple[float, ...],
    NoDecode,
    BeforeValidator(_numbers),
    AfterValidator(_rising),
    AfterValidator(_with_the_alerts_edge),
]


class Settings(BaseSettings):
    """Every setting of the worker and of the commands; `HEADRACE_` and the name in capitals in the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    # --- Kafka ---
    bootstrap_servers: Servers = "localhost:9092"
    """Kafka brokers to ask first: host:port, several separated by commas."""
    group_id: Text = "headrace"
    """Consumer group that offsets are committed to, for lag tools and people; progress itself is in the checkpoint."""
    events_topic: TopicName = "recs.events.v1"
    """Topic that events are read from."""
    items_topic: TopicName = "recs.items.v1"
    """Topic of the catalogue."""
    users_topic: TopicName = "recs.users.v1"
    """Topic of what is known about users besides their events."""
    recommendations_topic: TopicName = "recs.recommendations.v1"
    """Topic that lists are published to."""
    dead_letter_topic: TopicName = "dlq.recs.events.v1"
    """Topic for records that cannot be learned, with the reason."""
    partitions: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Partitions of each topic that `topics create` makes."""
    librdkafka: Annotated[Mapping[str, str], NoDecode, Field(repr=False)] = {}
    """Extra properties of the Kafka clients, one a variable: KAFKA_SASL_USERNAME sets sasl.username."""

    # --- the loop ---
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Most events in a step; in `demo` 32 if left out."""
    batch_wait_seconds: Annotated[float, Field(ge=0, le=60)] = 0.005
    """Longest wait for the first event of a step; where the worker has nothing else to do, 0.1 if that is longer."""
    max_staleness_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5.0
    """Longest time for which lists are put off in a backlog, so that learning keeps up; 0: they are never put off."""
    k: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Length of a recommendation list."""
    publish_always: bool = False
    """Whether a list is published for every user with a new event, also where its items and order are unchanged."""
    cold_items: bool = True
    """Whether lists may hold items of the catalogue that had no event yet, scored by their content."""
    topk: Literal["exact", "fast"] = "exact"
    """How lists are made on a CPU: exact, or fast, by looser bounds whose recall is measured all the time."""
    topk_recall: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Least recall of fast lists (share of the exact lists' items); below it lists are exact until recall is back."""
    topk_threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Most threads that make lists at the same time on a CPU; 0: one for each processor, four at most."""
    max_event_bytes: Count = 1_000_000
    """Largest accepted value of a record; the default is that of librdkafka's message.max.bytes."""
    max_future_seconds: Annotated[float, Field(ge=0, le=10**9)] = 600.0
    """How far an event's timestamp may be ahead of its Kafka record's; beyond, the event is a dead letter."""

    # --- what events mean ---
    rating_min: OnScale = 0.5
    """Lowest rating of the scale."""
    rating_max: OnScale = 5.0
    """Highest rating of the scale."""
    action_weights: Annotated[Mapping[str, Weight], NoDecode, BeforeValidator(_weights)] = ACTION_WEIGHTS
    """Weight of each action, as view=0.3,purchase=3 on top of the defaults; events of a weight above 0 are ranked too.

    A weight multiplies the event's gradient and a click is the unit. A view is hardly meant, so it weighs a third; a
    like, a share, a cart and a purchase say more each than the one before, but are kept to 3 although they are a
    hundred times rarer, so that one event never swamps a step. A skip is weak evidence against an item, a dislike
    is as plain as a click.
    """
    default_weight: Weight = 0.5
    """Weight of an action that is not listed: meant, but of unknown strength."""
    rating_weight: Annotated[Weight, Field(gt=0)] = 1.0
    """Weight of a rating in the ranking, whatever its number: like a click it says that the item was chosen."""

    # --- the model ---
    device: Device = "auto"
    """Where shared parameters live: auto, cpu, cuda or cuda:1."""
    encoder: Annotated[str, BeforeValidator(_lower), _form(r"[a-z][a-z0-9_-]*", "the name of an encoder")] = "blend"
    """How a user's last items become the user's vector: blend, recency, dnn, lstm, gru, transformer, cnn,
    autoencoder or cooccurrence."""
    embedding_dim: Annotated[int, Field(ge=0, le=4096)] = 0
    """Numbers in an item embedding. 0: what suits the encoder, 48 for recency, 96 for others."""
    rating_model: Annotated[Literal["neighbours", "factors"], BeforeValidator(_lower)] = "neighbours"
    """What predicts ratings: neighbours, a filter with neighbours, of less error; or factors, many times as fast."""
    rating_dim: Annotated[int, Field(ge=1, le=256)] = 16
    """Factors of the rating model."""
    history_window: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Last items of a user that the encoder reads. Only the autoencoder reads more than 50; with others a
    larger number only takes memory.

    The recency sums, which all encoders but cooccurrence begin with, read 50 at most. On top of them lstm and gru read
    20, transformer 32, cnn 16; co-occurrence (blend, cooccurrence) reads 20.
    """
    seen_per_user: Annotated[int, Field(ge=1, le=2**24)] = 4096
    """Most items remembered as seen by a user; the oldest make room for new ones."""
    max_users: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Most users that are kept; beyond, those idle longest go, and are new when they come back. 0: all are kept."""
    max_items: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Most items that are kept; beyond, those idle longest leave the lists, and are new when they come back. 0: all are
    kept."""
    optimizer: Annotated[Literal["sgd", "adagrad", "adam"], BeforeValidator(_lower)] = "adagrad"
    """Optimiser of the item embeddings: sgd, adagrad or adam."""
    learning_rate: Rate = 0.1
    """Learning rate of the item embeddings."""
    drift_boost: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Most that drift multiplies HEADRACE_LEARNING_RATE by, for some thousand events; 1: learning ignores drift."""
    rating_learning_rate: Rate = 0.115
    """Learning rate of the rating model's factors."""
    negatives: Count = 64
    """Sampled negatives of an event, where there are more items than HEADRACE_FULL_SOFTMAX_ITEMS."""
    full_softmax_items: Annotated[int, Field(ge=0, le=2**31 - 1)] = 4096
    """Up to this many items every candidate is a negative; of more, negatives are sampled."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random, generated streams too: equal seed, settings and stream give equal states."""

    # --- the checkpoint ---
    checkpoint_dir: Annotated[Path, AfterValidator(_home)] = Path("./headrace-state")
    """Folder of the checkpoints."""
    checkpoint_seconds: Positive = 30.0
    """Seconds between checkpoints."""
    checkpoints_kept: Annotated[int, Field(ge=1, le=10_000)] = 3
    """How many of the newest checkpoints are kept."""

    # --- what is seen of it ---
    metrics_host: Text = "127.0.0.1"
    """Address that /metrics, /livez and /readyz listen on."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """Port of /metrics, /livez and /readyz; 0 takes any free one."""
    freshness_buckets: Buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
    """Edges of the freshness histogram in seconds; put one where your objective lies. 1 is added where it is missing:
    the alert HeadraceFreshnessSlow judges by it."""
    quality_share: Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_or_auto)] = None
    """Share of the users whose events `run` ranks before they are learned; auto: all users up to
    HEADRACE_FULL_SOFTMAX_ITEMS items, beyond that as many as cost little. `demo` and `evaluate` rank all."""
    quality_window: Annotated[int, Field(ge=1, le=100_000)] = 5000
    """How many of the newest events the rolling figures cover; 100,000 at most, since steps wait for each update."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    """Lowest level that is logged; debug also shows tracebacks."""
    log_format: Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)] = "auto"
    """JSON lines or text; auto takes text on a terminal."""

    from_files: Annotated[frozenset[str], NoDecode] = frozenset()
    """Settings whose value was read from a file and is therefore not shown; not a setting itself."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` hands everything in by name: no source that reads where nobody looks.
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rating_min >= self.rating_max:
            raise ValueError(
                f"{PREFIX}RATING_MIN: expected less than {PREFIX}RATING_MAX ({self.rating_max:g}), "
                f"got {self.rating_min:g}"
            )
        topics = [name for name in type(self).model_fields if name.endswith("_topic")]
        for place, name in enumerate(topics):
            for other in topics[:place]:
                if getattr(self, name) == getattr(self, other):
                    raise ValueError(
                        f"{PREFIX}{name.upper()}: expected another topic than {PREFIX}{other.upper()}, "
                        f"got {getattr(self, name)!r} for both"
                    )
        return self

    def shown(self) -> dict[str, object]:
        """Name to value, as JSON can hold it, with every secret and every file's content masked."""
        values = self.model_dump(mode="json", exclude={"from_files"})
        shown = {
            name: MASK if name in self.from_files else AUTO if value is None else value
            for name, value in values.items()
        }
        shown["librdkafka"] = {
            name: MASK if is_secret(name) or name in self.from_files else value
            for name, value in sorted(self.librdkafka.items())
        }
        return shown

    def secrets(self) -> frozenset[str]:
        """The values that must not be seen in a log."""
        properties = {value for name, value in self.librdkafka.items() if is_secret(name) or name in self.from_files}
        return frozenset(
            properties | {str(getattr(self, name)) for name in self.from_files & set(type(self).model_fields)}
        )


def setting_names() -> list[str]:
    """The names of all settings that HEADRACE_ variables set, in the order of the class."""
    return [name for name in Settings.model_fields if name not in ("librdkafka", "from_files")]


def load(flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from flags (None: not given), then the environment. SettingsError when any value is wrong."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    found = read_environment(setting_names(), environment)
    from_files = found.from_files - given.keys()
    values = {**found.settings, "librdkafka": found.librdkafka, "from_files": from_files, **given}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError([_line(detail, given, values) for detail in error.errors()]) from None


def _line(detail: ErrorDetails, flags: Mapping[str, object], values: Mapping[str, object]) -> str:
    """One wrong setting: its name, what would be right, what came, what it is for, its default."""
    expected = _expected(detail)
    if not detail["loc"]:
        return expected
    name, *inside = map(str, detail["loc"])
    source = f"--{name.replace('_', '-')}" if name in flags else PREFIX + name.upper()
    if name not in Settings.model_fields:
        return f"{source}: there is no such setting"
    field = Settings.model_fields[name]
    came = MASK if name in cast(frozenset[str], values["from_files"]) else repr(values.get(name))
    place = f" for {inside[0]}" if inside and not inside[0].isdigit() else ""
    about = " ".join((field.description or "").split("\n\n")[0].split())
    return f"{source}: {expected}{place}, got {_short(came)}. {about} Default: {as_variable(field.default)}"


def _expected(detail: ErrorDetails) -> str:
    bounds = detail.get("ctx", {})
    match detail["type"]:
        case "int_parsing" | "int_from_float" | "int_type":
            return "expected a whole number"
        case "float_parsing" | "float_type":
            return "expected a number"
        case "greater_than_equal":
            return f"expected at least {_bound(bounds['ge'])}"
        case "greater_than":
            return f"expected more than {_bound(bounds['gt'])}"
        case "less_than_equal":
            return f"expected at most {_bound(bounds['le'])}"
        case "less_than":
            return f"expected less than {_bound(bounds['lt'])}"
        case "finite_number":
            return "expected a finite number"
        case "literal_error":
            return f"expected {bounds['expected']}"
        case _:
            return detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")


def _bound(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def as_variable(default: object) -> str:
    """A value as it would stand in the environment."""
    if default is None:
        return AUTO
    if isinstance(default, tuple):
        return ",".join(f"{number:g}" for number in default)
    if isinstance(default, Mapping):
        return ",".join(f"{name}={number:g}" for name, number in default.items())
    return str(default)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
