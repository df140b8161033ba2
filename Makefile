# Everything a newcomer needs: `make demo` runs the main job on real data, `make test` the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all check results bench clean

demo: $(VENV)/installed
	$(BIN)/broadbase demo

test: $(VENV)/installed-dev
	$(PYTEST)

test-all: $(VENV)/installed-dev
	$(PYTEST) -m "slow or not slow"

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

results: $(VENV)/installed-dev
	$(BIN)/python bench/results.py

bench: $(VENV)/installed-dev
	$(BIN)/python bench/all.py $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "Broadbase needs Python 3.11 or newer; name one with: make PYTHON=python3.12" && false)
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  (echo "Python cannot make virtual environments; on Debian: apt install python3-venv" && false)
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Broadbase into $(VENV)"
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable ".[dev]"
	@touch $@
