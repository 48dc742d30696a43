# make study: the quick study and its report.  make check: style and types.
# make test: the tests but the slow ones.  make test-all: all of them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: study test test-all check install

study: install
	$(BIN)/odyssey sweep
	$(BIN)/odyssey report
	@echo "runs/quick/report/index.html is the page of the study; live: $(BIN)/odyssey dashboard"

# There are as many processes as cores, so that what torch and BLAS compute has one.
TESTS = OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

test: install
	$(TESTS) -m "not slow"

test-all: install
	$(TESTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
