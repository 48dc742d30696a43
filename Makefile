# make study: the quick study and its report.  make test: the tests.  make check: style and types.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: study test check install

study: install
	$(BIN)/odyssey sweep
	$(BIN)/odyssey report

test: install
	$(BIN)/pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
