"""`headrace run`: the worker, until it is told to stop."""

from typing import Any

import structlog

from consumer.config import Settings
from consumer.health import Health
from consumer.offsets import Reset
from consumer.signals import stop_signals
from consumer.worker import Worker

log = structlog.get_logger()


def run(settings: Settings, *, until_end: bool = False, reset: str | None = None) -> dict[str, Any]:
    """Work until SIGTERM or Ctrl-C, or with `until_end` up to the high watermarks as they stand now.

    The keys of the answer are those of `checkpoint show`: what the last checkpoint holds.
    """
    with stop_signals() as stopping, Worker(settings, reset=Reset(reset) if reset else None) as worker:
        until = worker.end_offsets() if until_end else None
        health = Health(
            worker.metrics.render,
            is_alive=worker.observation.is_alive,
            is_ready=worker.observation.is_ready,
            host=settings.metrics_host,
            port=settings.metrics_port,
        )
        with health:
            log.info("working", metrics=f"http://{settings.metrics_host}:{health.port}/metrics")
            return worker.run(stopping.is_set, until).summary()
