# `make demo` and `make test` set up everything they need in .venv and then do their work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip compiles all packages on one core, a minute and more; here all cores do.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --editable
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib

.PHONY: demo reproduce-demo test matrix slow contract attack docs serve-docs clean

DEMO := examples/demo

demo: $(VENV)/.demo
	$(BIN)/vitaclip classify $(DEMO)/videos --model $(DEMO)/checkpoint --labels-file $(DEMO)/labels.txt
	@echo "The files are named after what they show. The model is tiny and knows only drawn things: $(DEMO)/README.md"

# The stated accuracy of the demo checkpoint, measured on freshly drawn videos; SEED=NUMBER draws the same ones again.
reproduce-demo: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet "scipy>=1.15"
	$(BIN)/python $(DEMO)/reproduce.py $(if $(filter file,$(origin SEED)),,--seed $(SEED))

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	-$(BIN)/python tests/contract/fetch_transformers_tests.py
	$(BIN)/mypy & types=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder --durations=25 \
		&& wait $$types

slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# The demo and tests/model on every Python that is installed, with the newest and the lowest versions of the requirements.
matrix:
	$(PYTHON) .ci/matrix.py

# transformers' own common tests, its slow ones too.
contract: $(VENV)/.test
	$(BIN)/python tests/contract/fetch_transformers_tests.py
	RUN_SLOW=1 $(BIN)/python -m pytest tests/contract -m "slow or not slow" --durations=10

# Damaged files, bombs, hostile folders, kills: MINUTES of them, with a report in attack-report/ (SECURITY.md).
MINUTES ?= 120
SEED ?= 1
attack: $(VENV)/.test
	PYTHONPATH=tests:tests/training $(BIN)/python -m attack --seed $(SEED) --minutes $(MINUTES)

# The pages as a site in build/site; open build/site/index.html. Browsers search it only where it is served.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml

serve-docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --config-file docs/site/mkdocs.yml

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "vitaclip_hf needs Python 3.10 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the package and what it needs into $(VENV) (PyTorch is large; a few minutes the first time) …"
	$(INSTALL) .
	@$(COMPILE) || true  # some packages have templates that are no Python
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the package and its test tools into $(VENV) (PyTorch is large; a few minutes the first time) …"
	$(INSTALL) '.[test]'
	@$(COMPILE) || true
	@touch $@

clean:
	rm -rf $(VENV) .venv-matrix build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache tests/contract/.transformers-*
