# Everything runs in .venv, which is made when it is missing or older than the files that say what belongs in it.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
JOBS ?= 2

.PHONY: repro test check bench setup clean

repro: setup
	$(BIN)/python -m pipeline repro --jobs $(JOBS)
	$(BIN)/python -m pipeline leaderboard
	$(BIN)/python -m pipeline loo

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: setup
	$(BIN)/python benchmarks/warp.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/ensemble.py
	$(BIN)/python benchmarks/ensemble.py --oracles
	$(BIN)/python benchmarks/ensemble.py --growth
	$(BIN)/python benchmarks/stackers.py
	$(BIN)/python benchmarks/coverage.py

setup: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .scratch
