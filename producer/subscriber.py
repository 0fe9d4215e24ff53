"""Subscriber: what other services read recommendations with.

    with Subscriber("localhost:9092", users=["u1"]) as lists:
        for message in lists:
            ...  # Recommendations, or Forgotten

Each message is the newest word on its user when it comes: lists of older runs (epochs) and older model versions
are dropped, as a worker that was replaced may still send some. Every partition is followed, without a consumer
group, so any number of subscribers may read side by side. This file knows nothing of how lists are made.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from operator import methodcaller
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from producer.events import EPOCH_HEADER, Recommendations

RECOMMENDATIONS_TOPIC: Final = "recs.recommendations.v1"

DEFAULTS: Final[Mapping[str, str | int | bool]] = {
    "client.id": "headrace-subscriber",
    # connection trouble comes to `_on_error`, which says it once; on standard error or in the log it would flood
    "log_level": 2,
    "group.id": "headrace-subscriber",  # librdkafka wants one; with assign() no group is joined and nothing committed
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    # a broker answers a fetch at once when there is something, so this delays no list; much less keeps an idle
    # subscriber and its broker busy with empty answers
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 16 * 1024,
}
"""librdkafka properties of every Subscriber; the ones passed to it come on top."""

BROKER_TIMEOUT_SECONDS: Final = 10.0
"""How long an answer is waited for before reading begins."""
_ASK_SECONDS: Final = 1.0
"""The wait is cut into these: the client's questions let no signal through. Later on there is only one of them."""
NEW_PARTITIONS_SECONDS: Final = 30.0
"""How often the topic is asked for partitions that were added."""
NO_PARTITIONS_SECONDS: Final = 1.0
"""The same while the topic does not exist."""

_PAUSE_SECONDS: Final = 0.1
# While nobody answers, and while a partition that is new, or moves, has no leader that all know of.
_PASSING: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,  # it left the cluster, or was known by an address only until then
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)

# For a header whose name is not UTF-8 the client answers and leaves an error behind. Called like this Python looks for
# one; in a call that is written out it does not once that has run a few times, and something else raises it.
_ask_for_headers: Final = methodcaller("headers")

_logger = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class Forgotten(NamedTuple):
    """Everything held of this user was erased; lists that were kept should be, too."""

    user_id: str


class _Version(NamedTuple):
    """Says which of two messages about a user is newer: compared field by field."""

    epoch: int
    model_version: int


class _Malformed(ValueError):
    """A record that is no recommendation list; skipped."""


