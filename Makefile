# make help lists what there is.

VENV   ?= .venv
PYTHON ?=
# What `make test` runs; a path, a test's name, any pytest arguments.
TESTS  ?= tests
# How often `make flakes` runs the tests with real processes.
N      ?= 20
# How long `make soak` takes.
MINUTES ?= 5
# How many storms `make storms` simulates.
STORMS ?= 20000

BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# The tests with real processes mostly wait for them, so both kinds share the cores.
QUICK_TESTS   = $(wildcard tests/test_*.py tests/docs tests/unit tests/simulation tests/conformance)
PROCESS_TESTS = $(foreach directory,process faults soak examples,$(if $(wildcard tests/$(directory)/test_*.py),tests/$(directory)))

# A Debian is booted by root alone; it has a Python of its own.
SYSTEMD_IMAGE = [ "$$(id -u)" != 0 ] || tests/systemd/image >/dev/null

.PHONY: help run test quick check lint types quick-tests process-tests systemd-tests deploy-tests faults soak flakes storms bench format clean
.DEFAULT_GOAL := help

help:
	@echo 'make run      serve examples/echo.py on 4 workers at tcp://127.0.0.1:9999'
	@echo 'make test     every test (TESTS=tests/unit for some of them)'
	@echo 'make check    what must hold before a commit: format, lint, types, every test'
	@echo 'make faults   what a hostile network and a full machine do to it (as root; see tests/faults)'
	@echo 'make soak     mixed load and a random fault every 5 s for MINUTES=$(MINUTES)'
	@echo 'make flakes   the tests with real processes, N=$(N) times beside a busy loop'
	@echo 'make storms   the simulation with STORMS=$(STORMS) seeds'
	@echo 'make bench    what a server and a connection cost, beside the peers (takes 20 minutes)'
	@echo 'make format   let ruff write the code its way'
	@echo 'make clean    remove environments, caches and built files'
	@echo 'VENV=.venv-3.13 PYTHON=python3.13 choose another environment and interpreter.'

run: $(VENV)/installed
	@printf '%s\n' "talk to it from another terminal:  printf 'hello\n' | nc 127.0.0.1 9999" \
	    "or, without nc:  python3 -c 'import socket; s = socket.create_connection((\"127.0.0.1\", 9999)); \
	s.sendall(b\"hello\\n\"); print(s.recv(100))'"
	@exec $(BIN)/prefork run examples.echo:EchoHandler --workers 4 --bind tcp://127.0.0.1:9999

test: $(VENV)/tools
	$(SYSTEMD_IMAGE)
	$(PYTEST) -n 2 $(TESTS)

check: lint types quick-tests process-tests systemd-tests deploy-tests

lint: $(VENV)/tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/tools
	$(BIN)/mypy

quick-tests: $(VENV)/tools
	$(PYTEST) -n 2 $(QUICK_TESTS)

process-tests: $(VENV)/tools
	$(if $(PROCESS_TESTS),$(PYTEST) -n 2 $(PROCESS_TESTS))

faults: $(VENV)/tools
	$(SYSTEMD_IMAGE)
	$(PYTEST) -n 2 -m fault tests/unit tests/process tests/faults tests/soak
	$(PYTEST) -m fault tests/systemd tests/deploy

soak: $(VENV)/tools
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

systemd-tests: $(VENV)/tools
	$(SYSTEMD_IMAGE)
	$(PYTEST) tests/systemd

deploy-tests: $(VENV)/tools
	$(SYSTEMD_IMAGE)
	$(PYTEST) -n 2 --dist loadfile tests/deploy

flakes: $(VENV)/tools
	$(BIN)/python tests/support/flakes.py $(N) -n 8 $(PROCESS_TESTS)

storms: $(VENV)/tools
	$(PYTEST) -n 2 tests/simulation/test_storms.py --storms $(STORMS)

bench: $(VENV)/tools
	tests/bench/setup
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m tests.bench.footprint
	$(BIN)/python -m tests.bench.connections
	$(BIN)/python -m tests.bench.datagrams
	$(BIN)/python -m tests.bench.http

format: $(VENV)/tools
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: an environment is made once, and installed into again when what it installs has changed.

$(VENV)/python: .ci/venv
	.ci/venv $(VENV) $(PYTHON)
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tools: $(VENV)/python pyproject.toml tests/setup
	tests/setup
	$(BIN)/python -m pip install --quiet --editable '.[dev,reload,top]'
	@touch $@ $(VENV)/installed
