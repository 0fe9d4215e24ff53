"""The topics: which there are, how they are set up, and what stands in them.

`create` may be repeated: a topic that exists is left as it is, and where it differs from the plan the report
says how. Needs a real Kafka: the in-process broker makes its topics itself.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its type stubs forget that it exports these
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

EVENT_BYTES: Final = 1024 * 1024 + 12
"""Kafka's own default for `max.message.bytes`: a mebibyte and the header of a batch."""
DEAD_LETTER_HEADROOM_BYTES: Final = 64 * 1024
"""A dead letter is the original and further headers; it must fit wherever the original did."""
DEAD_LETTER_DAYS: Final = 90
TOPIC_GONE: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)
"""What a client says of a topic that is not there."""
MAKE_TOPICS: Final = "Make the topics with `headrace topics create`."
"""What a person can do then."""

_FOREVER: Final = "-1"
_ANY: Final = str(2**63 - 1)
_DAY_MILLISECONDS: Final = 24 * 3600 * 1000
_REPLICATION_OF_THE_BROKER: Final = -1
_ANSWER_SECONDS: Final = 30.0
_LOOK_UP_SECONDS: Final = 2.0
_ID_SECONDS: Final = 5.0
_NO_ID: Final = "A" * 22
"""What a broker from before there were ids gives: a number of zeros."""
# What is answered in the moment in which a topic is new.
_SETTLING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._NOENT,  # the client's own word for a partition without a leader
    }
)
# While nobody answers.
_NO_ANSWER: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._DESTROY_BROKER}
)


class TopicsError(RuntimeError):
    """The broker could not be asked, or refused."""


class TopicsMissing(TopicsError):
    """Make them with `headrace topics create`."""


