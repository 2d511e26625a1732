# The README's commands. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Files, not tests, are spread over processes: fixtures that start servers are made once a file. More processes
# than cores, since many tests wait for servers, schedules and the clock.
PYTEST_ARGS ?= -n 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test check parity services bench lock clean

help: ## List these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make .venv with the `endpoints` command in it

# The stamp is newer than what decides the environment, so a second `make setup` does nothing.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say which one to use: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the packages of requirements.lock into $(VENV): a minute or two, this once"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup ## Data, Dagster, the API and four endpoints on this machine; Ctrl-C ends it
	@exec $(BIN)/endpoints demo

services: ## Start what the integration tests talk to (servers on loopback)
	@bash deploy/services.sh

test: setup services ## Every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup ## Format, lint, types, and the definitions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/dagster definitions validate -m orchestration.definitions
	$(BIN)/endpoints validate

parity: setup ## Compare answers from assets with live ones, at random (SEEDS=20000)
	$(BIN)/python -m tests.parity --seeds $(or $(SEEDS),20000)

bench: setup ## Benchmarks, as ratios to what this machine can do
	$(BIN)/python -m benchmarks.serving --minutes 2
	$(BIN)/python -m benchmarks.flights
	$(BIN)/python -m benchmarks.asset_read
	$(BIN)/python -m benchmarks.asset_write

lock: ## Pin every dependency anew from pyproject.toml
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	build/lock/bin/python -m pip freeze --exclude-editable > requirements.lock
	@rm -rf build/lock

clean: ## Remove what the demo and the tests made; .venv stays
	@bash deploy/services.sh stop
	rm -rf data lake .dagster .services .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build
