# Every target sets itself up: the first run creates $(VENV) and installs the tested set of dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: help setup quickstart test lint types docs bench gallery clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mirrorgen needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV); the first time takes some minutes, most of them for torch."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## create the environment only

quickstart: $(STAMP)  ## train on the digits, sample, write the figure and metrics.json
	$(BIN)/python examples/quickstart/run.py

test: $(STAMP)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy on the package
	$(BIN)/mypy

docs: $(STAMP)  ## build the documentation; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(STAMP)  ## run the benchmarks
	$(BIN)/python -m benchmarks

gallery: $(STAMP)  ## draw what each mirror map does
	$(BIN)/python examples/gallery/run.py

clean:  ## remove caches and built documentation, keep $(VENV) and runs
	rm -rf .mypy_cache .pytest_cache .ruff_cache docs/_build docs/api/generated build dist
