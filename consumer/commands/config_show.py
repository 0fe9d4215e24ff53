"""`headrace config show`: every setting as it would be used, secrets masked."""

from typing import Any

from consumer.config import Settings


def run(settings: Settings) -> dict[str, Any]:
    """Name to value; librdkafka's properties are one mapping."""
    return settings.shown()
