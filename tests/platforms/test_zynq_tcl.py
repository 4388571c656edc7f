# amaranth: UnusedElaboratable=no
"""Vivado's scripts, run against stand-ins of its commands: every name in them exists."""

import re
import shutil

import pytest
import tcl_interpreter
import zynq_project
from tcl_interpreter import Exit, TclError
from vivado_stub import FakeVivado

from platforms.processing_system import PS7, PS8

SYSTEMS = {"zcu102": PS8, "pynq-z1": PS7}
KINDS = ["tkinter", *(["tclsh"] if shutil.which("tclsh") else [])]


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("projects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eftrain_hdl.verilog.generate", lambda config: zynq_project.CORE_TEXT)
        for board in zynq_project.BOARDS:
            zynq_project.write(board, folder / board)
    return folder


@pytest.fixture
def project(projects, tmp_path):
    """A function that copies a board's project and runs its script."""

    def run(board, *arguments, edit=None, kind=None, **state):
        folder = tmp_path / board
        shutil.copytree(projects / board, folder)
        if edit:
            name, old, new = edit
            text = (folder / name).read_text()
            assert old in text
            (folder / name).write_text(text.replace(old, new))
        vivado = FakeVivado(folder, **state)
        tcl = tcl_interpreter.interpreter(vivado, kind)
        if tcl is None:
            pytest.skip("there is no Tcl: neither Python's tkinter nor tclsh")
        with pytest.raises(Exit) as end:
            tcl.source(folder / "build.tcl", arguments)
        return vivado, end.value.code

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_whole_build(project, board, kind):
    vivado, code = project(board, kind=kind)
    assert code == 0, vivado.output
    folder, system = vivado.folder, SYSTEMS[board]
    for name in ("eftrain.bit", "eftrain.hwh", "eftrain.xsa"):
        assert (folder / name).is_file()
    assert [line.split("]")[0] for line in vivado.output] == [
        f"eftrain: [{index}/5" for index in range(1, 6)
    ]
    part = {"zcu102": "xczu9eg-ffvb1156-2-e", "pynq-z1": "xc7z020clg400-1"}[board]
    assert vivado.properties["project"]["part"] == part
    assert vivado.files == ["eftrain_top.v", "eftrain_4x4_bf16.v", "eftrain_ps_wrapper.v"]
    assert vivado.constraints == ["eftrain_top.xdc"]
    assert vivado.properties["top"] == "eftrain_top"
    # The newest board files; the PYNQ-Z1 has none, and its preset is in the script.
    if board == "zcu102":
        assert vivado.properties["board_part"] == "xilinx.com:zcu102:part0:3.4"
    else:
        assert vivado.properties["package"]
    assert vivado.addresses == {"ctrl/Reg": (system.control_base, "4K"), "*": True}
    text = (folder / "report/timing.txt").read_text()
    assert f"clock {system.clock_name}\n" in text and "wns_ns 0.5\n" in text


@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_wrapper_is_what_the_top_instantiates(project, board):
    """Ports of the block design against the table that the top is made from."""
    vivado, _ = project(board, "project")
    system = SYSTEMS[board]
    expected = {port.name: port for port in system.ports}
    axi = {port.name for interface in system.axi for port in interface.ports}
    package = {port.name for port in system.fixed if port.direction == "io"}
    scalars = {name: port["dir"].lower() for name, port in vivado.ports.items()}
    assert scalars == {n: p.direction for n, p in expected.items() if n not in axi | package}
    assert {name: entry["mode"] for name, entry in vivado.interfaces.items()} == {
        "ctrl": "Master",
        **dict.fromkeys(("stationary", "stream", "side", "write"), "Slave"),
    }
    for interface in system.memory:
        properties = vivado.interfaces[interface.name]["properties"]
        assert int(properties["DATA_WIDTH"]) == (128 if board == "zcu102" else 64)
        channel = "w" if interface.name == "write" else "r"
        assert expected[f"{interface.name}_{channel}data"].width == int(properties["DATA_WIDTH"])
    # Stationary, stream, side and write are on memory ports 0 to 3, in this order.
    joined = {a.strip("/"): b.strip("/") for a, b in vivado.interface_nets}
    pins = [joined[name] for name in ("stationary", "stream", "side", "write")]
    suffix = "_FPD" if system is PS8 else ""
    assert pins == [f"ps/S_AXI_HP{n}{suffix}" for n in range(4)]


