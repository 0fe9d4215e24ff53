"""`headrace forget USER`: have everything erased that the worker holds of a user."""

import time
from typing import Any

from consumer.commands.sending import deliver
from consumer.config import Settings
from producer.events import Forget


def run(settings: Settings, user_id: str) -> dict[str, Any]:
    """Send the request; what comes back and what is raised: see `deliver`. The worker answers with a tombstone."""
    return deliver(settings, Forget(user_id=user_id, timestamp=int(time.time() * 1000)))
