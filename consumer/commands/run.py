"""`headrace run`: the worker, until it is told to stop."""

from typing import Any

import structlog

from consumer.config import Settings
from consumer.health import Health
from consumer.observation import Observation
from consumer.offsets import Reset
from consumer.signals import Stopped, stop_signals

log = structlog.get_logger()


def run(settings: Settings, *, until_end: bool = False, reset: str | None = None) -> dict[str, Any]:
    """Work until SIGTERM or Ctrl-C, or with `until_end` up to the high watermarks as they stand now.

    The keys of the answer are those of `checkpoint show`: what the last checkpoint holds. /livez, /readyz and /metrics
    answer from the beginning: a first start compiles for a minute or more.
    """
    observation = Observation.of(settings)
    health = Health(
        observation.metrics.render,
        is_alive=observation.is_alive,
        is_ready=observation.is_ready,
        doing=lambda: observation.doing,
        host=settings.metrics_host,
        port=settings.metrics_port,
    )
    with stop_signals() as stopping, health:
        log.info("listening", metrics=f"{health.url}/metrics")
        from consumer.worker import Worker  # only now: torch is slow to come

        try:
            with Worker(
                settings, reset=Reset(reset) if reset else None, observation=observation, stopping=stopping.is_set
            ) as worker:
                until = worker.end_offsets() if until_end else None
                log.info("working", metrics=f"{health.url}/metrics")
                return worker.run(stopping.is_set, until).summary()
        except Stopped:
            log.info("told to stop before anything was read")
            return _saved_before(settings)


def _saved_before(settings: Settings) -> dict[str, Any]:
    """What the newest checkpoint says that it holds; zeros where there is none."""
    from consumer.checkpoint import CheckpointStore, Counts, Manifest

    nothing = Manifest(
        step=0, epoch=0, model_version=0, offsets={}, counts=Counts(), settings={}, state_sha256="", files={}
    )
    return (CheckpointStore(settings.checkpoint_dir).newest_manifest() or nothing).summary()
