PYTHON ?= python3
VENV = .venv/bin/python

.PHONY: run test lint

# The main command; make run ARGS="--strategy si --trials 3" for another.
ARGS ?= --strategy ewc+nvrm --lambda 100

run: .venv/installed
	$(VENV) -m cl_nvrm.run $(ARGS)

test: lint
	$(VENV) -m pytest -n 2

lint: .venv/installed
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --editable '.[dev]'
	touch $@
