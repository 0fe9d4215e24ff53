"""`headrace simulate`: people with drifting tastes, live onto the events topic."""

import time
from typing import Any

from consumer.commands.sending import send_all
from consumer.config import Settings
from producer.simulate import simulate


def run(
    settings: Settings,
    *,
    users: int = 1_000,
    items: int = 1_500,
    rate: float = 100.0,
    seconds: float | None = None,
    drift: float = 0.02,
    turnover_at: float | None = None,
    rating_share: float = 0.5,
) -> dict[str, Any]:
    """Send `rate` events a second, stamped with the time of their making, for `seconds` or until Ctrl-C.

    Ratings are on the scale of the settings; who takes what depends on their seed alone. What comes back: see
    `send_all`. Raises ValueError, naming it, for a wrong argument.
    """
    if not rate > 0 or rate == float("inf"):
        raise ValueError(f"rate: expected a number above 0, got {rate}")
    if seconds is not None and not 0 < rate * seconds < float("inf"):
        raise ValueError(f"seconds: expected a number above 0, got {seconds} at {rate:g} events a second")
    if turnover_at is not None and seconds is None:
        raise ValueError("turnover_at: a share of an endless stream is no moment; give --seconds as well")
    events = simulate(
        users=users,
        items=items,
        events=None if seconds is None else max(1, round(rate * seconds)),
        drift=drift,
        turnover_at=turnover_at,
        rating_share=rating_share,
        rating_min=settings.rating_min,
        rating_max=settings.rating_max,
        seed=settings.seed,
        clock_ms=lambda: time.time_ns() // 1_000_000,
    )
    return send_all(settings, events, rate=rate)
