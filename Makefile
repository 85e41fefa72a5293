# The two commands of the README, and what people who change the code run.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first of these that runs and is new enough; PYTHON=... overrides.
CANDIDATES := python3.12 python3.13 python3.11 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo run test test-mst chaos bench-engine bench-queue bench-backlog bench-gateway loadtest loadtest-steps lint format reference lock clean test-compose

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: $(READY) ## Start the whole service, transcribe the sample, print the transcript, stop
	@$(BIN)/python -m ops demo tests/data/meeting.wav

run: $(READY) ## Keep the service up on this machine and print its addresses
	@$(BIN)/python -m ops run

# Most tests wait for leases and processes, so three at a time on two cores; a file's tests stay together.
TEST_WORKERS ?= 3
test: $(READY) ## Run all tests
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(ARGS)

test-compose: $(READY) ## Build and start the CPU stack in containers, kill, restart, look, remove it (needs Docker)
	@docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 || \
		{ echo "test-compose skipped: no container engine with 'docker compose' answers here"; exit 0; }; \
	TEST_COMPOSE=1 $(BIN)/python -m pytest tests/compose $(ARGS)

test-mst: ## The engine mst on the real package (MST_PYTHON=/path/to/python, docs/engine-mst.md)
	@test -n "$(MST_PYTHON)" || { echo "error: pass MST_PYTHON=/path/to/python, as docs/engine-mst.md tells" >&2; exit 1; }
	@$(MST_PYTHON) -m pytest tests/engines/mst_real -o filterwarnings= $(ARGS)

chaos: $(READY) ## Kill everything at random for a minute, then look for lost or doubled jobs (ARGS="--seed 7")
	@$(BIN)/python -m loadtest.chaos $(ARGS)

bench-engine: $(READY) ## The engine against plain faster-whisper: speed, words, memory
	@$(BIN)/python loadtest/bench_engine.py $(ARGS)

bench-queue: $(READY) ## The queue against Celery's stock Redis transport
	@$(BIN)/python loadtest/bench_queue.py $(ARGS)

bench-backlog: $(READY) ## What 100,000 waiting jobs cost
	@$(BIN)/python loadtest/bench_backlog.py $(ARGS)

bench-gateway: $(READY) ## Uploads against a raw copy and a bare handler, and 200 slow clients
	@$(BIN)/python loadtest/bench_gateway.py $(ARGS)

loadtest: $(READY) ## 100 users of every kind for a minute on a local stack; fails where a limit is broken or a job lost
	@$(BIN)/python -m loadtest.load $(ARGS)

loadtest-steps: $(READY) ## More and more users, until the service is no longer as good as before
	@$(BIN)/python -m loadtest.load --steps $(ARGS)

lint: $(READY) ## Formatting, lint rules and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/bandit -q -c pyproject.toml -r worker gateway ops

.PHONY: audit
audit: $(READY) ## Known weaknesses of every locked version (needs the package index's database)
	@mkdir -p var; for lock in requirements.lock worker/requirements-gpu.lock; do \
		$(BIN)/pip-audit --disable-pip --require-hashes -r $$lock -f json 2>var/audit.log | \
			$(BIN)/python .ci/audit.py $$lock var/audit.log || exit 1; \
	done

format: $(READY) ## Format the code and mend what ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

reference: $(READY) ## Renew .env.example and the tables of the docs from the code
	@$(BIN)/python -m ops.reference
	@$(BIN)/python -m gateway.error_table

lock: $(READY) ## Resolve pyproject.toml anew into requirements.lock
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --upgrade --quiet --output-file requirements.lock
	@$(BIN)/uv pip compile worker/requirements-gpu.txt pyproject.toml --extra worker --python-version 3.12 \
		--python-platform x86_64-manylinux_2_28 --generate-hashes --no-header --no-annotate --upgrade --quiet \
		--output-file worker/requirements-gpu.lock

clean: ## Remove the environment and all local data
	rm -rf .venv var build *.egg-info

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found: install one, or pass PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up .venv with $$($(PYTHON) --version) (once)"
	@$(PYTHON) -m venv --clear .venv || { echo "error: $(PYTHON) cannot make a virtual environment: install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
