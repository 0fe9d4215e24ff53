"""The client that a source reads with: what a person may set, and what Headrace decides."""

from collections.abc import Callable

import pytest
from broker_clients import SECONDS
from confluent_kafka import Consumer
from conftest import Broker

from consumer.reading_client import check_properties, consumer_of, partitions_of


def client(properties: dict[str, str]) -> Consumer:
    return consumer_of("127.0.0.1:1", "headrace", properties, on_error=lambda _: None, on_commit=lambda *_: None)


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"enable.auto.commit": "true"}, "enable.auto.commit='true': Headrace sets this property itself"),
        ({"auto.offset.reset": "latest"}, "auto.offset.reset='latest'"),
        ({"no.such.property": "1"}, 'No such configuration property: "no.such.property"'),
        ({"fetch.wait.max.ms": "soon"}, "fetch.wait.max.ms"),
    ],
)
def test_a_wrong_client_property_is_refused_at_once(properties: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        client(properties)
    with pytest.raises(ValueError, match=complaint):
        check_properties("127.0.0.1:1", "headrace", properties)


def test_a_property_that_says_what_headrace_does_anyway_is_no_mistake() -> None:
    properties = {"enable.auto.commit": "False", "client.id": "mine"}

    client(properties).close()
    check_properties("127.0.0.1:1", "headrace", properties)


def test_the_partitions_of_a_topic_are_asked_for(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique("events"), 3)

    assert partitions_of(broker.bootstrap_servers, topic, "headrace", {"fetch.wait.max.ms": "2"}, SECONDS) == [0, 1, 2]


def test_asking_for_a_topic_that_is_not_there_does_not_make_it(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = unique("nowhere")

    assert [partitions_of(broker.bootstrap_servers, topic, "headrace", {}, SECONDS) for _ in range(3)] == [[], [], []]


def test_a_broker_that_is_away_tells_of_no_partition(closed_port: str) -> None:
    assert partitions_of(closed_port, "events", "headrace", {}, 0.1) == []
