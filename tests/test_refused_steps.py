"""A step whose gradient is not finite, in the topic for good: the worker says so and goes on, each time it meets it."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from stream_fakes import Topic, click
from worker_fakes import Clock, FakeWorker

from consumer.actions import Interpreter
from consumer.config import load
from consumer.metrics import Metrics
from consumer.observation import Observation
from model.state import state_digest

POISON = 1e300
"""A weight whose gradient no single-precision number holds."""


pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def topic():
    """Four batches of two; the third holds the poison."""
    topic = Topic()
    topic.append(0, click("u", "a"), click("v", "b"), click("u", "b"), click("v", "a"))
    topic.append(0, click("w", "a", action="poison"), click("u", "c"), click("w", "b"), click("v", "c"))
    return topic


def observation():
    return Observation(Metrics(), load({"learning_rate": 0.25}, environment={}), clock=Clock(), now_seconds=Clock())


def start(folder, topic, observer, **named):
    worker = FakeWorker(folder, topic, **named)
    observer.watch(SimpleNamespace(lag=dict, away_seconds=float), worker.learner)
    worker.parts = replace(
        worker.parts,
        observer=observer,
        interpret=Interpreter({"poison": POISON}, 1.0, 1.0),
    )
    return worker


def refused_steps(observer):
    families = text_string_to_metric_families(observer.metrics.render().decode())
    return next(s.value for f in families for s in f.samples if s.name == "headrace_refused_steps_total")


def test_a_refused_step_is_counted_and_told_with_the_setting_to_change_and_the_worker_goes_on(tmp_path, topic):
    observer = observation()
    worker = start(tmp_path, topic, observer)

    with structlog.testing.capture_logs() as logs, np.errstate(over="ignore"):
        worker.run(batch_size=2)
    worker.close()

    errors = [line for line in logs if line["log_level"] == "error"]
    assert len(errors) == refused_steps(observer) == 1
    assert "step 3: the ranking loss is " in errors[0]["why"]
    assert errors[0]["remedy"].startswith("lower HEADRACE_LEARNING_RATE (now 0.25) or the weights of actions. ")
    assert worker.source.group == {0: 8}
    assert worker.learner.version == 4
    assert {one.user_id for one in worker.publisher.lists} == {"u", "v", "w"}


def test_after_a_crash_the_journaled_step_is_refused_again_and_the_state_is_the_same(tmp_path, topic):
    whole = start(tmp_path / "whole", topic, observation())
    with np.errstate(over="ignore"):
        whole.run(batch_size=2)
    whole.close()
    crashed = start(tmp_path / "crashed", topic, observation())
    crashed.failing["keep"] = KeyboardInterrupt(signal.SIGKILL)

    with np.errstate(over="ignore"), pytest.raises(KeyboardInterrupt):
        crashed.run(batch_size=2)
    crashed.close()
    observer = observation()
    again = start(tmp_path / "crashed", topic, observer)
    with np.errstate(over="ignore"):
        again.run(batch_size=2)
    again.close()

    assert refused_steps(observer) == 1
    assert state_digest(again.learner.state()) == state_digest(whole.learner.state())
