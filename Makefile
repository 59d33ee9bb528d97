# `make demo` and `make test` are all a newcomer needs. Every target makes or checks .venv first (scripts/bootstrap.py);
# with a finished .venv that takes a few hundredths of a second and no network.

.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
# A PYTHONPATH from outside would mix other people's packages into the locked ones.
unexport PYTHONPATH PYTHONHOME

PY := .venv/bin/python
# The first Python there is; bootstrap.py looks for a better one when this one is too old.
SOME_PYTHON := $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell command -v $(name))))
ARGS ?=
ACT ?= spin
SEED ?= 1
# What `make test` may take in all; a hang is a failure, not a wait.
TEST_SECONDS ?= 900

.PHONY: help demo test test-system check fmt sim crash bench lock clean run-env dev-env bench-env

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -nE 's/^([a-z-]+):.*## (.*)/  make \1  \2/p' $(MAKEFILE_LIST)

run-env:
	@[ -n "$(SOME_PYTHON)" ] || { echo "spinyard: Spinyard needs Python >= 3.11, and no python3 is on PATH." >&2; exit 2; }
	@$(SOME_PYTHON) scripts/bootstrap.py run

dev-env:
	@[ -n "$(SOME_PYTHON)" ] || { echo "spinyard: Spinyard needs Python >= 3.11, and no python3 is on PATH." >&2; exit 2; }
	@$(SOME_PYTHON) scripts/bootstrap.py dev

bench-env:
	@[ -n "$(SOME_PYTHON)" ] || { echo "spinyard: Spinyard needs Python >= 3.11, and no python3 is on PATH." >&2; exit 2; }
	@$(SOME_PYTHON) scripts/bootstrap.py bench

demo: run-env ## the photo gallery under load: kills, claims, a bad version that goes back by itself; ACT=spinout: thumbnails leave it (ARGS=--keep leaves it up)
	@$(PY) -m examples.gallery.demo --act $(ACT) $(ARGS)

test: dev-env ## every test that a fresh machine can run, in less than 10 minutes (ARGS= goes to pytest)
	@timeout --foreground --kill-after=30 $(TEST_SECONDS) \
	  $(PY) -m pytest tests -m "not system" -n 2 --dist loadscope $(ARGS)

test-system: dev-env ## tests that need more of the machine: root, cgroups, full disks
	@scripts/test_system.sh $(ARGS)

check: dev-env ## format, lint, types, import contracts, generated pictures, documented commands
	@scripts/check.sh

fmt: dev-env ## format and mend what ruff can mend
	@$(PY) -m ruff check --fix-only --quiet . && $(PY) -m ruff format .

sim: run-env ## replay one seed of the simulated world: make sim SEED=42
	@$(PY) -m tests.sim.run --seed $(SEED) $(ARGS)

crash: dev-env ## kill the real server at every failpoint that services, pools and rollouts pass, 20 times each
	@$(PY) -m tests.crash.run --times 20 $(ARGS)

bench: bench-env ## every published number, with its peer in the same run (ARGS="--only N2,N4 --quick")
	@$(PY) -m bench $(ARGS)

lock: dev-env ## resolve requirements/*.txt again (UPGRADE=1 to the newest versions); needs the network
	@scripts/lock.sh

clean: ## remove what tools left behind; .venv stays
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find src sdk tests bench examples scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
