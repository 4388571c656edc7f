"""The whole flow, from Amaranth to a bitstream, on a system that takes seconds."""

import json
import shutil
from collections import Counter

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Value
from ecp5_stub import CLOCK_HZ, StubSystem

from eftrain import artefact, bitstream, boards
from eftrain.errors import UserError
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.ring_buffer import RingBuffer
from platforms import BitstreamError, ecp5, ecp5_tools
from platforms.ecp5_top import SystemTop

BOARD = boards.find("ulx3s")
CORE = CoreConfig(rows=4, lanes=4, format="bf16", batch_norm=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder, reports and steps of one run of all tools."""
    folder = tmp_path_factory.mktemp("flow")
    steps = []
    timing, utilisation = ecp5.implement(
        SystemTop(StubSystem(), CLOCK_HZ), ecp5.platform_of("ulx3s"), folder,
        part=BOARD.part, clock_hz=CLOCK_HZ, on_step=lambda *step: steps.append(step),
    )  # fmt: skip
    return folder, timing, utilisation, steps


def test_bitstream_is_one_for_this_part(built):
    folder = built[0]
    bitstream = (folder / "eftrain.bit").read_bytes()
    # Preamble and device id of the LFE5U-85F, from FPGA-TN-02039.
    assert b"\xff\xff\xbd\xb3" in bitstream[:256]
    assert b"Part: LFE5U-85F-6CABGA381" in bitstream[:256]
    assert bytes.fromhex("41113043") in bitstream[:1024]


def test_reports_of_a_run(built):
    folder, timing, utilisation, _ = built
    assert json.loads((folder / "report/timing.json").read_text()) == timing
    assert json.loads((folder / "report/utilisation.json").read_text()) == utilisation
    assert timing["met"]
    assert {clock["requested_mhz"] for clock in timing["clocks"].values()} == {50}
    assert len(timing["clocks"]) == 2
    assert all(clock["fmax_mhz"] > 50 for clock in timing["clocks"].values())
    path = timing["clocks"]["clk"]["critical_path"]
    assert path["cells"] and path["delay_ns"] < 20
    assert utilisation["total"]["PLL"]["used"] == 1
    assert utilisation["total"]["LUT4"]["available"] == BOARD.capacity.lut
    assert list(utilisation["blocks"])[0] != "pads"
    counted = sum(block["LUT4"] for block in utilisation["blocks"].values())
    # nextpnr adds the ends of carry chains.
    assert 0.8 < counted / utilisation["total"]["LUT4"]["used"] <= 1
    assert (folder / "log/yosys.log").exists() and (folder / "log/routing.log").exists()


def test_pads_hold_the_registers_of_the_sdram(built):
    log = (built[0] / "log/placement-1.log").read_text()
    for pin in ("dq", "a", "ba", "dqm", "cas", "clk"):
        assert f"IOLOGIC component sdram_{pin}." in log
    assert "Derived frequency constraint of 50.0 MHz for net" in log


def test_progress_counts_the_tools(built):
    assert [(index, total) for index, total, _ in built[3]] == [(n, 6) for n in (2, 3, 4, 5, 6)]


def test_same_seed_gives_the_same_bitstream(built, tmp_path):
    folder = built[0]
    for name in ("top.json", "top.lpf"):
        shutil.copy(folder / name, tmp_path)
    platform = ecp5.platform_of("ulx3s")
    ecp5_tools.place(tmp_path, "top", platform, 1, CLOCK_HZ)
    ecp5_tools.route(tmp_path, "top", platform, 1)
    assert (tmp_path / "top.config").read_bytes() == (folder / "top.config").read_bytes()


def test_memories_without_collisions_need_no_logic_around_them(tmp_path):
    """Of the selection in the yosys script, which says nothing if it selects nothing."""
    design = Module()
    design.submodules.stream_buffer = ring = RingBuffer(depth=512, width=32)
    ports = [Value.cast(port) for _, _, port in ring.signature.flatten(ring)]
    (tmp_path / "top.il").write_text(rtlil.convert(design, name="top", ports=ports))
    ecp5_tools.synthesise(tmp_path, "top")
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"]
    kinds = Counter(cell["type"] for cell in cells.values())
    assert kinds["DP16KD"] == 1
    # Places, levels and the output: no copy of what is written, and no comparison of addresses.
    assert kinds["TRELLIS_FF"] < 32 + 4 * 10


def test_failure_of_a_tool_shows_the_end_of_its_log(tmp_path):
    (tmp_path / "top.il").write_text("module \\top\n  nonsense\nend\n")
    with pytest.raises(BitstreamError, match=r"(?s)^yosys failed.*ERROR: .*line 2"):
        ecp5_tools.synthesise(tmp_path, "top")
    (tmp_path / "top.config").write_text(".device nonsense\n")
    with pytest.raises(BitstreamError, match="^ecppack failed; the end of its log:\n"):
        ecp5_tools.pack(tmp_path, "top", "eftrain.bit")


@pytest.fixture
def quick(monkeypatch, built):
    """`ecp5.build` with a stub in the place of the system, and the tools' results ready."""
    folder = built[0]

    class System(StubSystem):
        def __init__(self, config):
            super().__init__()

    def give(*names):
        def tool(work, *_):
            for name in names:
                shutil.copy(folder / name, work)

        return tool

    monkeypatch.setattr("eftrain_hdl.verilog.generate", lambda config: "module core; endmodule\n")
    monkeypatch.setattr("eftrain_hdl.system.SerialSystem", System)
    monkeypatch.setattr(ecp5_tools, "synthesise", give("top.json", "log/yosys.log"))
    monkeypatch.setattr(
        ecp5_tools,
        "place",
        lambda work, *_: give("log/placement-1.log")(work) or 1,
    )
    monkeypatch.setattr(ecp5_tools, "route", give("nextpnr.json", "top.config", "log/routing.log"))
    monkeypatch.setattr(ecp5_tools, "pack", give("eftrain.bit", "log/ecppack.log"))


def test_build_writes_a_complete_folder_and_keeps_what_else_is_there(quick, tmp_path, capsys):
    folder = tmp_path / "build" / "ulx3s"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    for _ in range(2):  # The second build replaces the first.
        done = ecp5.build(BOARD, CORE, folder)
    assert done.verify() is None
    assert done == artefact.Artefact.read(folder)
    assert (done.array, done.format, done.clock_hz) == ("4x4", "bf16", BOARD.clock_hz)
    assert done.serial["baud"] >= 1_000_000
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "eftrain.bit", "log", "notes.txt", "report",
    ]  # fmt: skip
    assert "[1/6] Generating the 4x4 bf16 gateware ..." in capsys.readouterr().out


