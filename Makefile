# Every command sets up what it needs by itself, once. `make demo VIDEO=path` analyses your own video.
.PHONY: demo up test check bench chaos lock setup

PYTHON := .venv/bin/python
UV := .venv/bin/uv

demo: setup
	@$(PYTHON) -m deploy.demo $${VIDEO:+"$$VIDEO"}

up: setup
	@$(PYTHON) -m deploy.stack up

# Two files at a time: most of the suite's time goes into starting servers and waiting for them.
test: setup
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: setup
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: setup
	@$(PYTHON) -m tests.bench $(ARGS)

chaos: setup
	@$(PYTHON) -m tests.chaos $(ARGS)

# Only names and versions: no address of any package index is written down.
lock: setup
	@$(UV) pip compile --quiet --no-header --no-annotate pyproject.toml --group all --python-version 3.11 -o requirements.lock

setup:
	@deploy/setup.sh
