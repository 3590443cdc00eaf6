# make demo | test | coverage | lint | bench | size | clean. Everything runs inside .venv, made on first use.
VENV   := .venv
PY     := $(VENV)/bin/python
PYTHON ?= python3

.PHONY: setup demo test coverage lint bench size clean
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cytolens needs Python 3.11 or newer; set PYTHON=…")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(VENV)/bin/cytolens demo --out demo-run

# The tests and the examples in docstrings. One process per core, one
# thread each: small networks gain nothing from a second thread. The tests of
# one file stay in one process, which makes their shared study once.
test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile
	OMP_NUM_THREADS=1 $(PY) -m pytest --doctest-modules src/cytolens

coverage: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile --cov --cov-branch --cov-report=term

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

bench: setup
	for script in benchmarks/bench_*.py; do $(PY) $$script || exit 1; done

size: setup
	@du -sm --apparent-size $(VENV) | awk '{printf "%.2f GB\n", $$1 * 1048576 / 1e9}'

clean:
	rm -rf $(VENV) demo-run
