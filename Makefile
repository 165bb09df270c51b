# Every target does its own set-up: `make demo` and `make test` need Python 3.11+ and nothing else.
#
#   PYTHON    the interpreter that .venv is made with
#   PIP_ARGS  more arguments for pip; on a machine without a GPU this saves gigabytes:
#             make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'
#   SOAK_SECONDS   how long `make test-soak` goes on, 1800 unless said otherwise

PYTHON ?= python3
PIP_ARGS ?=
SOAK_SECONDS ?= 1800
RUNS ?= 100
VENV := .venv
BIN := $(VENV)/bin
# Stamps: which extra is installed; older than pyproject.toml, it is installed again.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test lint format test-slow test-soak test-faults bench bench-teacher \
  docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: $(DEMO) ## teacher to cache to student on synthesised speech, offline, in minutes
	$(BIN)/kdcache demo --out build/demo --save build/demo.json

demo-real: $(DEMO) ## the same on recorded digits (their folder: KDCACHE_DATA)
	$(BIN)/kdcache demo --real --out build/demo-real --save build/demo-real.json

test: lint ## lint, types, import contracts and all tests but the slow ones
	$(BIN)/python -m pytest

lint: $(DEV) ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV) ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: $(DEV) ## the long proofs
	$(BIN)/python -m pytest -m slow

test-soak: $(DEV) ## stream for half an hour from a slow, failing object store (SOAK_SECONDS)
	KDCACHE_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -s tests/soak

test-faults: $(DEV) ## kill driver, actors or a node in 100 runs (RUNS); none may lose anything
	$(BIN)/python -m tests.faults --runs $(RUNS)

bench: $(DEV) ## the benchmarks; their rows land in build/benchmarks.json
	@set -e; for script in tests/benchmarks/bench_*.py tests/benchmarks/rate_distortion.py; do echo "$$script"; $(BIN)/python $$script; done

bench-teacher: $(DEV) ## train small teachers on real speech for the benchmarks (an hour)
	@test -d build/demo-real/teacher/student || $(MAKE) demo-real
	$(BIN)/python tests/benchmarks/real_teacher.py
	$(BIN)/python tests/benchmarks/real_teacher.py --out build/half --ctc-steps 1400 --joint-steps 0
	$(BIN)/python tests/benchmarks/real_posteriors.py
	$(BIN)/python tests/benchmarks/real_posteriors.py --room build/half --student subwords-ctc/student

docs: $(DEV) ## write docs/cli.md anew from the commands' help
	@mkdir -p build
	$(BIN)/python -m kdcache.cli.reference > build/cli.md
	mv build/cli.md docs/cli.md

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache .benchmarks

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "kdcache needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(DEMO): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[dev]'
	@touch $@ $(DEMO)
