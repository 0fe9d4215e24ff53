"""What an installation brings, and what the Makefile says where it cannot: a fresh machine with Python 3.11."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = {"help", "install", "demo", "test", "lint", "soak", "bench", "clean"}


def requirements(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """Names of everything that these requirements bring on this machine, by what the installed packages say."""
    brought: set[str] = set()
    waiting = [(requirement.name, extra) for requirement in wanted for extra in ("", *requirement.extras)]
    done: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        brought.add(canonicalize_name(name))
        for line in importlib.metadata.requires(name) or []:
            further = Requirement(line)
            if further.marker is None or further.marker.evaluate({"extra": extra}):
                waiting += [(further.name, inner) for inner in ("", *further.extras)]
    return brought


def test_the_base_installation_is_light_enough_for_those_who_only_send_and_read() -> None:
    assert {requirement.name for requirement in requirements()} == {"confluent-kafka", "msgspec"}


def test_sending_and_reading_load_nothing_that_the_base_installation_lacks() -> None:
    code = "import sys, producer.client, producer.subscriber, producer.replay; print(*sorted(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    lacking = {"torch", "numpy", "numba", "river", "pydantic", "rich", "typer", "structlog", "prometheus_client"}
    assert {"producer.client", "confluent_kafka"} <= set(loaded.split())
    assert lacking & set(loaded.split()) == set()


def test_every_package_tells_a_type_checker_that_it_has_types() -> None:
    assert PROJECT["classifiers"].count("Typing :: Typed") == 1
    for package in ("consumer", "model", "producer"):
        assert (ROOT / package / "py.typed").exists(), package


def console_script(blocked: str) -> subprocess.CompletedProcess[str]:
    """Runs `headrace config show` as the installed script does, where an import of `blocked` fails."""
    module, function = PROJECT["scripts"]["headrace"].split(":")
    code = f"import sys; sys.modules[{blocked!r}] = None; sys.argv[1:] = ['config', 'show']; "
    code += f"from {module} import {function}; {function}()"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["typer", "pydantic", "pydantic_settings", "structlog"])
def test_the_console_script_of_a_base_installation_says_what_to_install(package: str) -> None:
    run = console_script(blocked=package)

    assert (run.returncode, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    assert line.startswith(f"headrace: {package} is not installed. ")
    assert "pip install '.[worker]'" in line


def test_the_console_script_hides_no_fault_of_our_own() -> None:
    run = console_script(blocked="consumer.environment")

    assert run.returncode == 1
    assert "ModuleNotFoundError" in run.stderr


def test_the_console_script_runs_where_all_is_there() -> None:
    run = console_script(blocked="no_such_package")

    assert run.returncode == 0
    assert "bootstrap_servers" in run.stdout


def test_everything_that_the_project_names_is_pinned_within_its_range() -> None:
    found = pins()

    outside = [
        str(requirement)
        for requirement in requirements("worker", "dev")
        if canonicalize_name(requirement.name) not in found
        or not requirement.specifier.contains(found[canonicalize_name(requirement.name)])
    ]

    assert outside == []


def test_everything_that_these_bring_along_is_pinned_too() -> None:
    brought = closure(requirements("worker", "dev"))

    assert {"torch", "sympy", "jinja2", "pydantic-core"} <= brought
    assert brought - set(pins()) == set()


def test_the_licence_named_is_the_licence_in_the_repository() -> None:
    text = (ROOT / PROJECT["license-files"][0]).read_text()

    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0" in text


def test_the_changelog_has_the_version_of_the_project() -> None:
    assert re.search(rf"^## {re.escape(PROJECT['version'])}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    # The make that runs the tests must not tell this one how to run.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_make_alone_says_what_can_be_made() -> None:
    run = make("--no-print-directory")

    assert run.returncode == 0
    assert set(re.findall(r"^  make (\w+) +\S", run.stdout, re.MULTILINE)) == TARGETS


@pytest.mark.parametrize(
    ("python", "advice"),
    [
        ("exit 127", "needs Python 3.11 or newer"),
        ("case $* in *version_info*) exit 1;; esac", "needs Python 3.11 or newer"),
        ("case $* in *ensurepip*) exit 1;; esac", "apt-get install python3.11-venv"),
    ],
    ids=["does not start", "too old", "without ensurepip"],
)
def test_make_install_says_what_the_python_of_this_machine_lacks(tmp_path: Path, python: str, advice: str) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{python}\nexit 0\n")
    fake.chmod(0o755)

    run = make("install", f"PYTHON={fake}", f"VENV={tmp_path / 'venv'}")

    assert run.returncode != 0
    assert advice in run.stderr
    assert not (tmp_path / "venv").exists()


def test_make_install_does_nothing_when_nothing_changed(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    before = make("-n", "install", f"VENV={venv}").stdout

    (venv / ".installed").touch()
    after = make("-n", "install", f"VENV={venv}").stdout

    assert "pip install" in before
    assert "pip install" not in after
