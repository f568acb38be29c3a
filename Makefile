PYTHON ?= python3
VENV = .venv/bin/python

.PHONY: run test lint frontier generalisation neighbours gpu

# The main command; make run ARGS="--strategy si --trials 3" for another.
ARGS ?= --strategy ewc+nvrm --lambda 100

run: .venv/installed
	$(VENV) -m cl_nvrm.run $(ARGS)

# The study in reports/studies/frontier: some three hours on four cores, less where runs are stored. Wants MNIST.
FRONTIER = reports/studies/frontier
STUDY = $(VENV) -m cl_nvrm.run --data mnist --trials 10
GRID = --seed 100 --lr '1e-4|3e-4|1e-3' --strategy naive --strategy 'nvrm:variability=0.01|0.03'
TUNED = --tune 16 --strategy naive --strategy nvrm --strategy ewc --strategy ewc+nvrm --strategy si --strategy si+nvrm

frontier: .venv/installed
	$(STUDY) --benchmark permuted-mnist:holdout=10000 $(GRID) --out $(FRONTIER)/permuted \
	    --strategy 'ewc:lambda=30|100' --strategy 'ewc:lambda=30|100+nvrm:variability=0.01' \
	    --strategy 'si:c=10|30' --strategy 'si:c=10|30+nvrm:variability=0.01'
	$(STUDY) --benchmark split-mnist:holdout=10000 $(GRID) --out $(FRONTIER)/split \
	    --strategy 'ewc:lambda=1000|10000' --strategy 'ewc:lambda=1000|10000+nvrm:variability=0.01' \
	    --strategy 'si:c=100|1000' --strategy 'si:c=100|1000+nvrm:variability=0.01'
	$(STUDY) --benchmark permuted-mnist $(TUNED) --out $(FRONTIER)/tuned-permuted
	$(STUDY) --benchmark split-mnist $(TUNED) --out $(FRONTIER)/tuned-split
	for store in permuted split tuned-permuted tuned-split; do \
	    $(VENV) -m cl_nvrm.report $(FRONTIER)/$$store --out $(FRONTIER)/$$store || exit 1; done

# The studies in reports/studies/generalisation: about two hours on four cores. Want MNIST and CIFAR-10.
generalisation: .venv/installed
	$(VENV) -m cl_nvrm.study generalisation --scale small

# The studies in reports/studies/{randomisation,steadiness,implicit}: about two hours on four cores. Want the same data.
neighbours: .venv/installed
	$(VENV) -m cl_nvrm.study randomisation steadiness implicit --scale small

# ResNet-34 on CIFAR-10 with 40 % pairflip by the full recipe, SGD against NVRM, beside the published 0.594 and 0.893; and
# the seconds of an epoch against as many multiply-adds in matrix products. Wants a GPU and CIFAR-10.
gpu: .venv/installed
	$(VENV) -m cl_nvrm.run --benchmark noisy-cifar10 --data cifar10 --strategy naive --strategy nvrm:variability=0.05 \
	    --device cuda --precision bfloat16 --channels-last --out reports/studies/generalisation/paper
	$(VENV) -m cl_nvrm.bench --subject networks --data cifar10 --device cuda

test: lint
	$(VENV) -m pytest -n 2 --dist worksteal

lint: .venv/installed
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --editable '.[dev]'
	touch $@
