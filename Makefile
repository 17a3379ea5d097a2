# `make demo` and `make test` are all that is needed: they make the environment first.

PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell python$(version) --version >/dev/null 2>&1 && echo python$(version))))
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := ebbtide flows tasks reference tests benchmarks docs

.DEFAULT_GOAL := help
.PHONY: help demo test coverage crash soak lint docs bench format env clean

help: ## What there is to make
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: env ## Play a bad release and its rollback; INCIDENT=poisoned-data: another incident
	@$(BIN)/ebbtide demo $(if $(INCIDENT),--incident $(INCIDENT))

test: env ## Run every test
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: env ## Run every test and report what they cover: half as long again
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

crash: env ## Kill a process at every point of every level, and print how all ended (hours; ARGS="--part 1/10": a tenth)
	$(BIN)/python -m tests.crash $(ARGS)

lint: env ## Check style, types and who imports whom
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mkdocs build --quiet --strict --site-dir build/site

soak: env ## Let 3,000 seeded sagas die, race, sleep and recover, and count where they end
	$(BIN)/python -m tests.property.soak $(ARGS)

docs: env ## Build the documentation, into build/site
	$(BIN)/python -m mkdocs build --strict --site-dir build/site

bench: env ## Measure, beside what a user would do otherwise, into benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

format: env ## Put the style right
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

env: $(VENV)/.made ## Make the environment; again only where the lock has changed

$(VENV)/.made: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name it: make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean: ## Remove what was made
	rm -rf $(VENV) build dist *.egg-info .coverage* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
