# `make` lists what can be made. All of it works in an environment of its own in .venv and needs
# nothing but Python 3.10 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo-output
# Processes that share the tests, each file in one.
JOBS ?= 2

.PHONY: help demo test quick fuzz check format docs coverage build release-check clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(VENV)/.installed  ## upscale a noisy sample, and say where to look
	@$(BIN)/dmsr upscale examples/cat_noisy.png -s 4 -o $(DEMO)/ --compare --overwrite
	@echo "result:       $(DEMO)/cat_noisy_x4.png"
	@echo "before/after: $(DEMO)/cat_noisy_x4_compare.png"

test: $(VENV)/.installed-dev check  ## every check and test
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

quick: $(VENV)/.installed-dev check  ## every check, and the tests that take no long time
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow"

fuzz: $(VENV)/.installed-dev  ## 5,000 damaged pictures of every format; some minutes
	$(BIN)/python tests/fuzz.py --files 5000

check: $(VENV)/.installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## put right what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev  ## the documentation as a site; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -q -c docs . build/site
	@echo "documentation: build/site/index.html"

coverage: $(VENV)/.installed-dev  ## every test, and which lines and branches none of them reaches
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --cov --cov-report=term --cov-report=html:build/coverage

build: $(VENV)/.installed-dev  ## wheel and sdist, into dist
	$(BIN)/python -m build --no-isolation --outdir dist .

release-check: $(VENV)/.installed-dev  ## go through the steps of a release; publishes nothing
	$(BIN)/python tools/release.py

clean:  ## remove what was made here, the environment, too
	rm -rf $(VENV) $(DEMO) build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# constraints.txt pins what was tested; pyproject.toml says what is allowed.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed
