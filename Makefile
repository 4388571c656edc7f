# The front door. `make` alone lists the targets.

PYTHON  ?= python3
VENV    ?= .venv
# Processes of the test run; the device models are cached by a hash and guarded by locks.
WORKERS ?= 2
# Extra arguments, for example: make demo ARGS="--array 4x4 --format bf16"
ARGS    ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt
PINS := pyproject.toml requirements/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint verilog bitstream bench docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.demo ## Make .venv with what the demo needs (pinned versions)

demo: $(VENV)/.demo ## Personalise the digit classifier on the simulated device
	@$(BIN)/eftrain personalize $(ARGS)

test: $(VENV)/.test ## Run every test (first run: also installs PyTorch and cocotb)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev ## Check style and likely mistakes
	$(BIN)/ruff check .

verilog: $(VENV)/.demo ## Write the gateware as Verilog to build/verilog/
	$(BIN)/python -m eftrain_hdl.verilog $(ARGS)

bitstream: ## Build an FPGA bitstream (not there yet)
	@echo "There is no bitstream flow yet: 'make verilog' writes the core for your own project." >&2; exit 1

bench: ## Run the performance benchmarks (not there yet)
	@echo "There are no benchmarks yet: 'make demo' reports the simulated cycles of one run." >&2; exit 1

docs: $(VENV)/.demo ## Regenerate docs/isa.md and docs/registers.md from eftrain_hdl/isa.py
	$(BIN)/python -m eftrain_hdl.isa_docs

clean: ## Remove build/ and caches; keeps .venv
	rm -rf build .pytest_cache .ruff_cache *.egg-info sw/*.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or newer." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: Python 3.11 or newer is needed, for example make PYTHON=python3.12." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# setuptools is installed first and reused, so that the build tool is pinned as well.
$(VENV)/.demo: $(BIN)/python $(PINS)
	@echo "Setting up $(VENV) ..."
	$(PIP) setuptools
	$(PIP) --no-build-isolation -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "Adding what the tests need ..."
	$(PIP) --no-build-isolation -e '.[demo,test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --no-build-isolation -e '.[demo,dev]'
	@touch $@
