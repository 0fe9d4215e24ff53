"""The command line: parses, nothing more. Each command is a file of consumer/commands/; `consumer.invocation` calls it.

Flags that are settings come on top of the environment, see `consumer.config`.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import typer
from typer.core import TyperCommand, TyperGroup

from consumer.config import Settings, as_variable, setting_names
from consumer.invocation import Invocation, escape_what_stdout_lacks, invoke, print_error_as_json

_UsageError: Final = cast(type[typer.BadParameter], typer.BadParameter.__base__)
"""What every complaint about a command line is; of click, or in newer releases of typer's own copy of it."""


class _Commands(TyperGroup):
    """All commands. With --json a complaint about the command line ends in one JSON object too, as others do."""

    _as_json = False

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        self._as_json = "--json" in args
        with self._told_as_json():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with self._told_as_json():
            return super().invoke(ctx)

    @contextmanager
    def _told_as_json(self) -> Iterator[None]:
        try:
            yield
        except _UsageError as error:
            if self._as_json:
                print_error_as_json(error.format_message())
            raise


_BELOW_ZERO: Final = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class _TakesNumbersBelowZero(TyperCommand):
    """A command to which -3 is an argument. What else looks like an option and is none is refused, as ever."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.make_parser(ctx).parse_args(["0" if _BELOW_ZERO.fullmatch(arg) else arg for arg in args])
        ctx.ignore_unknown_options = True  # only numbers are left of them
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="Headrace: a streaming online-learning recommender. Every setting is also an environment variable, such as "
    "HEADRACE_BATCH_SIZE for --batch-size; `headrace config show` lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics = typer.Typer(help="Make the topics, or look at them.", no_args_is_help=True)
dead_letters = typer.Typer(help="Records that cannot be learned: look at them, send them again.", no_args_is_help=True)
checkpoint = typer.Typer(help="The saved state: look at it, check it.", no_args_is_help=True)
config = typer.Typer(help="The settings.", no_args_is_help=True)
for group, name in ((topics, "topics"), (dead_letters, "dead-letters"), (checkpoint, "checkpoint"), (config, "config")):
    app.add_typer(group, name=name)

KAFKA: Final = ("bootstrap_servers",)
TO_EVENTS: Final = (*KAFKA, "events_topic")
MODEL: Final = (
    *("batch_size", "encoder", "device", "seed", "optimizer", "learning_rate", "embedding_dim"),
    *("rating_min", "rating_max", "rating_model"),
)
SAVED: Final = ("checkpoint_dir",)
WORKER: Final = (
    *KAFKA,
    *("group_id", "events_topic", "recommendations_topic", "dead_letter_topic", "k", "batch_wait_seconds"),
    *MODEL,
    *SAVED,
    *("checkpoint_seconds", "checkpoints_kept", "metrics_host", "metrics_port", "quality_share"),
)
EVERYTHING: Final = tuple(setting_names())


def _finite(number: float | None) -> float | None:
    """The smallest number that typer is told of lets NaN and infinity through."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"expected a finite number, got {number}")
    return number


Dataset = Literal["movielens-100k", "synthetic"]
DatasetOption = Annotated[Dataset | None, typer.Option("--dataset", help="A data set, in time order.")]
EventsOption = Annotated[Path | None, typer.Option("--events", help="A file of events, one JSON object a line.")]
RateOption = Annotated[
    float | None, typer.Option(min=0.001, callback=_finite, help="Events a second; as fast as it goes if left out.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Stop after this many.")]
User = Annotated[str, typer.Argument(metavar="USER", help="A user_id.")]
Item = Annotated[str, typer.Argument(metavar="ITEM", help="An item_id.")]


def command(
    group: typer.Typer, name: str, settings: tuple[str, ...], cls: type[TyperCommand] = TyperCommand
) -> Callable[[Callable[..., Invocation]], Callable[..., None]]:
    """Registers a function that turns options into an Invocation, and adds --json, --debug and a flag a setting."""

    def register(parse: Callable[..., Invocation]) -> Callable[..., None]:
        signature = inspect.signature(parse)
        added = [_flag(setting) for setting in settings] + _FLAGS_OF_ALL

        @functools.wraps(parse)
        def run(**values: Any) -> None:
            as_json, debug = values.pop("as_json"), values.pop("debug")
            flags = {setting: values.pop(setting) for setting in settings}
            raise typer.Exit(invoke(parse(**values), flags, as_json=as_json, debug=debug))

        # typer reads the parameters off the signature, and the types off the annotations
        whole = signature.replace(parameters=[*signature.parameters.values(), *added], return_annotation=None)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in whole.parameters.values()}
        vars(run)["__signature__"] = whole
        return group.command(name, cls=cls, help=inspect.getdoc(parse))(run)

    return register