@dataclass(frozen=True)
class TopicPlan:
    """A topic as it should be."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class TopicReport:
    """What `create` found or made."""

    name: str
    created: bool
    partitions: int
    differences: tuple[str, ...] = ()
    """Where a topic that existed before is not as planned, one sentence each."""


@dataclass(frozen=True)
class TopicDescription:
    """What stands on the broker."""

    name: str
    partitions: Mapping[int, tuple[int, int]]
    """Partition -> (first offset, one past the newest); empty where the topic does not exist."""
    config: Mapping[str, str]


def plan(
    *, events: str, items: str, users: str, recommendations: str, dead_letters: str, partitions: int
) -> list[TopicPlan]:
    """The five topics under these names, the events topic first and its dead letters last."""
    # A client may stamp its records with the time of the event: however old or early, the record is taken in, and
    # not dropped by its age. Whoever wants the disk bounded sets retention.bytes, or a retention.ms of their own.
    history = {
        "cleanup.policy": "delete",
        "retention.ms": _FOREVER,
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": _ANY,
        "message.timestamp.after.max.ms": _ANY,
        "max.message.bytes": str(EVENT_BYTES),
    }
    letters = {
        "cleanup.policy": "delete",
        "retention.ms": str(DEAD_LETTER_DAYS * _DAY_MILLISECONDS),
        "max.message.bytes": str(EVENT_BYTES + DEAD_LETTER_HEADROOM_BYTES),
    }
    newest = {"cleanup.policy": "compact"}
    return [
        TopicPlan(events, partitions, history),
        *(TopicPlan(name, partitions, newest) for name in (items, users, recommendations)),
        TopicPlan(dead_letters, partitions, letters),
    ]


def create(
    bootstrap_servers: str,
    plans: Sequence[TopicPlan],
    *,
    replication_factor: int = _REPLICATION_OF_THE_BROKER,
    librdkafka: Mapping[str, str] | None = None,
    answer_seconds: float = _ANSWER_SECONDS,
) -> list[TopicReport]:
    """Make what is missing of `plan(...)` and report on each topic, in that order; back when clients can use them."""
    broker = _Broker(bootstrap_servers, librdkafka, answer_seconds)
    present = broker.partitions()
    there = broker.configs([wanted.name for wanted in plans if wanted.name in present])
    plans = _with_headroom(plans, there)
    missing = [wanted for wanted in plans if wanted.name not in present]
    broker.create(missing, replication_factor)
    return [
        TopicReport(wanted.name, created=True, partitions=wanted.partitions)
        if wanted in missing
        else TopicReport(
            wanted.name,
            created=False,
            partitions=present[wanted.name],
            differences=tuple(_differences(wanted, present[wanted.name], there[wanted.name])),
        )
        for wanted in plans
    ]


def describe(
    bootstrap_servers: str,
    names: Iterable[str],
    *,
    librdkafka: Mapping[str, str] | None = None,
    answer_seconds: float = _ANSWER_SECONDS,
) -> list[TopicDescription]:
    """Partitions, first and next offsets, and settings of each topic, in the order of `names`."""
    broker = _Broker(bootstrap_servers, librdkafka, answer_seconds)
    present = broker.partitions()
    names = list(names)
    there = [name for name in names if name in present]
    extents, configs = broker.extents({name: present[name] for name in there}), broker.configs(there)
    return [TopicDescription(name, extents.get(name, {}), configs.get(name, {})) for name in names]


def require(
    bootstrap_servers: str,
    names: Iterable[str],
    *,
    librdkafka: Mapping[str, str] | None = None,
    answer_seconds: float = _ANSWER_SECONDS,
    look_up: Callable[[], None] = lambda: None,
) -> None:
    """TopicsMissing where any of these does not exist, whether or not the broker would make it at its first use.

    `look_up` is called every other second while the answer is waited for: what it raises ends the wait.
    """
    present = _Broker(bootstrap_servers, librdkafka, answer_seconds, look_up).partitions()
    missing = [name for name in names if name not in present]
    if missing:
        what = f"topic {missing[0]} does" if len(missing) == 1 else f"topics {', '.join(missing)} do"
        raise TopicsMissing(f"{what} not exist on {bootstrap_servers}. {MAKE_TOPICS}")


def topic_id(
    bootstrap_servers: str,
    name: str,
    *,
    librdkafka: Mapping[str, str] | None = None,
    answer_seconds: float = _ID_SECONDS,
    look_up: Callable[[], None] = lambda: None,
) -> str | None:
    """What tells a topic from one that is made under its name later; None where nobody can say so in time.

    `look_up` is called every other second while the answer is waited for: what it raises ends the wait.
    """
    return _Broker(bootstrap_servers, librdkafka, answer_seconds, look_up).topic_id(name)


def _with_headroom(plans: Sequence[TopicPlan], there: Mapping[str, Mapping[str, str]]) -> list[TopicPlan]:
    """The plans, with the dead-letter topic's limit above the one that the events topic really has."""
    events, *others, letters = plans
    limit = int(there.get(events.name, events.config)["max.message.bytes"]) + DEAD_LETTER_HEADROOM_BYTES
    return [events, *others, replace(letters, config={**letters.config, "max.message.bytes": str(limit)})]


def _differences(wanted: TopicPlan, partitions: int, config: Mapping[str, str]) -> list[str]:
    found = [] if partitions == wanted.partitions else [f"has {partitions} partitions, planned are {wanted.partitions}"]
    return found + [
        f"{name} is {config.get(name)}, planned is {value}"
        for name, value in wanted.config.items()
        if config.get(name) != value
    ]


