# make run    the default experiment, live in a terminal, as plain lines without one
# make check  format, lint, types, import contracts
# make test   the suite, less the tests whose program (tmux, sshd, chromium) is missing, which it names;  make test-all: with the slow checks
# Needs Python >= 3.11 and a package index. PYTHON=... picks the interpreter.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# An editable install compiles nothing, and where PYTHONDONTWRITEBYTECODE is set each start would compile it all, 0.1 to 0.2 s.
COMPILE := $(BIN)/python -m compileall -q eos_tui runners configs

.PHONY: run test test-all check format clean

run: $(VENV)/.run
	$(BIN)/eos run $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "eos needs Python 3.11 or newer; none was found. Install one, or name it: make run PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.run
