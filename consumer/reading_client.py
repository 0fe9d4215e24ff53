"""The Kafka client that a source reads with: its properties, and which of its troubles it mends by itself.

And the one that it asks about its topic meanwhile: calls of one client wait for each other, whatever their threads.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

# What a person may override with KAFKA_* ...
_DEFAULTS: Final[dict[str, Any]] = {
    "client.id": "headrace",
    # A broker answers a fetch at once when there is something, so this costs an event nothing; much less keeps an idle
    # worker and its broker busy with empty answers. Nor is it much more: what was not asked for waits behind it.
    "fetch.wait.max.ms": 100,
    # The default of a second makes sawtooths: a full queue is not refilled for that long.
    "fetch.queue.backoff.ms": 1,
    "queued.max.messages.kbytes": 16384,
    "reconnect.backoff.max.ms": 1000,
    # No group is joined. It bounds for how long a commit waits for the group's coordinator, and with it a close.
    "session.timeout.ms": 5000,
    # Connection errors come to `_on_error`, which says each once; on standard error they would flood.
    "log_level": 2,
}
# ... and what correctness hangs on.
_FIXED: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Never jump silently: an offset that is gone comes as an error.
    "auto.offset.reset": "error",
    # Tells that a partition is read to its end, also where that end is a transaction's marker.
    "enable.partition.eof": True,
}
# The client reconnects and asks again by itself after these.
MENDED_BY_THE_CLIENT: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,  # it left the cluster, or was known by an address only until then
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._WAIT_COORD,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    }
)


def consumer_of(
    bootstrap_servers: str,
    group_id: str,
    librdkafka: Mapping[str, str],
    *,
    on_error: Callable[[KafkaError], None],
    on_commit: Callable[[KafkaError | None, list[TopicPartition]], None],
) -> Consumer:
    """A client that leaves all decisions about offsets to us; ValueError for a property that is wrong or fixed here.

    Both functions are called inside calls of the client; `on_commit` with the answer to a commit that was not waited
    for.
    """
    ours = {"bootstrap.servers": bootstrap_servers, "group.id": group_id, **_FIXED}
    for name in sorted(set(librdkafka) & set(ours)):
        if librdkafka[name].lower() != str(ours[name]).lower():
            raise ValueError(f"{name}={librdkafka[name]!r}: Headrace sets this property itself, to {ours[name]!r}")
    try:
        return Consumer({**_DEFAULTS, **librdkafka, **ours, "error_cb": on_error, "on_commit": on_commit})
    except KafkaException as error:
        raise ValueError(f"librdkafka refused the settings: {error.args[0].str()}") from error
    except TypeError as error:  # a property of Python's client that is a function: no text can set it
        raise ValueError(f"the Kafka client refused the settings: {error}") from error


def check_properties(bootstrap_servers: str, group_id: str, librdkafka: Mapping[str, str]) -> None:
    """ValueError for a property that `consumer_of` would refuse. Waits for no broker."""
    consumer_of(bootstrap_servers, group_id, librdkafka, on_error=lambda _: None, on_commit=lambda *_: None).close()


def partitions_of(
    bootstrap_servers: str, topic: str, group_id: str, librdkafka: Mapping[str, str], answer_seconds: float
) -> list[int]:
    """The topic's partitions that have a leader, as a client of its own is told; none where nobody answers in time."""
    # Not an AdminClient: with that a question after a topic that is gone may make it.
    client = consumer_of(bootstrap_servers, group_id, librdkafka, on_error=lambda _: None, on_commit=lambda *_: None)
    try:
        found = client.list_topics(topic, timeout=answer_seconds).topics[topic].partitions
    except KafkaException:
        return []
    finally:
        client.close()
    return sorted(number for number, partition in found.items() if partition.leader >= 0)
