"""What deploy/, docker-compose.yml and the Dockerfile promise: valid, closed to the outside, and true of the code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from promql import complaints, selectors, series_of_the_worker

from consumer.config import Settings
from consumer.health import Health

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "headrace.json"


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [rule["expr"] for rule in alerts()] + [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that generates the dashboard."""
    monkeypatch.syspath_prepend(GRAFANA)
    import dashboard

    return dashboard


# --- docker-compose.yml and the Dockerfile ---


def fits_the_compose_schema(path: Path) -> bool:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_compose_file_fits_the_compose_schema() -> None:
    assert fits_the_compose_schema(COMPOSE)


def test_a_compose_file_with_a_mistake_does_not_fit(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("depends_on:", "depends_upon:"))

    assert not fits_the_compose_schema(wrong)


def test_every_published_port_is_bound_to_loopback() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]

    assert len(published) >= 4
    assert [port for port in published if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


def test_kafka_gets_every_setting_that_the_image_would_otherwise_take_from_its_file() -> None:
    needed = {
        "CLUSTER_ID", "KAFKA_NODE_ID", "KAFKA_PROCESS_ROLES", "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "KAFKA_INTER_BROKER_LISTENER_NAME", "KAFKA_CONTROLLER_LISTENER_NAMES",
        "KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR",
    }  # fmt: skip

    assert needed - set(services()["kafka"]["environment"]) == set()


def test_every_listener_of_kafka_has_a_protocol_and_all_but_the_controller_an_address() -> None:
    given = services()["kafka"]["environment"]

    listeners = {entry.split("://")[0] for entry in given["KAFKA_LISTENERS"].split(",")}
    advertised = {entry.split("://")[0] for entry in given["KAFKA_ADVERTISED_LISTENERS"].split(",")}
    protocols = {entry.split(":")[0] for entry in given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}

    assert listeners == protocols
    assert listeners - advertised == {given["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert given["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised


def test_services_that_speak_to_kafka_wait_until_the_topics_are_there() -> None:
    found = services()

    assert found["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in ("worker", "worker-gpu", "producer"):
        assert found[name]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}, name


def test_a_worker_on_a_gpu_starts_only_when_asked_and_answers_to_the_same_name() -> None:
    worker, on_gpu = services()["worker"], services()["worker-gpu"]

    assert "profiles" not in worker
    assert on_gpu["profiles"] == ["gpu"]
    assert on_gpu["networks"]["default"]["aliases"] == ["worker"]
    assert on_gpu["ports"] == worker["ports"]
    assert on_gpu["environment"]["HEADRACE_DEVICE"] == "cuda"


def test_every_image_of_ours_is_built_by_one_service_that_all_who_use_it_wait_for() -> None:
    found = services()
    ours = {name: service["image"] for name, service in found.items() if service["image"].startswith("headrace:")}

    builders = {name: image for name, image in ours.items() if "build" in found[name]}

    assert builders == {"topics": "headrace:0.1.0", "worker-gpu": "headrace:0.1.0-gpu"}
    assert set(ours.values()) == set(builders.values())
    assert [name for name in ours if name not in builders and "topics" not in found[name]["depends_on"]] == []


def test_every_service_that_is_to_be_named_at_a_start_exists() -> None:
    told = (ROOT / "README.md").read_text() + COMPOSE.read_text()

    named = [word for line in re.findall(r"docker compose up((?: [a-z-]+)+)(?:`|  )", told) for word in line.split()]

    assert {"worker", "worker-gpu"} <= set(named) <= set(services())


def test_every_headrace_variable_in_the_compose_file_is_a_setting_with_a_valid_value() -> None:
    for service in services().values():
        given = {
            name.removeprefix("HEADRACE_").lower(): value
            for name, value in service.get("environment", {}).items()
            if name.startswith("HEADRACE_")
        }

        settings = Settings.model_validate(given)

        assert set(given) <= set(settings.model_fields_set)


def test_every_folder_that_the_compose_file_mounts_is_in_the_repository() -> None:
    mounted = [
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]

    assert len(mounted) >= 3
    assert [path for path in mounted if not any((ROOT / path).iterdir())] == []


def test_a_worker_keeps_its_state_and_its_compiled_kernels_in_volumes_whose_folders_the_image_has() -> None:
    installed = re.findall(r"install -d -o headrace -g headrace (.+)", (ROOT / "Dockerfile").read_text())[0].split()

    for name in ("worker", "worker-gpu"):
        mounted = dict(volume.split(":") for volume in services()[name]["volumes"])

        assert mounted == {"state": "/var/lib/headrace", "kernels": "/home/headrace/.cache/numba"}
        assert set(mounted.values()) <= set(installed)


def test_the_image_copies_what_the_build_context_lets_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    sources = {word for line in copied for word in line.split()}

    assert sources == let_through
    assert [name for name in sources if not (ROOT / name).exists()] == []


def test_the_image_runs_as_somebody_else_than_root_and_asks_whether_it_is_ready() -> None:
    last_stage = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[-1]

    user = re.findall(r"^USER (\S+)$", last_stage, re.MULTILINE)

    assert len(user) == 1
    assert user[0] not in ("root", "0")
    assert re.search(r"^HEALTHCHECK .*\n.*/readyz", last_stage, re.MULTILINE)


@pytest.mark.parametrize("has_triton", [True, False])
def test_the_image_brings_the_compiler_that_triton_asks_for_where_torch_brought_triton(
    has_triton: bool, tmp_path: Path
) -> None:
    last_stage = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[-1]
    condition = re.findall(r"^RUN if (\[ .+ \]); then \\\n.*install .*\bgcc libc6-dev\b", last_stage, re.MULTILINE)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / ("triton" if has_triton else "torch")).mkdir(parents=True)

    run = subprocess.run(["sh", "-c", condition[0].replace("/opt/headrace", str(tmp_path))], check=False)

    assert (run.returncode == 0) is has_triton


@pytest.mark.parametrize("ready", [True, False])
def test_the_health_check_of_the_image_asks_the_worker_whether_it_is_ready(ready: bool) -> None:
    asked = re.findall(r"^HEALTHCHECK .*\n +CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    _, *arguments = json.loads(asked[0])

    with Health(lambda: b"", lambda: True, lambda: ready, port=0) as health:
        proxies = {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}  # as Docker hands them to every container
        environment = {**os.environ, **proxies, "HEADRACE_METRICS_PORT": str(health.port)}
        run = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)

    assert (run.returncode == 0) is ready


# --- Prometheus and Grafana ---


def test_every_expression_parses_and_names_only_what_the_worker_has() -> None:
    series = series_of_the_worker()

    assert len(expressions()) > 20
    assert [line for expression in expressions() for line in complaints(expression, series)] == []


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate(headrace_events_total[5m)", "headrace_events_total"),
        ("rate(headrace_event_total[5m])", "no metric headrace_event_total"),
        ('rate(headrace_events_total{result="learned"}[5m])', "no label result"),
        ("sum by (user) (rate(headrace_events_total[5m]))", "no label user"),
    ],
)
def test_an_expression_that_asks_for_what_is_not_there_is_caught(expression: str, complaint: str) -> None:
    found = complaints(expression, series_of_the_worker())

    assert len(found) == 1
    assert complaint in found[0]


def test_the_dashboard_shows_every_metric_of_the_worker() -> None:
    shown = {one.metric for panel in panels() for target in panel["targets"] for one in selectors(target["expr"])[0]}

    def family(name: str) -> str:
        return re.sub(r"_(bucket|sum|count)$", "", name)

    ours = {family(name) for name in series_of_the_worker() if name.startswith("headrace_")}

    assert ours - {family(name) for name in shown} == set()


def test_the_dashboard_shows_which_of_the_rules_fire() -> None:
    (alerting,) = [target for panel in panels() for target in panel["targets"] if "ALERTS" in target["expr"]]
    names = re.findall(r'alertname=~"(.+?)"', alerting["expr"])[0]

    assert 'alertstate="firing"' in alerting["expr"]
    assert [rule["alert"] for rule in alerts() if not re.fullmatch(names, rule["alert"])] == []


def test_no_two_lines_of_a_panel_have_one_name_also_where_there_are_two_workers() -> None:
    series = series_of_the_worker()
    targets = [target for panel in panels() for target in panel["targets"] if "ALERTS" not in target["expr"]]
    for target in targets:
        expression = target["expr"]
        (selected,), grouped = selectors(expression)
        fixed = set(re.findall(r'(\w+)="', expression))
        varying = grouped - {"le"} if " by (" in expression else series.get(selected.metric, set()) - fixed
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == varying | {"instance"}, expression
        assert " by (" not in expression or "instance" in grouped, expression
    assert len(targets) > 30


def test_every_panel_has_a_title_a_unit_and_says_what_is_bad_and_what_to_do() -> None:
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert re.fullmatch(r"\*\*Bad:\*\* .{20,}\n\n\*\*At three in the morning:\*\* .{20,}", panel["description"])


def test_panels_ask_the_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]

    assert {panel["datasource"]["uid"] for panel in panels()} == {provisioned[0]["uid"]}
    assert provisioned[0]["url"] == "http://prometheus:9090"


