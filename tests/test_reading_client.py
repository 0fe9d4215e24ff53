"""The client that a source reads with: what a person may set, and what Headrace decides."""

import pytest
from confluent_kafka import Consumer

from consumer.reading_client import consumer_of


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


def test_a_property_that_says_what_headrace_does_anyway_is_no_mistake() -> None:
    client({"enable.auto.commit": "False", "client.id": "mine"}).close()