def test_nothing_is_left_of_a_build_that_misses_its_timing(quick, tmp_path, monkeypatch):
    slow = {"fmax": {"clk": {"achieved": 31.0, "constraint": 50.0}}, "critical_paths": []}
    load = ecp5.ecp5_report.load
    monkeypatch.setattr(
        ecp5.ecp5_report, "load",
        lambda path: slow if path.name == "nextpnr.json" else load(path),
    )  # fmt: skip
    folder = tmp_path / "ulx3s"
    with pytest.raises(BitstreamError, match=r"clk reaches 31\.0 MHz of the 50 MHz asked for"):
        ecp5.build(BOARD, CORE, folder, clock_hz=50_000_000)
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_tried_until_one_is_fast_enough(quick, tmp_path, monkeypatch, capsys):
    estimates, routed = {1: 0.9, 2: 0.95, 3: 1.01, 4: 2.0}, []
    route = ecp5_tools.route
    monkeypatch.setattr(ecp5_tools, "place", lambda *given: estimates[given[3]])
    monkeypatch.setattr(
        ecp5_tools, "route", lambda *given: routed.append(given[-1]) or route(*given)
    )
    for seed, chosen in ((None, 3), (1, 1)):
        ecp5.build(BOARD, CORE, tmp_path / "ulx3s", seed=seed)
        assert routed.pop() == chosen
        timing = json.loads((tmp_path / "ulx3s/report/timing.json").read_text())
        assert timing["seed"] == chosen
    shown = capsys.readouterr().out
    assert "seed 3; seed 1 reaches 90%; seed 2 reaches 95% ..." in shown
    estimates[3] = estimates[4] = 0.8
    ecp5.build(BOARD, CORE, tmp_path / "ulx3s")
    assert routed == [2]


def test_missing_packages_are_named_with_the_command(monkeypatch, tmp_path):
    find = ecp5_tools.importlib.util.find_spec
    monkeypatch.setattr(
        ecp5_tools.importlib.util, "find_spec",
        lambda name: None if name.startswith("yowasp") else find(name),
    )  # fmt: skip
    with pytest.raises(UserError, match="nextpnr-ecp5, .*`pip install 'eftrain\\[boards\\]'`"):
        ecp5.build(BOARD, CORE, tmp_path / "ulx3s")


@pytest.mark.parametrize(
    "options, text",
    [
        ({"board": "ulx4s"}, "Board 'ulx4s' is unknown; choose one of zcu102"),
        ({"array": "16x16"}, "16x16 bf16 array does not fit the LFE5U-85F.* MULT18X18D of 156; "),
        ({"array": "8x8", "format": "fp32"}, "needs at least 317 .* are 8x8 bf16 and 4x4 fp32"),
        ({"array": "5x5"}, "the nearest that is supported is 4x4"),
        ({"clock": 5}, "--clock 5 is not from 10 to 400 MHz; the clock of ulx3s is 15"),
        ({"clock": 51.3}, "cannot make a clock of 51.3 MHz .* nearest that it gives is 50 MHz"),
        ({"clock": 100}, "SDRAM's pins do not work at 100 MHz"),
        ({"project_only": True}, "--project-only is for boards that need Vivado"),
        ({"output": __file__}, "is a file; --output needs a folder"),
    ],
)
def test_bad_input_is_refused_before_any_work(options, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=text):
        bitstream.run(options.pop("board", "ulx3s"), **options)
    assert list(tmp_path.iterdir()) == []


def test_batch_norm_is_refused_with_its_luts(tmp_path):
    core = CoreConfig(rows=4, lanes=4, format="bf16")
    with pytest.raises(UserError, match="batch-norm does not fit .* 86,758 LUT4 of 83,640"):
        ecp5.build(BOARD, core, tmp_path / "ulx3s")


def test_folder_of_a_build():
    def folder(**options):
        return str(bitstream.choose("zcu102", **options)[3])

    assert folder() == "build/zcu102"
    assert folder(array="16x16", format="fp32") == "build/zcu102"
    assert folder(array="32x32") == "build/zcu102/32x32-bf16"
    assert folder(output="elsewhere") == "elsewhere"
