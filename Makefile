# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo-out
TESTS ?=
# A process for each core; the tests of one file stay together and share what they set up.
SPREAD := -n auto --dist loadfile

.PHONY: help install demo test slow gpu check lint types contracts wheel bench trust models mini-moe clean

help:  ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make the environment in .venv (quick when nothing changed)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "moeprof needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## measure a scaled Mixtral layer on this machine, fit a cost model, compare routers
	$(BIN)/moeprof doctor
	$(BIN)/moeprof sweep recipes/quickstart.toml --out $(DEMO)
	$(BIN)/moeprof fit-cost $(DEMO) --out $(DEMO)/cost.json
	$(BIN)/moeprof route-eval $(DEMO)/cost.json --scene recipes/demo-routes.toml --out $(DEMO)/routers

test: install  ## run the tests; TESTS=tests/kernel runs some
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" $(SPREAD) $(TESTS)

slow: install  ## run the tests that take minutes: fifty kills of a sweep
	$(BIN)/python -m pytest -q -m slow

gpu:  ## on a machine with an NVIDIA GPU: tests, checks, tuning, bench and a sweep, in under ten minutes
	$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/gpu/run.py --out gpu-out

check: lint types contracts wheel  ## lint, types, import contracts and the wheel test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports --no-cache

wheel: install
	$(PYTHON) tests/wheel/run.py --python $(BIN)/python

bench: install  ## run the benchmarks (not part of the tests: the figures depend on the machine)
	$(BIN)/python benchmarks/agreement_with_torch_benchmark.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/planning.py

trust: install  ## audit the method anew (minutes), and put what was achieved into the README
	-$(BIN)/moeprof selfcheck --out docs/selfcheck
	$(BIN)/python docs/selfcheck/into_readme.py

models: install  ## fit the models of data/models-fitted anew (minutes), from NVIDIA's measurements
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[aic]'
	$(BIN)/python data/models-fitted/make.py

mini-moe: install  ## train the small model of data/mini-moe anew (half an hour), and record its trace
	$(BIN)/python data/mini-moe/make.py

clean:  ## remove the environment and everything built
	rm -rf $(VENV) $(DEMO) gpu-out build dist *.egg-info
