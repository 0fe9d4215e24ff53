"""A Kafka broker inside this process: real clients, real TCP, real protocol, everything in memory.

It is librdkafka's mock cluster, reached by ctypes in the library that confluent-kafka has loaded
already, so nothing has to be installed. Clients of any process on this machine may use it; it
listens on the loopback address only and everything in it ends with the process.

Know its limits: a partition holds 5 MiB or 100,000 batches and then drops the oldest silently
(`consumer.source.Source` notices), nothing is compacted, transactions mean nothing, and AdminClient
topic calls time out: topics are made here, from `topics`.
"""

import ctypes
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import cimpl

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 0, 1, 2, 3, 8, 9, 10
"""Kafka's numbers for the request types, for `fail_next_requests`."""

CLIENT_PROPERTIES: Final[Mapping[str, str]] = {"fetch.wait.max.ms": "2"}
"""For those who read from it: unlike a real broker it lets a fetch wait out its time, whatever comes meanwhile."""

_PRODUCER: Final = 0
_ERROR_BYTES: Final = 512
_ALL_BROKERS: Final = -1
_PAUSE_SECONDS: Final = 0.001


class InProcessBrokerUnavailable(RuntimeError):
    """This build of confluent-kafka does not export librdkafka's mock cluster."""


class InProcessBroker:
    """One broker with `topics` (name -> number of partitions), up until `close()`.

    Other topics come into being when a client first writes to them, with four partitions.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._library = _librdkafka()
        # The cluster hangs on a client handle; a producer that is never used is the lightest.
        reason = ctypes.create_string_buffer(_ERROR_BYTES)
        configuration = self._library.rd_kafka_conf_new()
        # It has no broker of its own and would warn of that.
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", reason, _ERROR_BYTES)
        self._handle = self._library.rd_kafka_new(_PRODUCER, configuration, reason, _ERROR_BYTES)
        if not self._handle:
            raise InProcessBrokerUnavailable(f"librdkafka gave no handle: {reason.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._handle)
            raise InProcessBrokerUnavailable("librdkafka could not open a listener on the loopback address")
        # Groups wait three seconds for more members otherwise; here each has one.
        self._ask("group_initial_rebalance_delay_ms", 0)
        self.bootstrap_servers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """host:port for `bootstrap.servers` of any client on this machine."""
        for name, partitions in topics.items():
            self.create_topic(name, partitions)

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic; ValueError where it exists or the number of partitions is not positive."""
        if partitions < 1:
            raise ValueError(f"topic {name!r}: expected at least one partition, got {partitions}")
        error = self._ask("topic_create", name.encode(), partitions, 1)
        if error:
            raise ValueError(f"topic {name!r} with {partitions} partitions: {self._describe(error)}")

    def close(self) -> None:
        """Stop listening and free everything. Close the clients first; closing twice does nothing."""
        if not self._cluster:
            return
        self._ask("cluster_destroy")
        self._library.rd_kafka_destroy(self._handle)
        self._cluster = self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Faults, for tests of what clients do about them.

    def fail_next_requests(self, request_type: int, errors: Sequence[int]) -> None:
        """Answer the next requests of this type with these error codes (`KafkaError.*`), one each."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._ask("push_request_errors_array", request_type, len(errors), codes)

    def clear_failures(self, request_type: int) -> None:
        """Forget what `fail_next_requests` has left for this type."""
        self._ask("clear_request_errors", request_type)

    def disconnect(self) -> None:
        """Drop every connection and refuse new ones until `reconnect()`; records are kept."""
        self._ask("broker_set_down", _ALL_BROKERS)

    def reconnect(self) -> None:
        """Accept connections again."""
        self._ask("broker_set_up", _ALL_BROKERS)

    def delay_answers(self, milliseconds: int) -> None:
        """Let each answer wait this long, as a far network would. 0 ends it."""
        self._ask("broker_set_rtt", _ALL_BROKERS, milliseconds)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Drop the records below `before_offset`, as retention would."""
        # Looked up here, not with the others: the first releases with a mock cluster lack it.
        delete = self._library.rd_kafka_mock_partition_delete_records
        delete.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64]
        error = self._ask("partition_delete_records", topic.encode(), partition, before_offset)
        if error:
            raise ValueError(f"{topic}[{partition}] below {before_offset}: {self._describe(error)}")

    def _ask(self, call: str, *given: object) -> Any:
        """The answer of the cluster's thread, which may miss a call that follows another at once.

        It hands out its answer before it empties the pipe that wakes it; what comes in between wakes nobody, and is
        found a second later.
        """
        time.sleep(_PAUSE_SECONDS)
        return getattr(self._library, f"rd_kafka_mock_{call}")(self._cluster, *given)

    def _describe(self, error: int) -> str:
        text: bytes = self._library.rd_kafka_err2str(error)
        return text.decode()


def _librdkafka() -> Any:
    """The librdkafka that confluent-kafka uses, with the signatures of the calls made here."""
    # Symbols are looked up in the extension module and in what it is linked to: so this finds the
    # library wherever the wheel, the distribution or a build from source has put it.
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_err2str": (text, [number]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)],
        ),
        "rd_kafka_mock_clear_request_errors": (None, [pointer, ctypes.c_int16]),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_rtt": (number, [pointer, ctypes.c_int32, number]),
    }
    for name, (result, arguments) in signatures.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise InProcessBrokerUnavailable(
                f"the in-process broker needs {name}, which this build of confluent-kafka does not export; "
                "install the wheel (pip install --only-binary confluent-kafka 'confluent-kafka>=2.13') "
                "or use a real broker (HEADRACE_BOOTSTRAP_SERVERS)"
            ) from error
        function.restype, function.argtypes = result, arguments
    return library
