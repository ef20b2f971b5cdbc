# Every target makes its own virtual environment when it needs one; a second run is quick and needs no network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, which all would compile all that they import
DOCS_STAMP := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help demo test faults lint types layers format check bench docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "pgtasks needs Python 3.11 or later; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,test]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

demo: $(STAMP) ## index the standard library with a pool of workers on an embedded PostgreSQL
	@$(BIN)/pgtasks demo

test: $(STAMP) ## run the tests on every PostgreSQL that is at hand
	@# Twice as many as there are CPUs: most tests wait for something.
	@$(BIN)/pytest --numprocesses $$((2 * $$(getconf _NPROCESSORS_ONLN))) --dist worksteal $(ARGS)

faults: $(STAMP) ## kill, stop and cut off workers and servers, for some minutes; print times
	@FAULTS=long $(BIN)/pytest tests/faults --numprocesses $$((2 * $$(getconf _NPROCESSORS_ONLN))) --dist worksteal $(ARGS)

lint: $(STAMP) ## style, formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

layers: $(STAMP) ## imports point down only
	$(BIN)/lint-imports

format: $(STAMP) ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint types layers ## all static checks

bench: $(STAMP) ## measure speed on this machine, beside other queues; ARGS=--list names what
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(DOCS_STAMP) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## remove what the targets made
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
