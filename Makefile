# Everything a newcomer, a researcher or CI runs. `make help` lists it.
# Needs Python 3.11, make and a C compiler; the rest is installed into .venv, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH  ?= torch==2.13.0# the tested build; name another to choose a CUDA version
BIN    := .venv/bin
READY  := .venv/.installed
# Tests wait for processes, too: one worker more than there are cores.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
# Hundreds of processes start in the tests: none should compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-slow lint types imports coverage check docs generate format clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(READY)  ## the environment in .venv

# PyRadiomics builds only when numpy and setuptools are there before it, and without build isolation.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "Python 3.11 is needed (PyRadiomics does not build on later ones); found: $$($(PYTHON) --version)."; \
	  echo "Install it, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1,<27" "setuptools>=77" wheel "numpy>=2,<2.5"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e . --group dev
	@touch $@

demo: $(READY)  ## five synthetic hospitals train a fused network; a table and a report (ARGS=--open shows it)
	$(BIN)/python -m simulation --study studies/demo.toml --synthetic runs/demo_cohort --patients 150 --overwrite $(ARGS)

# Counting branches makes Python half as slow again, so that only `make coverage` does.
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not gpu" -n $(WORKERS) --dist loadfile \
  --no-loadscope-reorder

test: $(READY)  ## all tests but the slow ones
	$(TESTS)

test-slow: $(READY)  ## the slow ones
	$(BIN)/python -m pytest -q -m "slow or gpu"

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

imports: $(READY)  ## simulation -> client | server -> shared_models
	$(BIN)/lint-imports

coverage: $(READY)  ## the same tests, with branch coverage
	$(BIN)/python -m coverage erase
	$(TESTS) --cov --cov-report=
	$(BIN)/python -m coverage report --fail-under=85

check: lint types imports coverage  ## all that CI runs

# The API pages are made from the sources as text, so that the generator needs an environment of its own and no other.
build/docs-env/.installed: pyproject.toml
	$(PYTHON) -m venv build/docs-env
	build/docs-env/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1,<27"
	build/docs-env/bin/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

docs: build/docs-env/.installed  ## the documents and the API as a site, in build/docs
	build/docs-env/bin/python docs/assemble.py build/pages
	NO_MKDOCS_2_WARNING=1 build/docs-env/bin/mkdocs build --quiet
	@! grep -rlE '<(script|link|img)[^>]+(src|href)="?https?://' build/docs --include='*.html' || { \
	  echo "these pages load something from elsewhere"; exit 1; }
	@echo "open build/docs/index.html"

generate: $(READY)  ## the tables in the documents that are made from the code
	$(BIN)/python -m shared_models.messages.tables
	UPDATE_DOCS=1 $(BIN)/python -m pytest -q tests/test_generated_docs.py tests/test_generated_results.py

format: $(READY)  ## rewrite the sources in ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was made here, the environment included
	rm -rf .venv build *.egg-info runs .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