def test_panels_stand_beside_and_below_each_other() -> None:
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]

    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_the_committed_dashboard_is_what_its_script_generates(dashboard: ModuleType) -> None:
    assert dashboard.build() == DASHBOARD.read_text(), "run: .venv/bin/python deploy/grafana/dashboard.py"


def test_the_red_lines_of_the_dashboard_are_the_limits_of_the_alert_rules() -> None:
    lines = {
        panel["targets"][-1]["expr"]: steps[1]["value"]
        for panel in panels()
        if len(steps := panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])) == 2
    }
    limits = {rule["alert"]: rule["expr"] for rule in alerts()}

    freshness = next(value for expression, value in lines.items() if "freshness" in expression)
    age = next(value for expression, value in lines.items() if "checkpoint_age" in expression)
    away = next(value for expression, value in lines.items() if "broker_away" in expression)

    assert limits["HeadraceFreshnessSlow"].endswith(f">= {freshness}")
    assert f"headrace_checkpoint_age_seconds > {age} " in limits["HeadraceCheckpointOld"]
    assert limits["HeadraceBrokerAway"].endswith(f"> {away}")
    assert freshness in Settings().freshness_buckets
    assert freshness in Settings.model_validate({"freshness_buckets": "0.01,0.1"}).freshness_buckets


def test_every_alert_says_how_urgent_it_is_what_is_wrong_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["for"]


def test_every_alert_is_shown_firing_and_keeping_quiet() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]

    cases = [case for test in tests for case in test["alert_rule_test"]]

    for rule in alerts():
        fires = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]}
        assert fires == {True, False}, rule["alert"]


def test_every_setting_that_alerts_and_panels_advise_to_change_exists() -> None:
    advice = (PROMETHEUS / "alerts.yml").read_text() + DASHBOARD.read_text()

    named = set(re.findall(r"\bHEADRACE_([A-Z_]*[A-Z])\b", advice))

    assert len(named) >= 4
    assert named - {name.upper() for name in Settings.model_fields} == set()


def test_prometheus_asks_the_port_that_the_worker_serves() -> None:
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    worker = services()["worker"]["environment"]

    assert scrapes[0]["static_configs"][0]["targets"] == [f"worker:{worker['HEADRACE_METRICS_PORT']}"]
    assert worker["HEADRACE_METRICS_HOST"] == "0.0.0.0"
    assert scrapes[0]["job_name"] == "headrace"


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=["configuration", "rules"],
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here (Debian: it comes with the package prometheus)")

    run = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
