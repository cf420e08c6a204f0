# Everything runs in .venv, which the first target makes from requirements/lock.txt and later ones reuse.
# Extra arguments: make train ARGS="train.seed=3", make test ARGS="-k replay".
# Another interpreter has its own environment: make test-fast PYTHON=python3.12 makes and uses .venv-3.12.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Empty: bytecode is written, also where the surroundings forbid it. Without it each process spends five seconds on compiling imports.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
ifeq ($(PYTHON),python3)
VENV ?= .venv
else
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV ?= .venv-$(VERSION)
endif
ARGS ?=
# What test-fast runs: one tiny run and the mathematics.
FAST := tests/e2e/test_run.py::test_run_directory_is_complete tests/agent/test_losses_from_parts.py tests/ops tests/networks/test_rssm.py
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV := $(BIN)/uv pip
LOCK := requirements/lock.txt
SINKS_VENV := $(VENV)-sinks
SINKS_LOCK := requirements/sinks.txt
EXTRAS_LOCK := requirements/extras.txt
DOCS_LOCK := requirements/docs.txt
GPU_SITE ?= /tmp/dreamerjax-site
GPU_PACKAGES := cloudpickle|farama-notifications|filelock|gymnasium|hydra-core|omegaconf|orbax-checkpoint|rich|tensorboardx|tensorstore
GPU_PLATFORMS := $(foreach version,2_28 2_27 2_17,--platform manylinux_$(version)_x86_64) --platform manylinux2014_x86_64
COMPILE = $(UV) compile pyproject.toml --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --quiet

.PHONY: help install extras train bench bench-stability bench-suite bench-reliability gpu-check gpu-wheels test test-fast test-sinks lint format docs docs-check site lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 14

install: $(STAMP)  ## make the environment with the pinned packages

extras: $(VENV)/.extras  ## add what the extras need: Atari, Box2D, Crafter, DeepMind Control, MinAtar, Minigrid; Dask, optuna

train: $(STAMP)  ## train on CartPole-v1 from state until it is solved
	$(BIN)/python -m dreamerjax.train +experiment=cartpole $(ARGS)

bench: $(STAMP)  ## measure updates, collection and replay on this machine
	$(BIN)/python -m dreamerjax.benchmark $(ARGS)

bench-stability: $(STAMP)  ## solve CartPole-v1 with ten seeds, then see whether they stay solved
	$(BIN)/python experiments/stay_solved/run.py $(ARGS)

bench-suite: $(STAMP) extras  ## measure the defaults on many tasks and seeds (hours; a part: ARGS="--tasks dmc6")
	$(BIN)/python experiments/suite/run.py $(ARGS)

bench-reliability: $(STAMP)  ## count what docs/reliability.md promises (hours; a part: ARGS="--parts kills,inputs")
	PYTHONPATH=.:tests/e2e $(BIN)/python -m experiments.reliability.run $(ARGS)

# On a bare machine with a GPU, Python 3.12 and JAX: `make gpu-wheels` elsewhere, then `make gpu-check GPU_PYTHON=python3` there.
gpu-check:  ## measure everything on a machine with a GPU in six minutes (ARGS=--fast: try it without one)
ifdef GPU_PYTHON
	$(GPU_PYTHON) -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target $(GPU_SITE) .whl/*.whl
	PYTHONPATH=$(GPU_SITE):. $(GPU_PYTHON) -m experiments.accelerator.gpu_check $(ARGS)
else
	@$(MAKE) --no-print-directory install
	PYTHONPATH=. $(BIN)/python -m experiments.accelerator.gpu_check $(ARGS)
endif

gpu-wheels: $(STAMP)  ## fetch into .whl what such a machine lacks, to be carried there
	rm -rf .whl
	$(PIP) wheel --no-deps --wheel-dir .whl $$(grep ^antlr4 $(LOCK))
	$(PIP) download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp $(GPU_PLATFORMS) --dest .whl \
		$$(grep -E '^($(GPU_PACKAGES))==' $(LOCK))

test: $(STAMP) extras  ## run the tests, a file at a time on each core
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: $(STAMP)  ## run the quick tests only
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow" $(FAST) $(ARGS)

test-sinks: $(SINKS_VENV)/.installed  ## run the tests of MLflow and Weights & Biases with the real packages
	$(SINKS_VENV)/bin/python -c "import mlflow, wandb"
	$(SINKS_VENV)/bin/python -m pytest tests/storage/test_sinks.py tests/storage/test_trackers.py $(ARGS)

lint: $(STAMP)  ## check style, types and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## rewrite the code in the checked style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs-check: $(STAMP)  ## check that what the documentation names exists, and that docs/configuration.md is current
	$(BIN)/python tests/docs_check.py

docs: $(STAMP)  ## write docs/configuration.md from the schema
	$(BIN)/python -m dreamerjax.config.reference > docs/configuration.md

site: $(VENV)/.docs  ## build the documentation with a reference of the modules into site/; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lock: $(STAMP)  ## pin the dependencies again (newest versions: ARGS=--upgrade)
	$(COMPILE) --extra dev --output-file $(LOCK) $(ARGS)
	$(COMPILE) --extra mlflow --extra wandb --constraint $(LOCK) --output-file $(SINKS_LOCK) $(ARGS)
	$(COMPILE) --extra docs --constraint $(LOCK) --output-file $(DOCS_LOCK) $(ARGS)
	$(COMPILE) --extra atari --extra crafter --extra dmc --extra minigrid --extra minatar --extra box2d --extra dask --extra tune --constraint $(LOCK) --output-file $(EXTRAS_LOCK) $(ARGS)

clean:  ## remove build products and caches, not .venv or runs
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dreamerjax tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: dreamerjax needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "error: $(PYTHON) cannot make a virtual environment (on Debian: install python3-venv)" >&2; exit 1; }

$(STAMP): $(LOCK) requirements/uv.txt | $(BIN)/python
	@echo "installing the packages of $(LOCK) into $(VENV)"
	@$(PIP) install -r requirements/uv.txt 2>/dev/null || echo "uv cannot be installed: pip does it all, more slowly" >&2
	@$(UV) install --quiet --python $(BIN)/python -r $(LOCK) 2>$(VENV)/uv.log || $(PIP) install -r $(LOCK)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.extras: $(EXTRAS_LOCK) | $(STAMP)
	@echo "installing the packages of $(EXTRAS_LOCK) into $(VENV)"
	@$(UV) install --quiet --python $(BIN)/python -r $(EXTRAS_LOCK) 2>$(VENV)/uv.log || $(PIP) install -r $(EXTRAS_LOCK)
	@touch $@

$(VENV)/.docs: $(DOCS_LOCK) | $(STAMP)
	@echo "installing the packages of $(DOCS_LOCK) into $(VENV)"
	@$(UV) install --quiet --python $(BIN)/python -r $(DOCS_LOCK) 2>$(VENV)/uv.log || $(PIP) install -r $(DOCS_LOCK)
	@touch $@

$(SINKS_VENV)/.installed: $(LOCK) $(SINKS_LOCK) | $(STAMP)
	@echo "installing the packages of $(LOCK) and $(SINKS_LOCK) into $(SINKS_VENV)"
	@$(BIN)/python -m venv $(SINKS_VENV)
	@$(UV) install --quiet --python $(SINKS_VENV)/bin/python -r $(LOCK) -r $(SINKS_LOCK) 2>$(SINKS_VENV)/uv.log || \
		$(SINKS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install -r $(LOCK) -r $(SINKS_LOCK)
	@touch $@
