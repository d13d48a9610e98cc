# make repro      rebuild the results at the tier that params.yaml selects (make repro TIER=smoke: another one;
#                 make repro EXPERIMENT=fmm-cifar10: one experiment alone, up to its part of the report)
# make zoo        one table of the field: every method at one budget, in results/<tier>/zoo.md (make zoo TIER=smoke)
# make tour       a teacher and a student on the checkerboard in one notebook, artifacts/<tier>/notebooks/0-tour.ipynb
# make test       run all tests, and `make check` before them
# make check      lint, format and types, in seconds
# make lint       mend what ruff can mend by itself
# make preflight  say what tier paper lacks on this machine, and how long it will train and sample here
# make rehearse   run every stage of tier paper in small (make rehearse STAGES="students@paper-fmm-cifar10": these and what they need)
# make bench      time the training steps, and a jitted JAX step beside them
# make gpu        on a GPU, in ten minutes: tests, what a step costs, two experiments beside the CPU's cells, in results/gpu
#                 (make gpu DEVICE=cpu: the same in small on a CPU, in artifacts/gpu; make gpu MINUTES=60: more of the steps)
# Each makes its own environment in .venv first, on a machine that has Python 3.11 and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Two cores are kept busy by two processes of one thread each; threads on top of that only get in the way.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: env check lint repro zoo tour test preflight rehearse bench gpu lab mutants

env: $(BIN)/.fewstep

$(BIN)/.fewstep: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fewstep needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	@touch $@

repro: env
ifdef TIER
	$(BIN)/python -m fewstep tier $(TIER)
endif
	$(BIN)/python -m fewstep data
	$(BIN)/python -m fewstep repro $(if $(EXPERIMENT),--experiment $(EXPERIMENT))

zoo: env
ifdef TIER
	$(BIN)/python -m fewstep tier $(TIER)
endif
	$(BIN)/python -m fewstep data
	$(BIN)/python -m fewstep repro --folder zoo

tour: env
ifdef TIER
	$(BIN)/python -m fewstep tier $(TIER)
endif
	$(BIN)/python -m fewstep data
	$(BIN)/dvc repro tour

check: env
	$(BIN)/ruff check src tests examples
	$(BIN)/ruff format --check src tests examples
	$(BIN)/mypy

lint: env
	$(BIN)/ruff check --fix src tests examples
	$(BIN)/ruff format src tests examples

test: check
	$(BIN)/python -m pytest -n 2

preflight: env
	$(BIN)/python -m fewstep preflight

rehearse: env
	$(BIN)/python -m fewstep rehearse $(STAGES)

bench: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python tests/bench.py
	$(BIN)/python tests/bench_scflow.py

gpu: env
	@$(BIN)/python -m tests.gpu --device $(or $(DEVICE),cuda) --minutes $(or $(MINUTES),10)

mutants: env
	$(BIN)/python tests/mutants.py

lab: env
	$(BIN)/jupyter lab notebooks
