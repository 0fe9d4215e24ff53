# Headrace on a machine with Python 3.11 and nothing else. `make` says what there is.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/.peers
# A process of tests for each core, four at most: each loads torch and starts a Kafka of its own.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test lint kernels soak bench clean missing

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@$(MAKE) --no-print-directory missing

install: $(INSTALLED) ## make .venv with everything, and headrace in its bin (runs again only when the requirements change)

demo: install ## watch it learn from a real stream, on this machine alone; ends by itself
	$(BIN)/headrace demo

test: missing ## what CI runs: lint, types, and every test that ends within minutes
	@$(MAKE) --no-print-directory -j2 lint kernels
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not soak"

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Compiled while mypy looks at the types: processes that need the same kernels at once would each compile them. What does
# not compile here is for the tests to tell.
kernels: install
	-@$(BIN)/python tests/kernel_digests.py >/dev/null

soak: install missing ## the tests that run for long
	$(BIN)/python -m pytest -m soak

bench: $(PEERS) missing ## speed, as JSON lines, and how it grows (docs/figures/growth.png)
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.speed --json

clean: ## remove what was made here: .venv, caches, builds (checkpoints stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that broke off is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Headrace needs Python 3.11 or newer; $(PYTHON) is missing, older or does not start. Install it, or name one: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv or ensurepip, so it cannot make $(VENV). On Debian and Ubuntu: apt-get install python3.11-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[worker,dev]'
	@touch $@

# What the benchmarks compare with.
$(PEERS): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[worker,dev,peers]'
	@touch $@

# One line for each thing that is not here and what is left out without it; silent where all are here.
missing:
	@command -v java >/dev/null && command -v mvn >/dev/null || echo "  No Java with Maven here: the tests on a real Kafka are skipped (Debian: apt-get install openjdk-17-jre-headless maven)."
	@command -v promtool >/dev/null || echo "  No promtool here: the unit tests of the alert rules are skipped (Debian: it comes with the package prometheus)."
	@command -v nvidia-smi >/dev/null || echo "  No NVIDIA GPU here: the model learns on the CPU."
	@docker info >/dev/null 2>&1 || echo "  No Docker engine here: only docker-compose.yml needs one."