class _Broker:
    """The questions asked here, each bounded in time, each failure told with the address."""

    def __init__(
        self,
        bootstrap_servers: str,
        librdkafka: Mapping[str, str] | None,
        answer_seconds: float,
        look_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = bootstrap_servers
        self._seconds = answer_seconds
        self._look_up = look_up
        # Not a method of this object: it would be held by its own client, which ends with the last that holds it.
        self._troubles: deque[KafkaError] = deque(maxlen=1)
        ours: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "error_cb": self._troubles.append}
        try:
            self._admin = AdminClient({"log_level": 2, **(librdkafka or {}), **ours})
        except KafkaException as error:
            raise ValueError(f"librdkafka refused the settings: {error.args[0].str()}") from error

    def partitions(self) -> dict[str, int]:
        """Every topic there is, and its number of partitions."""
        return {name: len(topic.partitions) for name, topic in self._cluster().topics.items()}

    def _cluster(self) -> ClusterMetadata:
        """What the brokers say of themselves and of their topics."""
        deadline = time.monotonic() + self._seconds
        while True:
            self._look_up()
            remaining = deadline - time.monotonic()
            try:
                return self._admin.list_topics(timeout=min(max(remaining, 0.1), _LOOK_UP_SECONDS))
            except KafkaException as error:
                self._admin.poll(0)  # lets the client tell why
                if remaining <= _LOOK_UP_SECONDS or error.args[0].code() not in _NO_ANSWER:
                    trouble = self._troubles[-1].str() if self._troubles else error.args[0].str()
                    raise TopicsError(
                        f"no answer from {self._address} within {self._seconds:g} s ({trouble}). "
                        "Is Kafka running there? HEADRACE_BOOTSTRAP_SERVERS says where it is."
                    ) from error

    def topic_id(self, name: str) -> str | None:
        """The id that the broker gave the topic when it was made; None where it gives none, or does not answer."""
        deadline = time.monotonic() + self._seconds
        try:
            cluster = self._cluster()
            # The in-process broker names a controller that it has not: an answer would be waited for in vain.
            if name not in cluster.topics or cluster.controller_id not in cluster.brokers:
                return None
            remaining = max(deadline - time.monotonic(), 0.1)
            answer = self._admin.describe_topics(TopicCollection([name]), request_timeout=remaining)[name]
            while not wait([answer], _LOOK_UP_SECONDS).done:
                self._look_up()
            found = str(answer.result().topic_id)
        except (KafkaException, TopicsError):
            return None
        return None if found == _NO_ID else found

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Every setting of these topics, the broker's defaults included."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        answers = self._admin.describe_configs(resources, request_timeout=self._seconds) if resources else {}
        return {
            resource.name: {name: entry.value for name, entry in self._result(answer, resource.name).items()}
            for resource, answer in answers.items()
        }

    def extents(self, partitions: Mapping[str, int]) -> dict[str, dict[int, tuple[int, int]]]:
        """(first offset, one past the newest) of every partition; asked again while a new topic has no leader yet."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return self._extents(partitions)
            except TopicsError as error:
                cause = error.__cause__
                if not isinstance(cause, KafkaException) or cause.args[0].code() not in _SETTLING:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
            self.partitions()  # the client remembers that there was no leader until it sees all topics anew

    def _extents(self, partitions: Mapping[str, int]) -> dict[str, dict[int, tuple[int, int]]]:
        questions = [TopicPartition(name, index) for name, count in partitions.items() for index in range(count)]
        firsts = self._offsets(questions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = self._offsets(questions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        found: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in partitions}
        for name, index in firsts:
            found[name][index] = (firsts[name, index], ends[name, index])
        return found

    def create(self, plans: Sequence[TopicPlan], replication_factor: int) -> None:
        """Make these topics and wait until clients can use them."""
        topics = [
            NewTopic(
                wanted.name,
                num_partitions=wanted.partitions,
                replication_factor=replication_factor,
                config=dict(wanted.config),
            )
            for wanted in plans
        ]
        answers = self._admin.create_topics(topics, request_timeout=self._seconds) if topics else {}
        for name, answer in answers.items():
            self._result(answer, name, unless=KafkaError.TOPIC_ALREADY_EXISTS)
        self.extents({wanted.name: wanted.partitions for wanted in plans})  # has an answer once clients can use them

    def _offsets(self, questions: list[TopicPartition], which: OffsetSpec) -> dict[tuple[str, int], int]:
        asked = dict.fromkeys(questions, which)
        answers = self._admin.list_offsets(asked, request_timeout=self._seconds) if asked else {}
        return {
            (partition.topic, partition.partition): self._result(answer, partition.topic).offset
            for partition, answer in answers.items()
        }

    def _result(self, answer: "Future[Any]", topic: str, unless: int | None = None) -> Any:
        try:
            return answer.result()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.code() == unless:
                return None
            raise TopicsError(f"topic {topic} on {self._address}: {cause.name()}: {cause.str()}") from error
