# The front door. `make` alone lists the targets.

PYTHON  ?= python3
VENV    ?= .venv
# Processes of the test run; the device models are cached by a hash and guarded by locks.
WORKERS ?= 2
# Extra arguments, for example: make demo ARGS="--array 4x4 --format bf16"
ARGS    ?=
# Of `make bitstream` and `make vivado-project`.
BOARD   ?= ulx3s

# What `make bench-rtl` runs of VGG-16, and the cores of `make resources`.
RTL_LAYERS := conv1_1,conv1_2,conv2_1,conv3_2,conv4_2,conv5_1
CORES := 8x8-bf16-xc7 16x16-fp32-xcup 32x32-bf16-xcup

GATEWARE := $(shell find eftrain_hdl -name '*.py')
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt
PINS := pyproject.toml requirements/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint verilog bitstream vivado-project ip board-resources board-numbers \
  bench bench-rtl profile resources docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.demo ## Make .venv with what the demo needs (pinned versions)

demo: $(VENV)/.demo ## Personalise the digit classifier on the simulated device
	@$(BIN)/eftrain personalize $(ARGS)

test: $(VENV)/.test ## Run every test (first run: also installs PyTorch and cocotb)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev ## Check style and likely mistakes
	$(BIN)/ruff check .

verilog: $(VENV)/.demo ## Write the gateware as Verilog to build/verilog/
	$(BIN)/python -m eftrain_hdl.verilog $(ARGS)

bitstream: $(VENV)/.boards ## Build a bitstream: BOARD=ulx3s, zcu102, pynq-z1 or an ECP5-85F board of amaranth-boards
	@$(BIN)/eftrain bitstream $(BOARD) $(ARGS)

vivado-project: $(VENV)/.boards ## Write the Vivado project of a Zynq board: make vivado-project BOARD=zcu102
	@$(BIN)/eftrain bitstream $(BOARD) --project-only $(ARGS)

ip: $(VENV)/.boards ## Package the core as IP-XACT for your own block design
	@$(BIN)/python -m platforms.ip_core $(ARGS)

bench: $(VENV)/.demo ## Predict training rates; renew build/bench/ and docs/performance.md
	@$(BIN)/eftrain bench $(ARGS)

bench-rtl: $(VENV)/.demo ## The same, after full-size runs on the simulated gateware (long)
	@$(BIN)/eftrain bench --rtl $(RTL_LAYERS),all,resnet20:all --jobs $(WORKERS) $(ARGS)

profile: $(VENV)/.demo ## Run one training step and show what the array waited for
	@$(BIN)/eftrain profile $(ARGS)

resources: $(CORES:%=build/bench/resources-%.json) ## Estimate FPGA resources of several cores (long)

build/bench/resources-%.json: $(VENV)/.resources $(GATEWARE)
	@mkdir -p $(@D)
	$(BIN)/eftrain resources --json $@ --array $(word 1,$(subst -, ,$*)) \
	  --format $(word 2,$(subst -, ,$*)) --target $(word 3,$(subst -, ,$*))

board-resources: $(VENV)/.boards ## Count the Zynq boards' designs with yosys (very long)
	$(BIN)/python -m platforms.board_resources $(ARGS)

board-numbers: $(VENV)/.boards ## Simulate steps of the boards' cores; renew docs/boards.md (long)
	$(PIP) --no-build-isolation -e '.[demo,serial]'
	$(BIN)/python -m eftrain.bench.boards --simulate ulx3s pynq-z1 zcu102

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

$(VENV)/.resources: $(VENV)/.demo
	@echo "Adding what synthesis needs ..."
	$(PIP) --no-build-isolation -e '.[demo,resources]'
	@touch $@

$(VENV)/.boards: $(VENV)/.demo
	@echo "Adding what bitstreams need ..."
	$(PIP) --no-build-isolation -e '.[demo,boards]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --no-build-isolation -e '.[demo,dev]'
	@touch $@
