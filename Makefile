# Every target sets up what it needs: on a fresh machine, Python 3.11 or later with pip and a way to PyPI are enough.
# uv is used if it is on PATH, else put into .tools/. Nothing is installed outside this folder.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow golden docs-test alerts-test report-test compose-test check backtest bench bench-validity dashboards soak pins clean

PYTHON ?= python3
UV_VERSION := 0.13.8
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
BIN := .venv/bin

# An interpreter is found, never downloaded: uv would take it from somewhere that is not PyPI.
UV_PYTHON_DOWNLOADS ?= never
export UV_PYTHON_DOWNLOADS

SETTINGS := pyproject.toml $(wildcard libs/*/pyproject.toml) $(wildcard services/*/pyproject.toml)
SETUP := .venv/.synced

STRATEGY ?= ema_cross
PARAMS ?= fast=10 slow=30
SAMPLE := .tapeline/sample/BTCUSDT.csv
WORKERS ?= 2
# In the order of the files: the modules with the fewest tests take longest, and at the end one worker would do them alone.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: $(SETUP) ## paper-trade a synthetic market, everything embedded; Ctrl-C stops it, RUN_FOR=90 stops it by itself
	@exec $(BIN)/tapeline up $(if $(RUN_FOR),--for $(RUN_FOR))

test: $(SETUP) ## all tests but the slow ones, and those of pages, in containers or a browser
	$(PYTEST) -m "not slow and not containers and not browser and not docs"

docs-test: $(SETUP) ## the commands of every page of the documentation do what it says
	$(BIN)/python -m pytest -n $(WORKERS) --dist load -m docs tests/e2e/test_docs.py

test-slow: $(SETUP) ## chaos, soak and long simulations
	$(PYTEST) -m "slow and not containers"

report-test: $(SETUP) ## the report's page in a headless Chromium: every chart, light and dark, no request; installs one on Debian
	@sh deploy/browser.sh
	$(BIN)/python -m pytest -n 0 -rs -m browser tests/reports

compose-test: $(SETUP) ## the compose files on this machine's Docker: build, trade, kill, verify; shows what it does
	$(BIN)/python -m pytest -n 0 -s -v -rs -m containers tests/containers

golden: $(SETUP) ## write the golden results of tests/scenarios anew, on purpose; says what moved
	$(BIN)/python -m tests.scenarios.golden

alerts-test: $(SETUP) ## make ten alerts fire for real and resolve; needs prometheus and prometheus-alertmanager
	$(BIN)/python -m pytest -n 0 -s tests/alerts

check: $(SETUP) ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

backtest: $(SETUP) $(if $(DATA),,$(SAMPLE)) ## one backtest: DATA=bars.parquet STRATEGY=ema_cross PARAMS="fast=10 slow=30"; a synthetic sample without DATA
	$(BIN)/tapeline backtest --strategy $(STRATEGY) $(PARAMS:%=--param %) --fee 0.001 --data "$(or $(DATA),$(SAMPLE))"

$(SAMPLE): deploy/sample_bars.py | $(SETUP)
	@mkdir -p $(@D)
	@$(BIN)/python deploy/sample_bars.py $@

bench: $(SETUP) ## measure throughput and latency, beside other engines
	$(BIN)/python -m bench

bench-validity: $(SETUP) ## size and power of every statistic of the laboratory, by simulation; exit code 1 if one misses its goal
	$(BIN)/python -m bench.validity

dashboards: $(SETUP) ## write the dashboards of deploy/grafana and the page about them
	$(BIN)/python -m deploy.grafana.generate

MINUTES ?= 20
soak: $(SETUP) ## run the stack at a brisk pace for MINUTES=20 and see what grows; exit code 1 if something does
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

pins: $(filter .tools/bin/uv,$(UV)) ## resolve the newest versions of everything and pin them
	$(PYTHON) deploy/pin.py "$(UV)"

clean: ## delete what can be made again; the tape in .tapeline stays
	rm -rf .venv .tools uv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .tapeline/sample
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(SETUP) ## install everything into .venv

# The stamp is as new as the last synchronisation that succeeded.
$(SETUP): $(SETTINGS) Makefile | $(filter .tools/bin/uv,$(UV))
	@echo "setting up .venv ..."
	@$(UV) sync --quiet
	@touch $@

# A virtual environment where Python can make one (also where the system's own is "externally managed"), else a plain
# folder: some distributions leave the module venv out.
.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@echo "uv is not on PATH: installing it into .tools ..."
	@rm -rf .tools
	@{ $(PYTHON) -m venv .tools >/dev/null 2>&1 \
	   && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); } \
	 || { rm -rf .tools \
	   && $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv==$(UV_VERSION); }
	@.tools/bin/uv --version >/dev/null
