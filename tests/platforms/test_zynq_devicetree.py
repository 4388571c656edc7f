"""The device-tree overlay: addresses, interrupt, clock, buffer; and dtc, where it is installed."""

import re
import shutil
import subprocess

import pytest
import zynq_project

from eftrain.artefact import Artefact
from eftrain.boards import find
from platforms.devicetree import overlay
from platforms.processing_system import PS7, PS8

SYSTEMS = {"zcu102": PS8, "pynq-z1": PS7}


def text_of(board):
    artefact = Artefact.describe(board, zynq_project.SMALL, zynq_project.CORE_TEXT)
    return overlay(SYSTEMS[board], artefact), artefact


def node(text, name):
    return re.search(rf"\b{name}(?:@\w+)? {{\n(.*?)\n\t}};", text, re.DOTALL)[1]


@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_nodes(board):
    text, artefact = text_of(board)
    zynqmp = board == "zcu102"
    # What eftrain.devices.uio looks for.
    registers = node(text, "eftrain: eftrain")
    assert 'compatible = "generic-uio"' in registers and "eftrain@" in text
    assert "&fpga_full {" in text and 'firmware-name = "eftrain.bin"' in text
    numbers = re.search(r"reg = <(.*?)>", registers)[1].split()
    address = [int(number, 0) for number in numbers]
    if zynqmp:
        # Addresses of M_AXI_HPM0_FPD begin here (AMD UG1085, system address map).
        assert address == [0, 0xA000_0000, 0, 0x1000]
        # pl_ps_irq0[0] is interrupt 121, the 89th of those that are shared.
        assert "interrupts = <0 89 4>" in registers and "<&gic>" in registers
        assert "clocks = <&zynqmp_clk 71>" in text
        # All memory ports 128 bits wide, as the block design has them, and M_AXI_HPM0 too.
        pairs = re.findall(r"<(\d+) (\w+)>", re.search(r"config-afi = (.*?);", text)[1])
        assert {int(n): int(value, 0) for n, value in pairs} == {
            **dict.fromkeys(range(4, 12), 0), 14: 0xA00
        }  # fmt: skip
    else:
        # M_AXI_GP0 has 0x40000000 to 0x7fffffff (UG585), IRQ_F2P[0] is interrupt 61.
        assert address == [0x43C0_0000, 0x1000]
        assert "interrupts = <0 29 4>" in registers and "<&intc>" in registers
        assert "clocks = <&clkc 15>" in text and "afi" not in text
    assert f"assigned-clock-rates = <{find(board).clock_hz}>" in text
    buffer = node(text, "eftrain-memory")
    assert 'compatible = "ikwzm,u-dma-buf"' in buffer
    assert int(re.search(r"size = <(\w+)>", buffer)[1], 0) == find(board).memory_size
    # The core's addresses have 32 bits.
    assert "dma-mask = <32>" in buffer
    assert artefact.build in text.splitlines()[0]
    assert not re.search(r"@\w+@", text)


@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_the_compiler_takes_it(board, tmp_path):
    if shutil.which("dtc") is None:
        pytest.skip("dtc, the device-tree compiler, is not installed")
    source = tmp_path / "eftrain.dtso"
    source.write_text(text_of(board)[0])
    done = subprocess.run(
        ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", str(tmp_path / "o.dtbo"), str(source)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
