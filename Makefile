# Every target sets up what it needs on Debian or Ubuntu, if you are root or may use a Docker engine.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench faults lab-up lab-down lab-programs ready

# Each worker has a lab. Options for pytest: make test PYTEST="-k wipe -x"
WORKERS ?= 4
PYTEST ?=
# Options for the campaign: make faults FAULTS="--subset 12 --seed 7"
FAULTS ?=

help:
	@echo 'make demo      make a cluster of two simulated nodes, serve a model, wipe one node and bring it back'
	@echo 'make test      run all tests: unit tests, then the product on lab nodes over real SSH'
	@echo 'make check     check style, types and the direction of imports'
	@echo 'make bench     measure speeds and print tables'
	@echo 'make faults    kill rebuilds at each of their steps, and worse; FAULTS="--subset 12 --seed 7"'
	@echo 'make lab-up    start two simulated nodes that stay: gb10 lab status, then pyinfra lab/inventory.py ...'
	@echo 'make lab-down  remove all labs and their engine'

.venv/ready: setup.cfg pyproject.toml scripts/prepare
	@scripts/prepare venv

lab-programs:
	@scripts/prepare lab

# Both mostly wait for the network.
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

bench: ready
	@scripts/with-labs sh -c '.venv/bin/gb10 lab up && .venv/bin/python -m bench.run'

faults: ready
	@scripts/with-labs .venv/bin/python -m tests.faults.run $(FAULTS)

lab-up: ready
	@.venv/bin/gb10 lab up

lab-down: .venv/ready
	@scripts/lab-down
