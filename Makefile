# `make demo` and `make test` are all a fresh machine needs: python3 with venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= 3
DISTRIBUTION := --dist loadfile --no-loadscope-reorder
# Each worker rewrites the assertions of all test modules, 6 s, unless an earlier run could keep them as bytecode.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) $(DISTRIBUTION)

.PHONY: help setup demo up test test-all trials check lint types contracts lock docs clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(RUNTIME) ## Make .venv with everything that runs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a venv; install it (Debian: apt install python3-venv)"; exit 1; }

$(RUNTIME): requirements.lock pyproject.toml $(wildcard export_pipelines/sources/copy_decoder/*.[ch]) | $(BIN)/python
	$(PIP) --no-deps --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q export_pipelines  # where bytecode is never written, each run would compile all
	@touch $@

$(DEVELOPMENT): requirements-dev.lock $(RUNTIME)
	$(PIP) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

trials: debian-packages $(DEVELOPMENT) native ## Repeat the long trials: 780 requests under some 290 kills, faults, forged archives, two hours of work
	EXPORT_TEST_LANE=all EXPORT_TEST_KILLED_REQUESTS=780 EXPORT_TEST_EXAMPLES=5000 $(BIN)/python -m pytest -n 0 --timeout 0 \
	  export_pipelines_tests/acceptance/test_killed_daemon.py export_pipelines_tests/acceptance/test_stopped_service.py \
	  export_pipelines_tests/acceptance/test_warm_runs.py export_pipelines_tests/acceptance/test_publish_races.py \
	  export_pipelines_tests/orchestration/test_outages.py export_pipelines_tests/orchestration/test_clock_set_back.py \
	  export_pipelines_tests/integration/test_outages.py export_pipelines_tests/tenancy export_pipelines_tests/api
	@$(BENCH) soak --exports 3000 --hours 2
	@$(BENCH) report

demo: setup ## Set up, start everything, run one verified export
	@$(BIN)/export-pipelines demo

up: setup ## Set up and start everything
	@$(BIN)/export-pipelines up

test: debian-packages $(DEVELOPMENT) native ## Set up and prove every promise once, against real parts
	$(PYTEST) -m "not exhaustive and not big"

test-all: debian-packages $(DEVELOPMENT) native ## All tests: full products, kills, long histories, large data
	EXPORT_TEST_LANE=all EXPORT_TEST_KILLED_REQUESTS=100 $(PYTEST)

.PHONY: debian-packages native
debian-packages:
	@PYTHON="$(PYTHON)" deployments/local/debian-packages.sh

native: $(RUNTIME) | debian-packages ## Build the native decoder where the installation could not
	@$(BIN)/python -c 'import export_pipelines.sources.copy_decoder._decoder' 2>/dev/null || $(PIP) --no-deps --no-build-isolation --editable .

check: lint types contracts ## Linters, types and import contracts

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOPMENT)
	$(BIN)/mypy

contracts: $(DEVELOPMENT)
	$(BIN)/lint-imports

lock: ## Renew the lock files (needs uv)
	uv pip compile pyproject.toml --extra dev --extra build --generate-hashes --no-header --no-annotate --python-version 3.11 -q -o requirements-dev.lock
	uv pip compile pyproject.toml --extra build --generate-hashes --no-header --no-annotate --python-version 3.11 -q -c requirements-dev.lock -o requirements.lock
	uv pip compile requirements-bench.in --generate-hashes --no-header --no-annotate --python-version 3.11 -q -o requirements-bench.lock

docs: $(DEVELOPMENT) ## Make the generated documents
	$(BIN)/python docs/make_docs.py

.PHONY: bench bench-api bench-scale bench-soak bench-quick bench-peers
BENCH := $(BIN)/python -m benchmarks
PEERS := .venv-bench
QUICK := build/bench

bench: $(DEVELOPMENT) bench-peers ## Measure everything with 2M rows (half an hour), renew docs/benchmarks.md
	@$(BENCH) run
	@$(BENCH) report

bench-api: $(DEVELOPMENT) ## Measure the whole service with 50 users at once (ten minutes), renew docs/benchmarks.md
	@$(BENCH) api
	@$(BENCH) report

bench-scale: $(DEVELOPMENT) ## Measure Dagster with 1,000 and 10,000 tenants (a quarter of an hour), renew docs/benchmarks.md
	@$(BENCH) scale
	@$(BENCH) report

bench-soak: $(DEVELOPMENT) ## Run the service for two hours and 3,000 exports, sample its memory, renew docs/benchmarks.md
	@$(BENCH) soak --exports 3000 --hours 2
	@$(BENCH) report

bench-quick: $(DEVELOPMENT) bench-peers ## Measure with 100,000 rows (some minutes) into build/bench
	@$(BENCH) run --rows 100k --memory-rows 50k,100k --repeat 1 --results $(QUICK)
	@cp docs/benchmarks.md $(QUICK)/benchmarks.md
	@$(BENCH) report --results $(QUICK) --page $(QUICK)/benchmarks.md

bench-peers: $(PEERS)/.installed ## Make .venv-bench with the programs we compare with

$(PEERS)/.installed: requirements-bench.lock | $(BIN)/python
	@$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-bench.lock
	@touch $@

clean: ## Remove the environment and the local state
	rm -rf $(PEERS)
	@if [ -d .export-pipelines ]; then $(BIN)/export-pipelines reset --yes || true; fi
	rm -rf $(VENV) build *.egg-info export_pipelines/sources/copy_decoder/*.so .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
