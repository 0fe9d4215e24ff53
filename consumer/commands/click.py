"""`headrace click USER ITEM`: one click, or another action, now."""

import time
from typing import Any

from consumer.commands.sending import deliver
from consumer.config import Settings
from producer.events import Click


def run(settings: Settings, user_id: str, item_id: str, *, action: str = "click") -> dict[str, Any]:
    """Send it; what comes back and what is raised: see `deliver`."""
    return deliver(settings, Click(user_id=user_id, item_id=item_id, action=action, timestamp=int(time.time() * 1000)))
