"""`headrace topics create|describe`: the five topics of Headrace on a real Kafka."""

from collections.abc import Mapping
from typing import Any

from consumer import topics
from consumer.config import Settings


def create(settings: Settings, *, replication_factor: int = -1) -> dict[str, Any]:
    """Make what is missing. Of each topic: its name, whether it was made now, and where it is not as planned."""
    plans = topics.plan(**_names(settings), partitions=settings.partitions)
    reports = topics.create(
        settings.bootstrap_servers, plans, replication_factor=replication_factor, librdkafka=settings.librdkafka
    )
    return {
        "topics": [
            {
                "name": report.name,
                "created": report.created,
                "partitions": report.partitions,
                "differences": list(report.differences),
            }
            for report in reports
        ]
    }


def describe(settings: Settings) -> dict[str, Any]:
    """Of each topic: whether it exists, first and next offset of each partition, and the settings that we plan."""
    planned = {plan.name: plan.config for plan in topics.plan(**_names(settings), partitions=settings.partitions)}
    found = topics.describe(settings.bootstrap_servers, planned, librdkafka=settings.librdkafka)
    return {
        "topics": [
            {
                "name": topic.name,
                "exists": bool(topic.partitions),
                "partitions": {partition: list(extent) for partition, extent in topic.partitions.items()},
                "config": {name: topic.config[name] for name in planned[topic.name] if name in topic.config},
            }
            for topic in found
        ]
    }


def as_text(result: Mapping[str, Any]) -> str:
    """For people: a topic a line, with what is not as planned below it."""
    return "\n".join(line for topic in result["topics"] for line in _lines(topic))


def _lines(topic: Mapping[str, Any]) -> list[str]:
    name = f"{topic['name']:<24}"
    if "created" in topic:
        state = "made" if topic["created"] else "was there"
        return [f"{name}  {state}, {topic['partitions']} partitions", *(f"    {one}" for one in topic["differences"])]
    if not topic["exists"]:
        return [f"{name}  does not exist; `headrace topics create` makes it"]
    held = sum(end - first for first, end in topic["partitions"].values())
    settings = ", ".join(f"{key} {value}" for key, value in topic["config"].items())
    return [f"{name}  {len(topic['partitions'])} partitions, offsets span {held}", f"    {settings}"]


def _names(settings: Settings) -> dict[str, str]:
    return {
        "events": settings.events_topic,
        "items": settings.items_topic,
        "users": settings.users_topic,
        "recommendations": settings.recommendations_topic,
        "dead_letters": settings.dead_letter_topic,
    }
