# The two commands of the README: `make run` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test bench lint clean

run: $(VENV)/.ready-run
	$(BIN)/imslab run

test: $(VENV)/.ready-test
	$(BIN)/pytest -n auto --dist worksteal

bench: $(VENV)/.ready-bench
	$(BIN)/python -m tests.benchmarks

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(VENV)/.ready-run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("imslab needs Python 3.11 or newer; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready-run
	@echo "installing what the tests need (once)"
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.ready-bench: $(VENV)/.ready-test
	@$(PIP) -e '.[test,bench]'
	@touch $@
