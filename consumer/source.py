"""Take: records in offset order from every partition of one topic. Kafka in; what a payload means is not known here.

One process reads all partitions with `assign()`: the place to go on from is the checkpoint's, and the
committed offsets of the group are for lag tools and for people. Partitions that are added to the topic meanwhile
are found within half a minute, and read from their first record.

    SourceError              stop; each says what was wrong, where, and what to do
    |- BrokerUnreachable     no answer within the time given
    |- TopicMissing          make it with `headrace topics create`
    |- CheckpointLost        the group has committed offsets and there is no checkpoint: a person has to choose
    |- TopicMadeAnew         the topic is another one than before: a person has to accept that
    |- OffsetsOutOfRetention records that were not read yet are gone: a person has to accept that
    |- ReadFailed            an error that the client does not mend by itself
    `- CommitFailed          may be passed over: progress is in the checkpoint, the group's offsets are for show
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from threading import Thread
from typing import Final, Protocol, TypeVar, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from consumer.offsets import (
    ACCEPT_ANEW,
    ACCEPT_LOSS,
    Extent,
    OffsetsOutOfRetention,
    Reset,
    SourceError,
    TopicMadeAnew,
    dropped_before,
    out_of_retention,
    readable,
    start_offsets,
    was_made_anew,
)
from consumer.partitions import Lookout
from consumer.reading_client import MENDED_BY_THE_CLIENT, consumer_of, partitions_of
from consumer.topics import MAKE_TOPICS, TOPIC_GONE, topic_id

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class Record(Protocol):
    """What we use of `confluent_kafka.Message`."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]:
        """(kind, milliseconds since 1970)"""
        ...

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...


class BrokerUnreachable(SourceError):
    """No broker answered in time."""


class TopicMissing(SourceError):
    """The topic does not exist, or was deleted while it was read."""


class ReadFailed(SourceError):
    """Kafka answered with an error that retrying does not mend."""


class CommitFailed(SourceError):
    """The group's offsets could not be written. Nothing is lost: progress is in the checkpoint."""


# The client tells errors inside its calls: so a long wait is cut, to look at them in between.
_NOTICE_SECONDS: Final = 0.5
# Asked in a thread; but a close waits for the answer.
_TOPIC_SECONDS: Final = 2.0
# The wait for an answer is cut too; a broker that takes longer than this for every one of them is not waited for.
_LOOK_UP_SECONDS: Final = 2.0
# The client itself gives up after five (`session.timeout.ms`), save where the commit is on its way.
_CLOSE_SECONDS: Final = 10.0


