# Everything a person or a machine does with this project. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
PYTEST_ARGUMENTS ?=
# They wait about a third of the time, so three of them keep two cores busy.
TEST_PROCESSES ?= 3
# Which tests are repeated, as pytest takes them, and how often.
TESTS ?=
ROUNDS ?= 20
# How long a soak loads the service, and what else it is told (--seed 7 --rate 8; --help lists it all).
MINUTES ?= 20
SOAK_ARGUMENTS ?=
# Which parsers are fuzzed, and what else that is told.
FUZZ_ARGUMENTS ?=
# Which benchmarks, and what else they are told (python -m benchmarks --help lists it).
BENCH_ARGUMENTS ?=

# Each of the many processes that tests start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

python := .venv/bin/python
installed := .venv/.installed
locks := requirements/runtime.txt requirements/development.txt requirements/local.txt

# Each process of it has a MongoDB of its own.
pytest = $(python) -m pytest -n $(TEST_PROCESSES) --dist worksteal

# The locks are complete, so nothing outside them is ever resolved, downloaded or built.
pip_install := $(python) -m pip install --quiet --disable-pip-version-check --no-input --no-deps

.PHONY: help
help: ## List what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: install
install: $(installed) ## Set up .venv with everything, from the hash-pinned locks

$(installed): pyproject.toml $(locks)
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || { \
	    echo "There is no working '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "agent_service needs Python 3.11 or newer, and '$(PYTHON)' is $$version. Name another: make $(or $(MAKECMDGOALS),install) PYTHON=python3.13" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv (once; a few hundred MB) …" >&2
	@$(PYTHON) -m venv .venv
	@$(pip_install) --require-hashes --only-binary :all: $(addprefix -r ,$(locks))
	@$(pip_install) --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: install ## Watch one request run through real parts, from submission to outbox
	@$(python) -m agent_service.demo

.PHONY: dev
dev: install ## Serve everything in one process until Ctrl-C
	@.venv/bin/agent-service dev

.PHONY: test
test: install ## Run a proof of everything that is promised, in minutes
	@$(pytest) --durations=15 $(PYTEST_ARGUMENTS)

.PHONY: test-all
test-all: install ## Run all tests there are: each driver, each fault, and the tests of the tests
	@$(pytest) -m "" $(PYTEST_ARGUMENTS)

.PHONY: test-harness
test-harness: install ## Run the tests of what tests, benchmarks and documents are made of
	@$(pytest) -m harness $(PYTEST_ARGUMENTS)

.PHONY: test-faults
test-faults: TEST_PROCESSES = 2
test-faults: install ## Run the faults and the whole programs that `make test` leaves out
	@$(pytest) -m exhaustive tests/faults tests/acceptance $(PYTEST_ARGUMENTS)

.PHONY: flakes
flakes: install ## Repeat TESTS="tests/… -k …" beside a busy core until one fails, at most ROUNDS=20 times
	@$(python) scripts/flakes --rounds $(ROUNDS) $(TESTS)

.PHONY: mutations
mutations: install ## Break each rule of the protocol, and see the named test fail
	@$(python) scripts/mutations

.PHONY: soak
soak: install ## Break everything under load for MINUTES=20, and judge what is left
	@$(python) -m tests.faults.soak --minutes $(MINUTES) $(SOAK_ARGUMENTS)

.PHONY: fuzz
fuzz: install ## Give each parser of foreign input new input for MINUTES=20 (FUZZ_ARGUMENTS="--target cursor")
	@$(python) -m tests.fuzz --minutes $(MINUTES) $(FUZZ_ARGUMENTS)

.PHONY: bench
bench: install ## Measure everything into docs/benchmarks.md, half an hour on a quiet machine (BENCH_ARGUMENTS="noop")
	@$(python) -m benchmarks --document $(BENCH_ARGUMENTS)

.PHONY: bench-smoke
bench-smoke: install ## See in a minute that no ratio of the benchmarks has collapsed
	@$(python) -m benchmarks.smoke

.PHONY: check
check: format-check lint types imports layout lock-check licences audit openapi-check test ## All of it: run this before every commit

.PHONY: format
format: install ## Rewrite the code in the one format
	@$(python) -m ruff format
	@$(python) -m ruff check --fix

.PHONY: format-check
format-check: install
	@$(python) -m ruff format --check

.PHONY: lint
lint: install
	@$(python) -m ruff check

.PHONY: types
types: install ## Check the types of package, benchmarks and tests
	@$(python) -m mypy

.PHONY: imports
imports: install ## Check that imports point down
	@.venv/bin/lint-imports

.PHONY: layout
layout: install
	@$(python) -m pytest --quiet -m harness tests/unit/test_layout.py

.PHONY: lock
lock: install ## Write the locks again from pyproject.toml (newest versions: scripts/lock --upgrade)
	@scripts/lock

.PHONY: lock-check
lock-check: install
	@scripts/lock --check

.PHONY: openapi
openapi: install ## Write docs/openapi.json again from the routes
	@$(python) scripts/openapi

.PHONY: openapi-check
openapi-check: install
	@$(python) scripts/openapi --check

.PHONY: licences
licences: install ## Check what the dependencies are licensed under
	@$(python) scripts/licences

.PHONY: audit
audit: install ## Look for known vulnerabilities in the locked dependencies
	@$(python) scripts/audit
