# make demo | test | coverage | lint | bench | faults | size | release-files | clean. Everything runs inside
# .venv, made on first use; release-files in .venv-release.
VENV   := .venv
PY     := $(VENV)/bin/python
PYTHON ?= python3

.PHONY: setup demo test coverage lint bench faults size release-files clean
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cytolens needs Python 3.11 or newer; set PYTHON=…")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(VENV)/bin/cytolens demo --out demo-run

# The tests and the examples in docstrings. One process more than there are
# cores, as those in a browser wait much; one thread each: small networks gain
# nothing from a second. The tests of one file stay in one process, which makes
# their shared study once.
WORKERS = $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else os.cpu_count())')
test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile
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

# Accidents of every kind at many moments of every stage: kills, a full disk, interrupts. A quarter
# of an hour on one core. The full disk needs root, for a small file system of its own.
faults: setup
	$(PY) tests/faults/everything.py --out benchmarks/results/faults.md

size: setup
	@du -sm --apparent-size $(VENV) | awk '{printf "%.2f GB\n", $$1 * 1048576 / 1e9}'

# What comes with a release: every library in the exact version, with the hashes of its files, and
# the same as a bill of materials (CycloneDX). For Linux on x86-64 with Python 3.11, with PyTorch's
# build for CPUs. Without a way to pytorch.org: make release-files TORCH="--find-links FOLDER"
RELEASE := .venv-release
TORCH   ?= --torch-backend cpu
release-files:
	test -x $(RELEASE)/bin/uv || $(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1' 'cyclonedx-bom>=7,<8'
	mkdir -p dist
	$(RELEASE)/bin/uv pip compile pyproject.toml --quiet --no-header --generate-hashes \
	  --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	  --constraint constraints.txt $(TORCH) --output-file dist/requirements.lock
	$(RELEASE)/bin/cyclonedx-py requirements dist/requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --of JSON --output-file dist/sbom.cdx.json
	$(RELEASE)/bin/python .ci/check_release_files.py dist

clean:
	rm -rf $(VENV) $(RELEASE) demo-run dist
