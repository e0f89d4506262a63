# Every target installs what it needs, on Debian or Ubuntu as root. Without root it needs access to a Docker engine.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench faults lab-up lab-down lab-programs ready

# Each worker has a lab. Options for pytest: make test PYTEST="-k wipe -x"
WORKERS ?= 4
PYTEST ?=
# Options for the campaign: make faults FAULTS="--subset 12 --seed 7"
FAULTS ?=

help:
	@echo 'make demo      build a cluster from two simulated nodes, serve a model, rebuild one node'
	@echo 'make test      run all tests: unit tests, then lab tests over real SSH'
	@echo 'make check     check style, types, import layers and known vulnerabilities'
	@echo 'make bench     measure speeds and print them as tables'
	@echo 'make faults    kill rebuilds at every step, cut networks, fill disks; FAULTS="--subset 12 --seed 7"'
	@echo 'make lab-up    start two simulated nodes that stay up; see them with: gb10 lab status'
	@echo 'make lab-down  remove all labs and their Docker engine'

.venv/ready: setup.cfg pyproject.toml scripts/prepare
	@scripts/prepare venv

lab-programs:
	@scripts/prepare lab

# In parallel: both wait for the network most of the time.
ready:
	@$(MAKE) --no-print-directory --jobs=2 .venv/ready lab-programs

demo: ready
	@scripts/with-labs sh -c '.venv/bin/gb10 lab up && .venv/bin/python -m gb10.lab.demo'

test: ready
	@scripts/with-labs .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/unit tests/lab $(PYTEST)

check: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python scripts/typecheck.py
	.venv/bin/lint-imports
	@scripts/audit

bench: ready
	@scripts/with-labs sh -c '.venv/bin/gb10 lab up && .venv/bin/python -m bench.run'

faults: ready
	@scripts/with-labs .venv/bin/python -m tests.faults.run $(FAULTS)

lab-up: ready
	@.venv/bin/gb10 lab up

lab-down: .venv/ready
	@scripts/lab-down