def _flag(setting: str) -> inspect.Parameter:
    """The flag of a setting: any text, since `consumer.config` checks it, wherever it comes from."""
    field = Settings.model_fields[setting]
    option = typer.Option(
        f"--{setting.replace('_', '-')}",
        help=(field.description or "").split("\n\n")[0],
        rich_help_panel="Settings",
        show_default=as_variable(field.default),
        metavar="",
    )
    return _keyword(setting, Annotated[str | None, option], None)


def _keyword(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_FLAGS_OF_ALL: Final = [
    _keyword(
        "as_json",
        Annotated[bool, typer.Option("--json", help="One JSON object on the last line of standard output.")],
        False,
    ),
    _keyword("debug", Annotated[bool, typer.Option("--debug", help="Log everything, and show tracebacks.")], False),
]


def _one_source(dataset: str | None, events: Path | None) -> dict[str, object]:
    if (dataset is None) == (events is None):
        raise typer.BadParameter("give exactly one of them", param_hint="--dataset or --events")
    return {"dataset": dataset, "events": events}


@command(app, "demo", ("k", *MODEL, "metrics_port"))
def _demo(
    *,
    dataset: Annotated[Dataset, typer.Option("--dataset", help="What to replay.")] = "movielens-100k",
    rate: Annotated[
        float | None, typer.Option(min=0.001, callback=_finite, help="Events a second; 2,000 if left out.")
    ] = None,
    limit: LimitOption = None,
) -> Invocation:
    """Watch it all at work: real events through a broker inside the process, in about a minute."""
    return Invocation("demo", "demo", {"dataset": dataset, "rate": rate, "limit": limit}, shows_result=True)


@command(app, "run", WORKER)
def _run(
    *,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at the end of the topic as it is now.")] = False,
    reset: Annotated[
        Literal["earliest", "latest", "committed"] | None,
        typer.Option(help="Where to start reading when the saved offsets are lost or cannot be read any more."),
    ] = None,
) -> Invocation:
    """The worker: learn from the events topic, publish recommendations, until it is told to stop."""
    return Invocation("run", "run", {"until_end": until_end, "reset": reset})


@command(app, "replay", (*TO_EVENTS, "seed"))
def _replay(
    *,
    dataset: DatasetOption = None,
    events: EventsOption = None,
    rate: RateOption = None,
    limit: LimitOption = None,
) -> Invocation:
    """Send a data set or a file of events to the events topic, in order."""
    source = _one_source(dataset, events)
    return Invocation("replay", "replay", {**source, "rate": rate, "limit": limit})


@command(app, "simulate", (*TO_EVENTS, "rating_min", "rating_max", "seed"))
def _simulate(
    *,
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 1000,
    items: Annotated[int, typer.Option(min=1, help="Number of items.")] = 1500,
    rate: Annotated[float, typer.Option(min=0.001, callback=_finite, help="Events a second.")] = 100.0,
    seconds: Annotated[float | None, typer.Option(min=0.001, help="How long; until Ctrl-C if left out.")] = None,
    drift: Annotated[float, typer.Option(min=0.0, max=1.0, help="How fast tastes change; 0 not at all.")] = 0.02,
    turnover_at: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Change all tastes at this share of the events.")
    ] = None,
    rating_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of ratings; the rest are clicks.")] = 0.5,
) -> Invocation:
    """Send events of made-up users whose tastes drift."""
    stream = {"users": users, "items": items, "drift": drift, "turnover_at": turnover_at, "rating_share": rating_share}
    return Invocation("simulate", "simulate", {**stream, "rate": rate, "seconds": seconds})


@command(app, "click", TO_EVENTS)
def _click(
    user_id: User,
    item_id: Item,
    *,
    action: Annotated[str, typer.Option(help="view, like, share, cart, purchase, play, skip, ...")] = "click",
) -> Invocation:
    """Send one click, or another action, now."""
    return Invocation("click", "click", {"user_id": user_id, "item_id": item_id, "action": action})


@command(app, "rate", (*TO_EVENTS, "rating_min", "rating_max"), _TakesNumbersBelowZero)
def _rate(user_id: User, item_id: Item, rating: Annotated[float, typer.Argument(metavar="RATING")]) -> Invocation:
    """Send one rating, now."""
    return Invocation("rate", "rate", {"user_id": user_id, "item_id": item_id, "rating": rating})