@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_project_only(project, board):
    vivado, code = project(board, "project")
    assert code == 0 and vivado.validated
    assert "launch_runs" not in [call[0] for call in vivado.calls]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slack, which", [((-0.2, 0.1), "-0.2"), ((0.4, -0.01), "-0.01")])
def test_timing_failure_leaves_no_bitstream(project, kind, slack, which):
    vivado, code = project("zcu102", slack=slack, kind=kind)
    assert code == 1
    assert re.match("eftrain: error: timing is not met: .*slack", vivado.output[-1])
    assert which in vivado.output[-1]
    assert not (vivado.folder / "eftrain.bit").exists()
    # The reports are there to look at.
    assert (vivado.folder / "report/timing.txt").is_file()


@pytest.mark.parametrize(
    "version, good",
    [
        ("2022.2", True),
        ("2022.2.1", True),
        ("2024.1", True),
        ("2022.1", False),
        ("2019.2.1", False),
    ],
)
def test_versions(project, version, good):
    vivado, code = project("pynq-z1", "project", version=version)
    assert code == (0 if good else 1)
    assert good or vivado.output[-1] == (
        f"eftrain: error: Vivado {version} is too old: 2022.2 or newer is needed."
    )


def test_missing_board_files(project):
    vivado, code = project("zcu102", boards=False)
    assert code == 1
    assert vivado.output[-1].startswith("eftrain: error: Vivado has no board files of the ZCU102")


@pytest.mark.parametrize(
    "board, edit, message",
    [
        ("zcu102", ("build.tcl", "eftrain_4x4_bf16.v", "core.v"), "file core.v does not exist"),
        ("zcu102", ("build.tcl", "get_clocks clk_pl_0", "get_clocks clk_pl"), "no clock clk_pl"),
        ("zcu102", ("block_design.tcl", "PSU__USE__S_AXI_GP4 {1}", "PSU__USE__S_AXI_GP4 {0}"),
         "no pin ps/saxihp2_fpd_aclk"),
        ("zcu102", ("block_design.tcl", "CONFIG.PSU__USE__IRQ0", "CONFIG.PSU__USE_IRQ0"),
         "zynq_ultra_ps_e has no parameter PSU__USE_IRQ0"),
        ("zcu102", ("block_design.tcl", "PSU__USE__M_AXI_GP1 {0}", "PSU__USE__M_AXI_GP1 {1}"),
         "pin ps/maxihpm1_fpd_aclk is not connected"),
        ("pynq-z1", ("block_design.tcl", "    M_AXI_GP0_ACLK\n", ""),
         "pin ps/M_AXI_GP0_ACLK is not connected"),
        ("pynq-z1", ("block_design.tcl", "connect_bd_intf_net [get_bd_intf_ports side]", "list"),
         "interface ps/S_AXI_HP2 is not connected"),
        ("pynq-z1", ("block_design.tcl", ":side:write}", ":side}"), "interface write has no clock"),
    ],
)  # fmt: skip
def test_stand_ins_notice(projects, tmp_path, board, edit, message):
    """Mistakes in the scripts are found."""
    folder = tmp_path / board
    shutil.copytree(projects / board, folder)
    name, old, new = edit
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    vivado = FakeVivado(folder)
    tcl = tcl_interpreter.interpreter(vivado)
    if tcl is None:
        pytest.skip("there is no Tcl: neither Python's tkinter nor tclsh")
    with pytest.raises(TclError, match=re.escape(message)):
        tcl.source(folder / "build.tcl")
