# Every target sets itself up; only python3 (3.11 or newer, with venv) and make are needed.

PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
OLDEST_VENV := .venv-oldest
RELEASE_VENV := .venv-release
BIN := $(VENV)/bin
INSTALL := -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-oldest lint format docs release-check clean

help:
	@echo "make demo           classify a synthetic specimen; writes demo_output/"
	@echo "make test           run the tests (PYTEST_ARGS='-k chips' for some of them)"
	@echo "make test-oldest    run the tests with the lowest versions of the dependencies"
	@echo "make lint           check style, formatting and that imports run down the house"
	@echo "make format         correct what can be corrected automatically"
	@echo "make docs           build the documentation; writes docs/_build/html/"
	@echo "make release-check  build, install and check the wheel in an empty environment"
	@echo "make clean          remove the environments and all that was built"

demo: $(VENV)/.installed
	$(BIN)/python -m hyperspy_fewshot demo

test: $(VENV)/.installed-tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

test-oldest: $(OLDEST_VENV)/.installed
	$(OLDEST_VENV)/bin/pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	cmp hyperspy_fewshot/hyperspy_extension.yaml hyperspy_extension.yaml

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

release-check: $(VENV)/.installed-tests
	rm -rf dist $(RELEASE_VENV)
	$(BIN)/python -m build
	$(PYTHON) -m venv $(RELEASE_VENV)
	$(RELEASE_VENV)/bin/python $(INSTALL) dist/*.whl
	$(RELEASE_VENV)/bin/python -I tests/check_installed.py $(RELEASE_VENV)

clean:
	rm -rf $(VENV) $(OLDEST_VENV) $(RELEASE_VENV) build dist demo_output docs/_build

# The package is installed editable, so that a change of its sources needs no new installation.

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python $(INSTALL) -e .
	touch $@

$(VENV)/.installed-tests $(VENV)/.installed-docs: $(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[$*]"
	touch $@

# constraints.txt does not apply: what the lowest versions need may be older than it says.
$(OLDEST_VENV)/.installed: pyproject.toml constraints-oldest.txt
	rm -rf $(OLDEST_VENV)
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/python -m pip install --disable-pip-version-check -c constraints-oldest.txt -e ".[tests]"
	touch $@

$(VENV)/.installed-lint: $(VENV)/.created constraints.txt
	$(BIN)/python $(INSTALL) ruff import-linter
	touch $@