class Subscriber:
    """Iterates over new lists as they come, forever: `Recommendations`, or `Forgotten` for an erased user.

    users: only these; all where None.
    from_beginning: first whatever the topic still holds, else only what is written from now on. "Now" is the
    moment of construction: what is written after it will come, also when the first `poll` is much later.

    A topic that does not exist is waited for, and that is logged. Held in memory for each user seen: the epoch and the
    version of the newest message, nothing else. Raises ConnectionError where no broker answers, TypeError for `users`
    that are one text, and ValueError for a property that librdkafka refuses. `stopping` is asked while the first
    answers are waited for: once true, it is a ConnectionError too. Later a broker that is away is waited for, which is
    said once.

    Where no list comes for long it asks for one ten times a second, and each comes as soon as the broker has it. The
    in-process broker answers only when that time is over: give it `consumer.broker.CLIENT_PROPERTIES`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic: str = RECOMMENDATIONS_TOPIC,
        users: Collection[str] | None = None,
        from_beginning: bool = False,
        librdkafka: Mapping[str, str | int | float | bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        if isinstance(users, str):  # a collection, too: of its letters
            raise TypeError(f"users: expected several user ids, such as [{users!r}], got the text {users!r}")
        self.topic = topic
        self.malformed = 0
        """Records skipped because they are no recommendation lists."""
        self._users = None if users is None else frozenset(users)
        self._clock = clock
        self._stopping = stopping
        self._newest: dict[str, _Version] = {}
        self._decoder = msgspec.json.Decoder(Recommendations)
        self._closed = False
        self._partitions: set[int] = set()
        self._next_look = 0.0
        self._address = bootstrap_servers
        self._last_complaint: str | None = None
        self._trouble: str | None = None
        self._is_trouble_said = False
        properties = {**DEFAULTS, **(librdkafka or {}), "bootstrap.servers": bootstrap_servers}
        try:
            self._consumer = Consumer({**properties, "error_cb": self._on_error}, logger=_logger)
        except KafkaException as error:
            raise ValueError(f"librdkafka refused the settings: {error.args[0].str()}") from error
        try:
            self._follow_new_partitions(from_beginning=from_beginning, timeout_seconds=BROKER_TIMEOUT_SECONDS)
        except KafkaException as error:
            self.close()
            reason = self._trouble or error.args[0].str()
            raise ConnectionError(f"no answer about {topic} from {bootstrap_servers}: {reason}") from error
        except BaseException:
            self.close()
            raise

    def poll(self, timeout_seconds: float) -> Recommendations | Forgotten | None:
        """The next message that is news, or None when none came within the time: a second more, where now and then new
        partitions are asked for and no broker answers.

        Raises KafkaException where the topic can no longer be read.
        """
        deadline = self._clock() + timeout_seconds
        while True:
            self._look_for_partitions_when_due()
            message = self._consumer.poll(max(0.0, min(deadline, self._next_look) - self._clock()))
            if message is not None:
                news = self._news(message)
                if news is not None:
                    return news
            if self._clock() >= deadline:
                return None

    def __iter__(self) -> Iterator[Recommendations | Forgotten]:
        while not self._closed:
            news = self.poll(0.5)
            if news is not None:
                yield news

    def close(self) -> None:
        """Stop reading; an iteration ends. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _news(self, message: Message) -> Recommendations | Forgotten | None:
        """None for what is older than what came before, is of no interest, or is no list."""
        error = message.error()
        if error is not None:
            _raise_unless_passing(error)
            return None
        self._trouble, self._is_trouble_said = None, False
        try:
            user_id = _user_id(message)
            if self._users is not None and user_id not in self._users:
                return None
            epoch = _epoch(message)
            value = message.value()
            if value is None:
                return self._forgotten(user_id, epoch)
            return self._if_newer(_decoded(self._decoder, value, user_id), epoch)
        except _Malformed as malformed:
            self._count_malformed(message, malformed)
            return None

    def _if_newer(self, recommendations: Recommendations, epoch: int) -> Recommendations | None:
        version = _Version(epoch, recommendations.model_version)
        newest = self._newest.get(recommendations.user_id)
        if newest is not None and version <= newest:
            return None
        self._newest[recommendations.user_id] = version
        return recommendations

    def _forgotten(self, user_id: str, epoch: int) -> Forgotten | None:
        """A tombstone has no version, but its place in the partition: newer than all of its own epoch before it."""
        newest = self._newest.get(user_id)
        if newest is not None and epoch < newest.epoch:
            return None
        version = newest.model_version if newest is not None and newest.epoch == epoch else -1
        self._newest[user_id] = _Version(epoch, version)
        return Forgotten(user_id)

    def _count_malformed(self, message: Message, reason: _Malformed) -> None:
        self.malformed += 1
        if self.malformed & (self.malformed - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...: a flood must not flood the log
            where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
            _logger.warning("%s: skipped, %s; %d records skipped so far", where, reason, self.malformed)

    def _look_for_partitions_when_due(self) -> None:
        if self._clock() < self._next_look:
            return
        try:
            # A new partition holds nothing but news.
            self._follow_new_partitions(from_beginning=True, timeout_seconds=_ASK_SECONDS)
        except KafkaException as error:
            # What the client says of brokers that are away is told by `_on_error`.
            _logger.debug("could not ask for new partitions of %s: %s", self.topic, error)
            self._look_again_later()

    def _follow_new_partitions(self, *, from_beginning: bool, timeout_seconds: float) -> None:
        metadata = self._ask(lambda seconds: self._consumer.list_topics(self.topic, timeout=seconds), timeout_seconds)
        self._trouble, self._is_trouble_said = None, False
        topic = metadata.topics[self.topic]
        self._complain_once(topic.error)
        new = sorted(set(topic.partitions) - self._partitions)
        if new:
            self._consumer.incremental_assign([self._start_of(partition, from_beginning) for partition in new])
            self._partitions.update(new)
        self._look_again_later()

    def _look_again_later(self) -> None:
        wait_seconds = NEW_PARTITIONS_SECONDS if self._partitions else NO_PARTITIONS_SECONDS
        self._next_look = self._clock() + wait_seconds

    def _ask(self, question: Callable[[float], _Answer], timeout_seconds: float) -> _Answer:
        """The answer to a question that takes a time limit; KafkaException where none came within the time."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = deadline - time.monotonic()
            try:
                return question(max(0.01, min(_ASK_SECONDS, left)))
            except KafkaException as error:
                if not self._partitions:
                    self._consumer.poll(0)  # lets the client tell why; it could bring a list otherwise
                is_over = left <= _ASK_SECONDS or self._stopping()
                if is_over or error.args[0].code() not in _PASSING:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _complain_once(self, error: KafkaError | None) -> None:
        """Say what is wrong with the topic, and when it is there; the same thing is not said again."""
        complaint = None
        if error is not None:
            is_missing = error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
            complaint = "it does not exist" if is_missing else error.str()
        if complaint not in (None, self._last_complaint):
            _logger.warning("waiting for topic %s on %s: %s", self.topic, self._address, complaint)
        elif complaint is None and self._last_complaint is not None:
            _logger.info("topic %s is there now", self.topic)
        self._last_complaint = complaint

    def _start_of(self, partition: int, from_beginning: bool) -> TopicPartition:
        place = TopicPartition(self.topic, partition, OFFSET_BEGINNING)
        if not from_beginning:  # OFFSET_END would be looked up in the background, later than now
            place.offset = self._ask(lambda seconds: self._end_of(partition, seconds), BROKER_TIMEOUT_SECONDS)
        return place

    def _end_of(self, partition: int, timeout_seconds: float) -> int:
        """One past its newest record, now."""
        extent = self._consumer.get_watermark_offsets(
            TopicPartition(self.topic, partition), timeout=timeout_seconds, cached=False
        )
        if extent is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return extent[1]

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, inside its calls, many times a second while it tries to connect."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error.str().partition(" (after ")[0]
        elif not self._is_trouble_said:
            self._is_trouble_said = True
            reason = self._trouble or error.str()
            _logger.warning("no broker at %s answers, still trying: %s", self._address, reason)


def _raise_unless_passing(error: KafkaError) -> None:
    if error.fatal() or not (error.retriable() or error.code() == KafkaError._PARTITION_EOF):
        raise KafkaException(error)
    _logger.debug("%s", error)


def _user_id(message: Message) -> str:
    key = message.key()
    if key is None:
        raise _Malformed("it has no key")
    try:
        return key if isinstance(key, str) else key.decode()
    except UnicodeDecodeError as error:
        raise _Malformed(f"its key is not UTF-8: {error}") from error


def _epoch(message: Message) -> int:
    """0, older than any, where the header is missing."""
    epoch = 0
    headers = _headers(message)
    for name, value in headers.items() if isinstance(headers, dict) else headers or ():
        if name == EPOCH_HEADER:
            digits = value if isinstance(value, bytes) else b""
            if not digits.isdigit() or len(digits) > 20:  # int() refuses very long numbers
                raise _Malformed(f"header {EPOCH_HEADER} is {value!r}, not a number")
            epoch = int(digits)
    return epoch


def _headers(message: Message) -> Any:
    """As the client has them. Asked once for each message: a second answer after an error is not fit to be touched."""
    try:
        return _ask_for_headers(message)
    except (SystemError, UnicodeDecodeError) as error:
        raise _Malformed("the name of one of its headers is not UTF-8") from error


def _decoded(decoder: msgspec.json.Decoder[Recommendations], value: bytes | str, user_id: str) -> Recommendations:
    try:
        recommendations = decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Malformed(f"its value is no recommendation list: {error}") from error
    if recommendations.user_id != user_id:
        raise _Malformed(f"its key is {user_id!r} but its list is for {recommendations.user_id!r}")
    return recommendations
