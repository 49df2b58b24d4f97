# The two commands that do everything: `make demo` and `make test`. Both work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-for-development
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test unit lint bench soak images clean setup locked lock

demo: $(STAMP)
	$(BIN)/remotedl demo

test: setup lint
	$(BIN)/python -m tests.side_by_side

unit: $(DEV)
	$(BIN)/python -m pytest tests/unit

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV)
	$(BIN)/python -m benchmarks

soak: $(DEV)
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10)
	$(BIN)/python -m benchmarks.soak_session --cuts $(or $(CUTS),1000)
	REMOTEDL_FUZZ_S=$$((60 * $(or $(MINUTES),10) / 2)) $(BIN)/python -m pytest -q -o timeout=0 tests/hostile/test_lying_agent.py

images: $(DEV)
	REMOTEDL_IMAGES=all $(BIN)/python -m pytest tests/lab_tests/images/test_catalogue.py \
	    tests/lab_tests/images/test_gpu_variants.py

# What the lab needs from Debian (an engine, sshd, a browser); nothing happens elsewhere.
setup: $(DEV)
	sh tests/lab/install-debian.sh

# remotedl itself, all that the demo needs.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "remotedl needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $(STAMP)

# The tests' and the lint's tools on top.
$(DEV): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $(DEV)

# As the two above, every file the one that requirements.lock names. For CI.
locked: $(VENV)/.locked

$(VENV)/.locked: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP) $(DEV) $@

# Versions are chosen in constraints.txt; this adds the hashes of their files, for every platform.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate --no-emit-index-url --constraint constraints.txt
lock:
	$(LOCK) --extra keyring --group dev pyproject.toml .ci/build.in --output-file requirements.lock
	echo pip-audit | $(LOCK) - --output-file .ci/audit.lock

clean:
	rm -rf $(VENV) dist build
