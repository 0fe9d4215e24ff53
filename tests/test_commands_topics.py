"""`topics create` and `describe`, on a real Kafka."""

import pytest
from broker_clients import produce

from consumer.commands import topics
from consumer.config import Settings


@pytest.fixture
def settings(kafka, unique):
    names = ("events_topic", "items_topic", "users_topic", "recommendations_topic", "dead_letter_topic")
    return Settings(bootstrap_servers=kafka.bootstrap_servers, partitions=2, **{name: unique(name) for name in names})


def test_topics_are_made_once_under_the_names_of_the_settings(settings):
    first = topics.create(settings)
    second = topics.create(settings)

    assert first["topics"][0]["name"] == settings.events_topic
    assert {topic["name"] for topic in first["topics"]} == {
        settings.events_topic,
        settings.items_topic,
        settings.users_topic,
        settings.recommendations_topic,
        settings.dead_letter_topic,
    }
    assert [topic["created"] for topic in first["topics"]] == [True] * 5
    assert [topic["created"] for topic in second["topics"]] == [False] * 5
    assert [topic["differences"] for topic in second["topics"]] == [[]] * 5


def test_a_topic_that_is_not_as_planned_is_told(settings):
    topics.create(settings)

    answer = topics.create(settings.model_copy(update={"partitions": 3}))

    assert "has 2 partitions, planned are 3" in answer["topics"][0]["differences"]
    assert "was there, 2 partitions\n    has 2 partitions, planned are 3" in topics.as_text(answer)


def test_a_description_has_partitions_offsets_and_settings(settings):
    topics.create(settings)
    produce(settings.bootstrap_servers, settings.events_topic, [b"1", b"2", b"3"], partition=1)

    events = topics.describe(settings)["topics"][0]

    assert events["exists"]
    assert events["partitions"] == {0: [0, 0], 1: [0, 3]}
    assert events["config"]["cleanup.policy"] == "delete"


def test_a_topic_that_does_not_exist_is_told(settings):
    answer = topics.describe(settings)

    assert [topic["exists"] for topic in answer["topics"]] == [False] * 5
    assert "does not exist; `headrace topics create` makes it" in topics.as_text(answer)


def test_people_see_how_much_a_topic_spans():
    topic = {"name": "e", "exists": True, "partitions": {0: [2, 5], 1: [0, 1]}, "config": {"cleanup.policy": "delete"}}

    text = topics.as_text({"topics": [topic]})

    assert text.splitlines() == [f"{'e':<24}  2 partitions, offsets span 4", "    cleanup.policy delete"]
