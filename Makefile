# make run: the quick start.  make test: what CI runs, of which make lint is ruff and mypy, make pytest the rest.
# make test-slow: tests over 30 seconds, and what it skips.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test lint pytest test-slow

.venv: .venv/installed

.venv/installed: pyproject.toml requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

run: .venv/installed
	$(BIN)/benchopt run . --config configs/quickstart.yml --no-display
	$(BIN)/python -m benchmark_utils table $$(ls -t outputs/quickstart*.parquet | head -1) --expect configs/quickstart.yml

test: lint pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# benchopt test starts the pytest that it finds on the path
pytest: .venv/installed
	$(BIN)/python -m pytest -q
	PATH="$(CURDIR)/$(BIN):$$PATH" BENCHOPT_RAISE_ON_ERROR=true benchopt test . --skip-install -q

test-slow: .venv/installed
	$(BIN)/python -m pytest -q -m slow -rs
