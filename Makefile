# The project's commands. Each installs what it needs first, once: the stamps in .venv remember.
# `make help` lists them.

VENV := .venv
BIN := $(VENV)/bin
NODE := .venv-node
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv
# Twice the cores of a build server: a good part of the tests' time is spent waiting for other processes.
TESTS_AT_ONCE := 4
RUNTIME := $(VENV)/.stamp-runtime
DEVELOPMENT := $(VENV)/.stamp-development
# One lock for every Python that the app runs on: what differs has a marker.
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --system-certs --upgrade

.DEFAULT_GOAL := help
.PHONY: help setup run test smoke check coverage docs picture format bench chaos mutants week drills test-az test-node audit lock

help:
	@echo "make setup     install the app and the command into $(VENV)"
	@echo "make run       protect, back up and restore a database without Azure"
	@echo "make test      every linter, type check and test"
	@echo "make smoke     the tests of what may differ between versions of Python; with VENV and PYTHON, of another one"
	@echo "make coverage  every test, and how much of the code they run: it has a floor"
	@echo "make check     the linters and type checks alone"
	@echo "make docs      generate the schemas, tables and the diagram anew"
	@echo "make picture   draw the README's picture anew from a run of the demo"
	@echo "make format    format the code"
	@echo "make bench     the benchmarks"
	@echo "make chaos     the long fault runs"
	@echo "make mutants   which small changes of the engine, the tracker and the steps no test notices"
	@echo "make week      a week of coverage over 200 databases, simulated"
	@echo "make drills    a whole month of nightly restore drills"
	@echo "make test-az   the flow by Azure's own CLI (needs az)"
	@echo "make test-node hold the templates' schemas against Microsoft's, and the workflows against GitHub's (needs Node)"
	@echo "make audit     check the workflows for holes, and the locks for published advisories (needs the internet)"
	@echo "make lock      resolve the dependencies anew into requirements*.txt"

setup: $(RUNTIME)

run: $(RUNTIME)
	@$(BIN)/sqlvmbackup demo

test: check
	@$(BIN)/python -m pytest -q -n $(TESTS_AT_ONCE)

# Every layer once: hosts and workers, encodings, the workflow, AMQP, a flow from end to end, the command.
smoke: $(DEVELOPMENT)
	@$(BIN)/python -m pytest -q -n $(TESTS_AT_ONCE) tests/unit/host tests/unit/engine tests/unit/intake tests/unit/docs/test_deployable.py \
		tests/contract/worker tests/contract/broker tests/reported/test_platform.py \
		tests/e2e/test_flow.py tests/e2e/test_command.py::test_run_against_the_simulator_loads_no_azure_sdk

check: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(DEVELOPMENT)
	$(BIN)/python -m docs.generate

picture: $(RUNTIME)
	$(BIN)/python -m docs.picture

coverage: $(DEVELOPMENT)
	@$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -q -n $(TESTS_AT_ONCE)
	@$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEVELOPMENT)
	$(BIN)/python -m bench

week: $(DEVELOPMENT)
	$(BIN)/python -m tests.e2e.week

chaos: $(DEVELOPMENT)
	CHAOS_SECONDS=60 $(BIN)/python -m pytest -q tests/unit/bus -k "sixteen or break_in" --timeout 600
	CHAOS_SCHEDULES=10000 $(BIN)/python -m pytest -q -n 2 tests/faults/test_random_schedules.py --timeout 3600
	$(BIN)/python -m tests.faults.chaos
	$(BIN)/python -m tests.faults.chaos --copies
	$(BIN)/python -m tests.faults.chaos --drills

mutants: $(DEVELOPMENT)
	$(BIN)/python -m tests.mutants

drills: $(DEVELOPMENT)
	DRILL_NIGHTS=30 $(BIN)/python -m pytest -q tests/e2e/test_month_of_drills.py --timeout 3600

test-az: $(DEVELOPMENT)
	$(BIN)/python -m pytest -q -m az

# On Linux and x86-64 alone: the types come with a program for it.
test-node: $(DEVELOPMENT) $(NODE)/.stamp
	$(BIN)/python -m pytest -q -n 2 -m node tests/node

$(NODE)/.stamp: tests/node/package.json tests/node/package-lock.json
	@mkdir -p $(NODE)
	@cp tests/node/package.json tests/node/package-lock.json $(NODE)
	@npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --loglevel=error \
		--fetch-retries=1 --fetch-timeout=60000
	@touch $@

audit: $(VENV)-audit/.stamp
	@$(VENV)-audit/bin/zizmor --offline --quiet .github
	@for lock in requirements.txt requirements-cli.txt requirements-dev.txt requirements-telemetry.txt; do \
		$(VENV)-audit/bin/pip-audit --vulnerability-service osv --disable-pip --no-deps --progress-spinner off -r $$lock || exit 1; \
	done

# Of its own environment: it is no part of what it looks at.
$(VENV)-audit/.stamp: $(BIN)/python
	@$(BIN)/python -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 zizmor==1.32.0
	@touch $@

lock: $(DEVELOPMENT)
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --constraint requirements.txt --output-file requirements-telemetry.txt requirements.in requirements-telemetry.in
	@echo 'setuptools>=77' | $(COMPILE) --constraint requirements.txt \
		--output-file requirements-cli.txt requirements.in requirements-cli.in -
	@echo 'setuptools>=77' | $(COMPILE) --constraint requirements-cli.txt \
		--output-file requirements-dev.txt requirements.in requirements-cli.in requirements-dev.in -

# A name that cannot be run (a shim without its Python) is passed over.
$(BIN)/python:
	@for name in $(PYTHON) python3.12 python3.11 python3.13 python3.14 python3 python; do \
		if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
			exec "$$name" -m venv $(VENV); \
		fi; \
	done; \
	echo "Python 3.11 to 3.14 is needed and none was found: install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1

$(RUNTIME): $(BIN)/python requirements-cli.txt pyproject.toml
	@echo "Installing into $(VENV) (once) ..."
	@$(PIP_INSTALL) --require-hashes -r requirements-cli.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPMENT): $(RUNTIME) requirements-dev.txt
	@echo "Installing what development needs into $(VENV) (once) ..."
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@