class Source:
    """All partitions of `topic`, from `seek()` on. Not for several threads at once."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        group_id: str,
        *,
        librdkafka: Mapping[str, str] | None = None,
        answer_seconds: float = 30.0,
        look_up: Callable[[], None] = lambda: None,
        after_loss: str = ACCEPT_LOSS,
        after_anew: str = ACCEPT_ANEW,
    ) -> None:
        """`librdkafka`: further properties of the client (security, ...); ValueError for a wrong one.

        `answer_seconds` bounds each question to the broker; nothing is asked before `seek()`. `look_up` is called every
        other second while an answer is waited for: what it raises ends the wait. `after_loss`: what a person can do
        where records are gone that `take` did not get to; `after_anew`: where the topic is another one by now.
        """
        self._address = bootstrap_servers
        self._topic = topic
        self._group_id = group_id
        self._librdkafka = librdkafka or {}
        self._answer_seconds = answer_seconds
        self._look_up = look_up
        self._after_loss = after_loss
        self._after_anew = after_anew
        self.topic_id: str | None = None
        """What tells the topic from one made under its name later; None before it is asked, or where nobody says."""
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._broken: SourceError | None = None
        self._errors: list[tuple[KafkaError, int]] = []
        self._topic_in_doubt = False
        self._known_id: str | None = None
        self._last_trouble: str | None = None
        self._away_since: float | None = None
        self._commits_fail = False
        self._closing: Thread | None = None
        self._lookout = Lookout(self._look_for_partitions)
        self._consumer = consumer_of(
            bootstrap_servers, group_id, librdkafka or {}, on_error=self._on_error, on_commit=self._on_commit
        )

    def was_made_anew(self, saved_id: str | None, reset: Reset | None) -> bool:
        """Whether the topic is another one than that of the saved id; asks for its `topic_id`, seconds at most.

        Raises TopicMadeAnew where it is and `reset` is not given.
        """
        self.topic_id = topic_id(self._address, self._topic, librdkafka=self._librdkafka, look_up=self._look_up)
        self._known_id = self.topic_id or saved_id
        if saved_id is not None and self.topic_id is None:
            _log.warning("the broker did not tell the id of %s: whether it was made anew is not known", self._topic)
        return was_made_anew(self._topic, saved_id, self.topic_id, reset)

    def check_topic(self) -> None:
        """TopicMadeAnew where the topic is not that of the start any more; then there are no more records either.

        May be called in another thread. It waits seconds at most for the id; where nobody tells it nothing is compared.
        """
        if self._known_id is None:
            return
        found = topic_id(self._address, self._topic, librdkafka=self._librdkafka, answer_seconds=_TOPIC_SECONDS)
        try:
            was_made_anew(self._topic, self._known_id, found, None, self._after_anew)
        except TopicMadeAnew as anew:
            self._broken = anew
            raise

    def seek(self, offsets: Mapping[int, int] | None, reset: Reset | None = None) -> None:
        """Go on from a checkpoint's next offsets, or, with None, from where `start_offsets` says.

        Every partition of the topic is read from now on. Raises BrokerUnreachable and TopicMissing, and what
        `start_offsets` raises where a person has to choose.
        """
        self._consumer.unassign()
        partitions = self._partitions()
        extents = {partition: self._extent(partition) for partition in partitions}
        self._next = start_offsets(self._topic, self._group_id, extents, offsets, self.committed, reset)
        self._ends = {partition: extent.end for partition, extent in extents.items()}
        self._broken = None
        self._errors.clear()
        self._read_on()

    def take(self, max_records: int, wait_seconds: float) -> list[Record]:
        """The next records, in offset order within a partition: as soon as there are any, after `wait_seconds` none.

        What is already here is taken along, up to `max_records`; the rest waits for the next call. Raises
        OffsetsOutOfRetention where records were dropped before they were read, TopicMissing, TopicMadeAnew, ReadFailed;
        after that this source gives no more records. A broker that is away is waited for.
        """
        if not self._next:
            raise RuntimeError("seek() comes before take()")
        deadline = time.monotonic() + wait_seconds
        while True:
            self._face_errors()
            if added := self._lookout.new_partitions(self._next):
                self._follow(added)
            # Asking for more than one would wait out the whole time unless that many arrive.
            wait = min(_NOTICE_SECONDS, max(0.0, deadline - time.monotonic()))
            batch = self._consumer.consume(1, wait)
            if batch and max_records > 1:
                batch += self._consumer.consume(max_records - 1, 0)
            records = self._in_order(batch)
            if records or (time.monotonic() >= deadline and not self._errors and self._broken is None):
                return records

    def next_offsets(self) -> dict[int, int]:
        """Next offset to read, per partition: everything below it has been taken."""
        return dict(self._next)

    def committed(self) -> dict[int, int]:
        """The group's next offsets, where it has any."""
        questions = [TopicPartition(self._topic, partition) for partition in self._partitions()]
        answers = self._ask(lambda seconds: self._consumer.committed(questions, timeout=seconds))
        return {answer.partition: answer.offset for answer in answers if answer.offset >= 0}

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Write next offsets to the group, for lag tools and people; back when they are written, or CommitFailed."""
        wanted = self._places(offsets)
        if not wanted:
            return
        try:
            written = self._consumer.commit(offsets=wanted, asynchronous=False) or []
        except KafkaException as error:
            raise self._commit_failed(error.args[0]) from error
        for partition in written:
            if partition.error is not None:
                raise self._commit_failed(partition.error)

    def commit_soon(self, offsets: Mapping[int, int]) -> None:
        """The same without waiting: for show. Where it fails the log says so, once until it is well again."""
        wanted = self._places(offsets)
        if wanted:
            try:
                self._consumer.commit(offsets=wanted, asynchronous=True)
            except KafkaException as error:
                self._on_commit(error.args[0], [])

    def end_offsets(self) -> dict[int, int]:
        """One past the newest readable record, per partition, asked of the broker now."""
        return {partition: self._extent(partition).end for partition in self._next}

    def lag(self) -> dict[int, int]:
        """Offsets not taken yet, per partition, by what the last answers of the broker told. Asks nothing."""
        return {partition: max(0, self._known_end(partition) - offset) for partition, offset in self._next.items()}

    def is_behind(self) -> bool:
        """Whether `lag` is above 0 anywhere; where that is so, found out sooner."""
        return any(self._known_end(partition) > offset for partition, offset in self._next.items())

    def away_seconds(self) -> float:
        """For how long no broker has answered; 0 while one does. Asks nothing.

        The client tells at once that it has lost the last broker, and nothing when one is back: records tell, or the
        next look for partitions, half a minute later at most.
        """
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Leave the broker, once it has answered the newest commit, or after seconds. Closing twice does nothing."""
        self._lookout.close()
        if self._closing is None:
            # In a thread: where a broker keeps the connection and says nothing, the client waits on for a commit.
            self._closing = Thread(target=self._consumer.close, daemon=True)
            self._closing.start()
        self._closing.join(_CLOSE_SECONDS)

    def _places(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]

    def _look_for_partitions(self) -> list[int]:
        """Called in the lookout's thread. It is a question to the broker too, also where no record comes for hours."""
        found = partitions_of(self._address, self._topic, self._group_id, self._librdkafka, _TOPIC_SECONDS)
        if found:
            self._away_since = None
            self.check_topic()
        else:
            self._lose_the_broker()
        return found

    def _follow(self, partitions: Collection[int]) -> None:
        """Read partitions that were added from their first record on: all that they hold is news."""
        try:
            # Our client has to hear of them first: what it does not know it reports as gone.
            added = dict.fromkeys(sorted(set(self._partitions(_NOTICE_SECONDS)) & set(partitions)), 0)
        except BrokerUnreachable:
            added = {}
        if not added:
            return  # the next look finds them again
        self._next.update(added)
        self._ends.update(added)
        self._consumer.incremental_assign(self._places(added))
        _log.info("%s has new partitions, read from now on: %s", self._topic, ", ".join(map(str, added)))

    def _read_on(self) -> None:
        """Let the client fetch from our next offsets; what it held of the past is dropped."""
        self._consumer.assign(self._places(self._next))

    def _in_order(self, batch: list[Message]) -> list[Record]:
        """The records of a batch, once it is sure that none is missing before or between them."""
        ends: dict[int, int] = {}
        if any(map(Message.error, batch)):
            batch, ends = self._without_errors(batch)
        # Whole columns at a time: this runs for every event, and a loop in Python would show in the rate.
        newest = cast(dict[int, int], dict(zip(map(Message.partition, batch), map(Message.offset, batch), strict=True)))
        counts = Counter(map(Message.partition, batch))
        following = dict(self._next)
        for partition, offset in newest.items():
            if offset + 1 - following[partition] != counts[partition]:
                self._check_gaps(partition, [cast(int, m.offset()) for m in batch if m.partition() == partition])
            following[partition] = offset + 1
        for partition, end in ends.items():
            following[partition] = max(following[partition], end)
        self._next = following
        if batch:
            self._away_since = None
            if self._last_trouble is not None:
                _log.info("reading %s again", self._topic)
                self._last_trouble = None
        return cast(list[Record], batch)

    def _without_errors(self, batch: list[Message]) -> tuple[list[Message], dict[int, int]]:
        """The records, and where partitions were read to their end; errors that stay are kept for the next call."""
        records: list[Message] = []
        ends: dict[int, int] = {}
        for message in batch:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[cast(int, message.partition())] = cast(int, message.offset())
            elif error.code() in MENDED_BY_THE_CLIENT:
                self._note(error)
            else:
                self._errors.append((error, cast(int, message.partition())))
        return records, ends

    def _face_errors(self) -> None:
        """Raise what stops us, now that every record before it is handed out."""
        errors, self._errors = self._errors, []
        for error, partition in errors:
            self._broken = self._broken or self._judge(error, partition)
        if self._topic_in_doubt:
            self._confirm_topic()
        if self._broken is not None:
            raise self._broken

    def _judge(self, error: KafkaError, partition: int) -> SourceError | None:
        """What an error that the client will not mend means for us; None where reading goes on."""
        where = f"{self._topic}[{partition}]"
        if error.code() in TOPIC_GONE:
            return TopicMissing(f"{where} on {self._address} is gone: {error.str()}. {MAKE_TOPICS}")
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition in self._next:
            return self._judge_position(partition)
        return ReadFailed(f"reading {where} from {self._address} failed: {error.name()}: {error.str()}")

    def _judge_position(self, partition: int) -> SourceError | None:
        """The client found no record where it wanted to read on."""
        expected = self._next[partition]
        try:
            extent = self._extent(partition)
        except SourceError as unreachable:
            return unreachable
        if not readable(expected, extent):
            return out_of_retention(self._topic, {partition: expected}, {partition: extent}, self._after_loss)
        # It speaks of a place from before the last seek(): such errors outlive it in the client's queue. And should
        # it speak of this one, the client has stopped there and has to be sent on.
        self._read_on()
        return None

    def _check_gaps(self, partition: int, offsets: list[int]) -> None:
        """Raise where a gap was left by dropped records."""
        if offsets[0] < self._next[partition]:
            self._broken = ReadFailed(f"{self._topic}[{partition}]: offset {offsets[0]} came a second time")
            raise self._broken
        # Each answer to a fetch tells the partition's first offset, so this one is as new as the records.
        dropped = dropped_before(self._next[partition], offsets, self._known_extent(partition).first)
        if dropped is not None:
            expected, missing = dropped
            self._broken = OffsetsOutOfRetention(
                f"{self._topic}[{partition}]: expected offset {expected}, but {missing} events from there on were "
                f"dropped before they were read. {self._after_loss}",
                missing,
            )
            raise self._broken

    def _partitions(self, answer_seconds: float | None = None) -> list[int]:
        metadata = self._ask(lambda seconds: self._consumer.list_topics(self._topic, timeout=seconds), answer_seconds)
        topic = metadata.topics[self._topic]
        if topic.error is not None and topic.error.code() in TOPIC_GONE:
            raise TopicMissing(f"topic {self._topic} does not exist on {self._address}. {MAKE_TOPICS}")
        if topic.error is not None:
            raise ReadFailed(f"topic {self._topic} on {self._address}: {topic.error.name()}: {topic.error.str()}")
        return sorted(topic.partitions)

    def _confirm_topic(self) -> None:
        """Ask whether the topic is still there: the client says that it is not also while it looks for a leader."""
        try:
            self._partitions(_NOTICE_SECONDS)
            self._topic_in_doubt = False
        except TopicMissing as gone:
            self._broken = gone
        except BrokerUnreachable:
            pass  # ask again at the next take

    def _extent(self, partition: int) -> Extent:
        question = TopicPartition(self._topic, partition)
        first, end = self._ask(lambda seconds: self._consumer.get_watermark_offsets(question, timeout=seconds))
        return Extent(first, end)

    def _known_extent(self, partition: int) -> Extent:
        first, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return Extent(first, end)

    def _known_end(self, partition: int) -> int:
        return max(self._ends[partition], self._known_extent(partition).end)

    def _ask(self, question: Callable[[float], _Answer], answer_seconds: float | None = None) -> _Answer:
        """The broker's answer, asked again while the client is still finding its way; bounded by `answer_seconds`."""
        answer_seconds = answer_seconds or self._answer_seconds
        deadline = time.monotonic() + answer_seconds
        while True:
            self._look_up()
            remaining = deadline - time.monotonic()
            try:
                return question(min(max(0.1, remaining), _LOOK_UP_SECONDS))
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                # While no leader is known a partition that exists is answered as unknown.
                if cause.code() not in MENDED_BY_THE_CLIENT and cause.code() != KafkaError._UNKNOWN_PARTITION:
                    raise ReadFailed(f"{self._address} answered {cause.name()}: {cause.str()}") from error
                if remaining <= 0.1:
                    if not self._consumer.assignment():
                        self._consumer.poll(0)  # lets the client tell why; it could bring a record otherwise
                    trouble = self._last_trouble or cause.str()
                    raise BrokerUnreachable(
                        f"no answer from {self._address} within {answer_seconds:g} s ({trouble}). "
                        "Is Kafka running there? HEADRACE_BOOTSTRAP_SERVERS says where it is."
                    ) from error
                time.sleep(min(0.1, remaining))

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, inside its calls: what it cannot mend is raised by the next `take()`."""
        if error.fatal() or error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._broken = self._broken or ReadFailed(
                f"reading {self._topic} from {self._address} failed: {error.name()}: {error.str()}"
            )
        else:
            self._topic_in_doubt = self._topic_in_doubt or error.code() in TOPIC_GONE
            self._note(error)

    def _note(self, error: KafkaError) -> None:
        """Say once that the client is waiting for the broker; it tries many times a second."""
        trouble = error.str()
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # others come of one broker among several, too
            # The client says how many are down, and counts when they may be coming back: "0/2 brokers are down".
            trouble = self._last_trouble or f"no broker at {self._address} answers"
            self._lose_the_broker()
        if self._last_trouble is None:
            _log.warning("waiting for the broker: %s", trouble)
        self._last_trouble = trouble

    def _lose_the_broker(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _on_commit(self, error: KafkaError | None, written: list[TopicPartition]) -> None:
        """Called by the client, inside its calls, with the answer to a `commit_soon`."""
        failed = error or next((partition.error for partition in written if partition.error is not None), None)
        if failed is not None and not self._commits_fail:
            _log.warning("%s; lag tools will show old ones until they are", self._commit_failed(failed))
        elif failed is None and self._commits_fail:
            _log.info("offsets of group %s on %s are written again", self._group_id, self._topic)
        self._commits_fail = failed is not None

    def _commit_failed(self, error: KafkaError) -> CommitFailed:
        return CommitFailed(
            f"offsets of group {self._group_id} on {self._topic} were not written: {error.name()}: {error.str()}"
        )
