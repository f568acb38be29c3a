PYTHON ?= python3
VENV = .venv/bin/python

.PHONY: run test test-slow lint gpu

# The main command; make run ARGS="--strategy si --trials 3" for another.
ARGS ?= --strategy ewc+nvrm --lambda 100

run: .venv/installed
	$(VENV) -m cl_nvrm.run $(ARGS)

# ResNet-34 on CIFAR-10 with 40 % pairflip by the full recipe, SGD against NVRM, beside the published 0.594 and 0.893; and
# the seconds of an epoch against as many multiply-adds in matrix products. Wants a GPU and CIFAR-10.
gpu: .venv/installed
	$(VENV) -m cl_nvrm.run --benchmark noisy-cifar10 --data cifar10 --strategy naive --strategy nvrm:variability=0.05 \
	    --device cuda --precision bfloat16 --channels-last --out reports/studies/generalisation/paper
	$(VENV) -m cl_nvrm.bench --subject networks --data cifar10 --device cuda

test: lint
	$(VENV) -m pytest -n 2 --dist worksteal -m "not slow"

# What is exhaustive: all pairs of strategies, all kills, a hundred million draws, a cluster, signals, the bench's scripts.
test-slow: .venv/installed
	$(VENV) -m pytest -n 2 --dist worksteal -m slow

lint: .venv/installed
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --editable '.[dev]'
	touch $@
