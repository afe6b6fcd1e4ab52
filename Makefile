# make run: the quick start.  make test: what CI runs.  make test-slow: tests over 30 seconds, and what it skips.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test test-slow

.venv: .venv/installed

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

run: .venv/installed
	$(BIN)/benchopt run . --config configs/quickstart.yml --no-display
	$(BIN)/python -m benchmark_utils table $$(ls -t outputs/quickstart*.parquet | head -1) --expect configs/quickstart.yml

# benchopt test starts the pytest that it finds on the path
test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q
	PATH="$(CURDIR)/$(BIN):$$PATH" BENCHOPT_RAISE_ON_ERROR=true benchopt test . --skip-install -q

test-slow: .venv/installed
	$(BIN)/python -m pytest -q -m slow -rs
