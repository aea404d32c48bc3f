# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.

PYTHON ?= python3
VENV ?= .venv
DEMO_DIR ?= .demo
CONSTRAINTS := .ci/constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 900
TEST_WORKERS ?= auto
FUZZ_TARGETS := $(basename $(notdir $(wildcard tests/fuzz/targets/*.py)))

.PHONY: help demo test fuzz lint types imports check fmt clean soak bench-agent bench-delivery bench-compression prove-selection bench-page bench-fleet

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.installed-demo ## Run the main job end to end on this machine, and write its report
	$(BIN)/edgepick demo --out $(DEMO_DIR)

test: $(VENV)/.installed-dev ## Run the tests in TEST_WORKERS (one per core) processes and print the coverage
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --cov --cov-report=term

fuzz: $(VENV)/.installed-dev ## Run each parser for FUZZ_SECONDS (60) against inputs that nobody meant well
	@set -e; for target in $(FUZZ_TARGETS); do \
	  echo "== $$target: $(FUZZ_SECONDS) s"; $(BIN)/python tests/fuzz/driver.py $$target $(FUZZ_SECONDS); done

check: lint types imports ## Lint, types and import contracts

soak: $(VENV)/.installed-dev ## Let everything go wrong at random for SOAK_SECONDS (900); SOAK_SEED=N repeats a run
	PYTHONPATH=tests $(BIN)/python benchmarks/soak.py --seconds $(SOAK_SECONDS) $(if $(SOAK_SEED),--seed $(SOAK_SEED))

bench-agent: $(VENV)/.installed-dev ## Benchmark the agent beside the bare runtimes, with its footprint; ARGS=--quick, ARGS=--json
	PYTHONPATH=tests $(BIN)/python benchmarks/agent.py $(ARGS)

bench-delivery: $(VENV)/.installed-dev ## Benchmark the delivery against mosquitto on loopback; ARGS=--json
	PYTHONPATH=tests $(BIN)/python benchmarks/delivery.py $(ARGS)

bench-compression: $(VENV)/.installed-bench ## Benchmark the compression against other tools; ARGS="int8 --json", ARGS=--quick
	$(BIN)/python benchmarks/compression.py $(ARGS)

prove-selection: $(VENV)/.installed-dev ## Prove the statistics of the selection by simulation
	$(BIN)/python benchmarks/prove_selection.py

bench-page: $(VENV)/.installed-dev ## Benchmark the page with 10,000 devices in a real browser
	PYTHONPATH=tests $(BIN)/python benchmarks/page.py

bench-fleet: $(VENV)/.installed-dev ## Benchmark the host with 10,000 simulated devices; ARGS="--part kill", ARGS=--quick, ARGS=--json
	PYTHONPATH=tests $(BIN)/python benchmarks/fleets.py $(ARGS)

lint: $(VENV)/.installed-dev ## Lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check the types
	$(BIN)/mypy

imports: $(VENV)/.installed-dev ## Check who may import whom
	$(BIN)/lint-imports

fmt: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and everything that was made
	rm -rf $(VENV) $(DEMO_DIR) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is too old or missing; 3.10 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "error: no virtual environments with $(PYTHON); on Debian: apt install python3-venv" >&2; exit 2; }

$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing edgepick[$*] into $(VENV) (a minute or two the first time)"
	$(PIP) install --quiet --progress-bar on --constraint $(CONSTRAINTS) --editable '.[$*]'
	@touch $@
