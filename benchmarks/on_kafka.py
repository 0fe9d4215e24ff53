"""`python -m benchmarks.on_kafka --bootstrap-servers HOST:PORT`: freshness on a real Kafka, beside two bare hops.

Elsewhere the broker is the in-process one, which goes through all it holds at each fetch and keeps nothing on a disk.
This one makes topics of its own there, sends to them at each rate, says how long events waited for the list that
reflects them, and removes the topics. A line an object, each with its settings; the last one sums up:

    freshness_p99_of_two_hops    p99 of the worker over that of two bare hops, by rate
    freshness_ms                 p50, p99 and p99.9 of both

A broker that shares the machine's cores with all the others takes its part of the time.
"""

import argparse
import contextlib
import math
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks import report
from benchmarks.freshness import measure_hops, measure_service
from benchmarks.phases import close_service, open_service
from benchmarks.processes import Process
from benchmarks.report import Result
from benchmarks.stream import Stream
from consumer.topics import TopicPlan, TopicsError, create, plan

CONSUMER: Final[Mapping[str, object]] = {"fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 1}
"""Of the hops' consumers, as of the worker's: a real broker answers a fetch as soon as there is something."""
RATES: Final = (1000.0, 5000.0)
DRAIN_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 30.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_kafka", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--bootstrap-servers", required=True, metavar="HOST:PORT", help="a Kafka; topics are made there"
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rates", type=_rates, default=RATES, metavar="N,N", help="events a second")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each rate; a checkpoint is saved every 30")
    parser.add_argument("--encoder", help="instead of `recency` at width 64")
    given = parser.parse_args(arguments)
    encoder = {"encoder": "recency", "embedding_dim": 64} if given.encoder is None else {"encoder": given.encoder}
    servers = given.bootstrap_servers
    hops: dict[float, Result] = {}
    fresh: dict[float, Result] = {}
    machine = report.machine()
    try:
        for rate in given.rates:
            shape = Stream(round(rate * given.seconds), given.users, given.items, given.partitions)
            with _topics(servers, shape) as (stream, _):
                hops[rate] = measure_hops(servers, stream, rate, CONSUMER)
                _tell(f"hops at {rate:g}/s", hops[rate], stream)
            with _topics(servers, shape) as (stream, names), Process() as process:
                settings = process.run(open_service, servers, stream, {**names, **encoder, "librdkafka": {}})
                fresh[rate] = measure_service(process, servers, stream, rate, DRAIN_SECONDS)
                process.run(close_service)
                _tell(f"freshness at {rate:g}/s", fresh[rate], stream, settings)
    except ValueError as error:  # of the stream
        parser.error(str(error))
    except (TopicsError, KafkaException) as error:
        sys.exit(f"{parser.prog}: {error}")
    report.emit({"benchmark": "summary", **summed(hops, fresh), "machine": machine}, as_json=True)


def summed(hops: Mapping[float, Result], fresh: Mapping[float, Result]) -> Result:
    """Rate -> what `measure_hops` and `measure_service` gave."""

    def times(result: Result) -> dict[str, float]:
        return {name.removesuffix("_ms"): result[name] for name in report.TIMES}

    return {
        "freshness_p99_of_two_hops": {
            f"{rate:g}/s": round(found["p99_ms"] / hops[rate]["two_hops"]["p99_ms"], 3) for rate, found in fresh.items()
        },
        "freshness_ms": {
            "two hops": {f"{rate:g}/s": times(found["two_hops"]) for rate, found in hops.items()},
            "worker": {f"{rate:g}/s": times(found) for rate, found in fresh.items()},
        },
    }


@contextlib.contextmanager
def _topics(bootstrap_servers: str, shape: Stream) -> Iterator[tuple[Stream, dict[str, object]]]:
    """Topics of a worker and of the hops, as `headrace topics create` makes them, until the block ends: such a stream
    that goes there, and the settings of a worker that uses them.
    """
    stream = replace(shape, topic=f"headrace-benchmark-{secrets.token_hex(4)}")
    names = {
        setting: f"{stream.topic}.{what}"
        for setting, what in (
            ("items_topic", "items"),
            ("users_topic", "users"),
            ("recommendations_topic", "recommendations"),
            ("dead_letter_topic", "dead-letters"),
        )
    }
    plans = plan(
        events=stream.topic,
        items=names["items_topic"],
        users=names["users_topic"],
        recommendations=names["recommendations_topic"],
        dead_letters=names["dead_letter_topic"],
        partitions=stream.partitions,
    )
    plans.append(TopicPlan(stream.relayed_topic, stream.partitions, plans[0].config))
    create(bootstrap_servers, plans)
    try:
        yield stream, {**names, "group_id": stream.topic}
    finally:
        _remove(AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 2}), plans, stream.topic)


def _remove(admin: AdminClient, plans: Sequence[TopicPlan], group: str) -> None:
    with contextlib.suppress(KafkaException):  # it may never have committed anything
        for answer in admin.delete_consumer_groups([group], request_timeout=ANSWER_SECONDS).values():
            answer.result(ANSWER_SECONDS)
    for answer in admin.delete_topics([wanted.name for wanted in plans], operation_timeout=ANSWER_SECONDS).values():
        answer.result(ANSWER_SECONDS)


def _tell(name: str, result: Result, stream: Stream, worker: Mapping[str, Any] | None = None) -> None:
    settings = {"stream": asdict(stream), **({"worker": worker} if worker else {})}
    report.emit({"benchmark": name, **result, "settings": settings}, as_json=True)


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(sorted(float(part) for part in text.split(",")))
    except ValueError:
        rates = ()
    if not rates or not 0 < rates[0] <= rates[-1] < math.inf:
        raise argparse.ArgumentTypeError(f"expected numbers above 0, separated by commas, got {text!r}")
    return rates


if __name__ == "__main__":
    main()
