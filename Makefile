# `make demo` upscales a sample with the bundled weights; `make test` runs every check.
# Both make their own environment in .venv and need nothing but Python 3.10 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo-output
# Processes that share the tests, each file in one.
JOBS ?= 2

.PHONY: demo test fuzz check format docs clean

demo: $(VENV)/.installed
	@$(BIN)/dmsr upscale examples/cat_noisy.png -s 4 -o $(DEMO)/ --compare --overwrite
	@echo "result:       $(DEMO)/cat_noisy_x4.png"
	@echo "before/after: $(DEMO)/cat_noisy_x4_compare.png"

test: $(VENV)/.installed-dev check
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

# 5,000 damaged pictures of every format; some minutes.
fuzz: $(VENV)/.installed-dev
	$(BIN)/python tests/fuzz.py --files 5000

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site; a warning is an error.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -W --keep-going -n -q -c docs . build/site
	@echo "documentation: build/site/index.html"

clean:
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
