# Every target sets up its own .venv first, from Python and pip alone. With another interpreter: make PYTHON=python3.11 test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-cluster lint check docs bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## make .venv with everything but the peers of the benchmarks

demo: $(READY) ## see inside SmolLM2 and steer it: under 4 minutes, leaves demo/report.html
	$(BIN)/pellucid demo

test: $(READY) ## run all tests that this machine can run, one process a core
	$(BIN)/python -m pytest -n auto --dist loadfile

test-unit: $(READY) ## run the tests that need no weights, no accelerator and no network
	$(BIN)/python -m pytest -m "not model and not gpu and not net"

test-cluster: $(READY) ## install Ray, and run the tests that start a cluster on this machine
	$(PIP) -e '.[dev,cluster]'
	$(BIN)/python -m pytest -m cluster

lint: $(READY) ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## the same, and the code blocks of the docs
	$(BIN)/python -m pytest tests/docs

docs: $(READY) ## write docs/reference/cli.md from the command line's help, and check the other pages
	$(BIN)/python tests/docs/test_docs.py
	$(BIN)/python -m pytest tests/docs

bench: $(VENV)/.bench ## run every script in benchmarks/, each beside its peers; SCALING_DATA=FOLDER for those of scaling/
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done
	@for script in $(filter-out %/sets.py,$(wildcard benchmarks/scaling/*.py)); do \
	  echo "== $$script"; OMP_NUM_THREADS=1 $(BIN)/python "$$script" $(SCALING_DATA) || exit 1; \
	done

clean: ## remove .venv and the caches of the tools; demo/ and runs/ are kept
	rm -rf $(VENV) dist studio/node_modules pellucid/serving/static .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find pellucid tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone, so that the build named in constraints.txt is taken and nothing else chooses it.
$(READY): pyproject.toml constraints.txt $(BIN)/python
	$(PIP) torch
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(READY)
	$(PIP) -e '.[dev,bench]'
	$(PIP) --no-deps --upgrade --target $(VENV)/peers -r benchmarks/peers.txt
	@touch $@

# Some systems ship venv without the pip that goes into it; then the system's own pip puts it there.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Pellucid needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install pip; }
