# make demo    reconstruct a simulated acquisition, with all set-up
# make test    run the test suite, with all set-up
# Another interpreter: make test PYTHON=python3.12. Further options: make test ARGS="-k mri".
# On Windows the same steps are pip commands: see CONTRIBUTING.md.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
CORE = $(VENV)/.invdiff-core
DEV = $(VENV)/.invdiff-dev
EXTRAS = test,train,mri,imaging,ct,weather,molecules,xtb,diffusers,scale,twix

.PHONY: install demo test lint format clean

install: $(CORE)

demo: $(CORE)
	$(BIN)/invdiff demo $(ARGS)

test: $(DEV)
	$(BIN)/pytest $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage

# The stamps make a second call quick; a change of the files named here installs anew.
$(CORE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "invdiff needs Python 3.10 or newer; name one, as in: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12"; exit 1; }
	@echo "Installing invdiff into $(VENV) (the first time takes some minutes) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(DEV): $(CORE) tests/oracles.txt
	$(PIP) -e ".[$(EXTRAS)]"
	$(PIP) --no-deps -r tests/oracles.txt
	@touch $@