@command(app, "forget", TO_EVENTS)
def _forget(user_id: User) -> Invocation:
    """Erase a user: history, state and lists. What stays is under Privacy in the README."""
    return Invocation("forget", "forget", {"user_id": user_id})


@command(app, "watch", (*KAFKA, "recommendations_topic"))
def _watch(
    user_id: Annotated[str | None, typer.Argument(metavar="[USER]", help="Only this user.", show_default=False)] = None,
    *,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with what the topic holds already.")
    ] = False,
    limit: LimitOption = None,
) -> Invocation:
    """Follow the lists as they change, with the changes marked, until Ctrl-C."""
    return Invocation("watch", "watch", {"user_id": user_id, "from_beginning": from_beginning, "limit": limit})


@command(app, "evaluate", (*MODEL, "history_window", "negatives", "full_softmax_items"))
def _evaluate(
    *,
    dataset: DatasetOption = None,
    events: EventsOption = None,
    allow_repeats: Annotated[
        bool, typer.Option("--allow-repeats", help="Items that the user has seen stay candidates.")
    ] = False,
    history: Annotated[
        Literal["live", "strictly-before"],
        typer.Option(
            help="Rank an event from all earlier items of its user, or from those with an earlier timestamp; "
            "texts, contexts and predictions of ratings know all earlier events."
        ),
    ] = "live",
    ranks: Annotated[Path | None, typer.Option(help="Write index,rank,prediction of every event to this CSV.")] = None,
    content: Annotated[
        bool, typer.Option("--content", help="Learn also from what the data set says of items and users.")
    ] = False,
    limit: LimitOption = None,
) -> Invocation:
    """Test the model on a stream, without Kafka: every event is ranked before it is learned."""
    options = {"allow_repeats": allow_repeats, "strictly_before": history == "strictly-before", "ranks": ranks}
    options["content"] = content
    return Invocation("evaluate", "evaluate", {**_one_source(dataset, events), **options, "limit": limit})


@command(topics, "create", (*KAFKA, "partitions"))
def _topics_create(
    *,
    replication_factor: Annotated[
        int, typer.Option(min=-1, help="Copies of each partition; -1 leaves it to the broker.")
    ] = -1,
) -> Invocation:
    """Make the topics that are missing, and say where one that exists is not as planned."""
    return Invocation("topics create", "topics", {"replication_factor": replication_factor}, function="create")


@command(topics, "describe", KAFKA)
def _topics_describe() -> Invocation:
    """Partitions, offsets and settings of the topics."""
    return Invocation("topics describe", "topics", function="describe")


@command(dead_letters, "list", (*KAFKA, "dead_letter_topic"))
def _dead_letters_list(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Show this many, the newest.")] = 20,
    reason: Annotated[str | None, typer.Option(help="Only those with this error.reason.")] = None,
) -> Invocation:
    """The newest dead letters: where each came from, why it is one, and how it begins."""
    return Invocation("dead-letters list", "dead_letters", {"limit": limit, "reason": reason}, function="list_letters")


@command(dead_letters, "replay", (*TO_EVENTS, "dead_letter_topic", "group_id"))
def _dead_letters_replay(
    *,
    reason: Annotated[
        str | None, typer.Option(help="Only those with this error.reason; others are passed over.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Begin with the oldest one; send also those that were replayed before.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="Only those written since then (UTC); older are passed over.",
        ),
    ] = None,
) -> Invocation:
    """Send the dead letters that came since the last replay to the events topic, as they were."""
    options = {"reason": reason, "again": again, "since": since}
    return Invocation("dead-letters replay", "dead_letters", options, function="replay")


@command(checkpoint, "show", SAVED)
def _checkpoint_show() -> Invocation:
    """What the newest checkpoint holds."""
    return Invocation("checkpoint show", "checkpoint", function="show")


@command(checkpoint, "verify", SAVED)
def _checkpoint_verify() -> Invocation:
    """Read every checkpoint and check every byte."""
    return Invocation("checkpoint verify", "checkpoint", function="verify")


@command(app, "explain", SAVED)
def _explain(
    user_id: User,
    item_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Of these items; of the user's list if left out.")
    ] = None,
) -> Invocation:
    """Why a user's list is as it is, by the newest checkpoint: what each score is made of, and what it owes to what."""
    return Invocation("explain", "explain", {"user_id": user_id, "item_ids": tuple(item_ids or ())})


@command(config, "show", EVERYTHING)
def _config_show() -> Invocation:
    """Every setting with the value that would be used, secrets masked."""
    return Invocation("config show", "config_show")


def main() -> None:
    """What `consumer.__main__` runs."""
    escape_what_stdout_lacks()
    app(prog_name="headrace")
