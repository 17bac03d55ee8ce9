# Everything a developer types. `make run` and `make test` set the clone up by themselves.

.DEFAULT_GOAL := help
.PHONY: help run test lint bench crash lock install
SHELL := /bin/sh

# The first Python that is new enough, itself and not a virtual environment's; or name one with PYTHON=…
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1); print(sys._base_executable)' \
	2>/dev/null && exit; done)
VENV := .venv/bin
# The Node.js of .venv comes before the machine's own, which may be old or not there.
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm

# What the type check needs to read the settings; it connects to nothing.
SETTINGS := CHATAPP_ENV_FILES= DEBUG=true SECRET_KEY=x DATABASE_URL=postgres://x/x REDIS_URL=redis://x ANTHROPIC_API_KEY=x

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install ## Run Chatapp with everything it needs, until Ctrl-C (HOST=127.0.0.1 PORT=8000)
	@exec $(VENV)/python -m chatapp.local.run --until-parent-ends

test: install ## Every test: units, real PostgreSQL and Valkey, front end, a real browser
	@$(VENV)/python -m pytest -n 3
	@$(NPM) test --silent

lint: install ## Formatter check, linter, type check, import contract, front-end type check
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(SETTINGS) $(VENV)/mypy
	@$(VENV)/lint-imports
	@$(NPM) run --silent check

bench: install ## How fast it is beside its peers: a table, and benchmarks/results/latest.json (ONLY=streams PEER=node)
	@$(VENV)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(PEER),--peer $(PEER))

crash: install ## Kill -9 anything while people chat and pay, then count every credit (KILLS=300)
	@$(VENV)/python -m tests.crash --kills $(or $(KILLS),300)

lock: install ## Bring the lock files in line with pyproject.toml and package.json
	@$(PYTHON) -m venv .local/uv && .local/uv/bin/python -m pip install --quiet --upgrade uv
	@for lock in "requirements.txt" "requirements-dev.txt -c requirements.txt --group dev"; do \
		UV_CUSTOM_COMPILE_COMMAND="make lock" .local/uv/bin/uv pip compile --quiet --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-emit-find-links pyproject.toml -o $$lock || exit; done
	@$(NPM) install --silent --package-lock-only

install:
	@test -n "$(PYTHON)" || { echo "chatapp: Python 3.11 or newer is needed, and none is on PATH." >&2; exit 1; }
	@$(PYTHON) chatapp/local/install.py
