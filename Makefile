# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
BIN := .venv/bin
# A process a core (8 at most), each with one thread: two would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-fast lint clean

demo: .venv/.installed
	$(BIN)/vision-tasks demo

test: .venv/.installed
	$(PYTEST)

test-fast: .venv/.installed
	$(PYTEST) -m "not slow"

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch .venv/.installed

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
