# amaranth: UnusedElaboratable=no
"""The flow of the Zynq boards: with a stand-in for Vivado, and without Vivado."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import zynq_project

from eftrain.artefact import Artefact
from eftrain.boards import BOARDS, find
from eftrain.errors import UserError
from eftrain_hdl.config import CoreConfig
from platforms import BitstreamError, VivadoMissing, board_resources, flow, vivado_report, zynq
from platforms.board_resources import describe, load
from platforms.zynq_fit import check_fits, multipliers

FAKE = """#!{python}
import sys
sys.path[:0] = [{here!r}]
import pathlib, tcl_interpreter, vivado_stub
arguments = sys.argv[1:]
if arguments == ["-version"]:
    print({banner!r})
    sys.exit({version_code})
with open("arguments.txt", "w") as file:
    print(*arguments, file=file)
print("****** Vivado")
state = {state!r}
if state.pop("crash", False):
    print("ERROR: [Place 30-640] Place Check : This design requires more Slice LUTs.")
    sys.exit(1)
code = 0
lazy = state.pop("lazy", False)
if not lazy:
    vivado = vivado_stub.FakeVivado(pathlib.Path.cwd(), **state)
    try:
        tcl_interpreter.interpreter(vivado).source(pathlib.Path.cwd() / "build.tcl")
    except tcl_interpreter.Exit as end:
        code = end.code
    print(*vivado.output, sep="\\n")
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Generating a core takes long and is tested elsewhere."""
    monkeypatch.setattr("eftrain_hdl.verilog.generate", lambda config: zynq_project.CORE_TEXT)


@pytest.fixture
def vivado(tmp_path, monkeypatch):
    """A function that puts a stand-in for Vivado on the PATH."""

    def install(banner="Vivado v2022.2 (64-bit)", version_code=0, **state):
        program = tmp_path / "bin/vivado"
        program.parent.mkdir()
        here = str(Path(__file__).parent)
        text = FAKE.format(
            python=sys.executable, here=here, banner=banner, version_code=version_code, state=state
        )
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.fixture
def no_vivado(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)


def build(board, folder, **options):
    steps = []
    artefact = zynq.build(
        find(board), zynq_project.SMALL, folder, on_step=lambda *step: steps.append(step), **options
    )
    return artefact, steps


@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_without_vivado(no_vivado, tmp_path, board):
    folder = tmp_path / "made/here"
    with pytest.raises(VivadoMissing) as error:
        build(board, folder)
    assert str(error.value).startswith(
        f"Vivado was not found on the PATH: the project is in {folder}"
    )
    assert "\n" not in str(error.value)
    assert {path.name for path in folder.iterdir()} == {
        "eftrain_top.v", "eftrain_top.xdc", "eftrain_4x4_bf16.v", "build.tcl", "block_design.tcl",
        "README.md", "config.json", "eftrain.dtso", "report",
    }  # fmt: skip
    artefact = Artefact.read(folder)
    artefact.verify()
    assert (artefact.board, artefact.bitstream) == (board, None)
    assert artefact.clock_hz == BOARDS[board].clock_hz
    assert artefact.verilog_sha256 == hashlib.sha256(zynq_project.CORE_TEXT.encode()).hexdigest()
    assert (folder / "eftrain_4x4_bf16.v").read_text() == zynq_project.CORE_TEXT
    readme = (folder / "README.md").read_text()
    assert "vivado -mode batch -source build.tcl" in readme and "Never run on hardware" in readme
    for path in folder.glob("*.*"):
        text = path.read_text()
        assert "@" not in text.replace("always @", "").replace("posedge", "") or path.suffix in (
            ".v", ".dtso"
        ), path  # fmt: skip
        assert "{{" not in text.replace("{{{", "") and "{%" not in text


@pytest.mark.parametrize("board", zynq_project.BOARDS)
def test_with_vivado(vivado, tmp_path, board):
    vivado()
    folder = tmp_path / "build"
    artefact, steps = build(board, folder)
    assert (folder / "arguments.txt").read_text() == (
        "-mode batch -nojournal -log vivado.log -source build.tcl\n"
    )
    assert [(index, total) for index, total, _ in steps] == [(n, 7) for n in range(1, 8)]
    assert steps[3][2] == "Synthesising eftrain_4x4_bf16."
    again = Artefact.read(folder)
    again.verify()
    assert again == artefact
    assert artefact.bitstream["file"] == "eftrain.bit"
    timing = json.loads((folder / "report/timing.json").read_text())
    assert (timing["tool"], timing["met"]) == ("Vivado 2022.2", True)
    assert timing["part"] == BOARDS[board].part
    ((name, clock),) = timing["clocks"].items()
    assert name == {"zcu102": "clk_pl_0", "pynq-z1": "clk_fpga_0"}[board]
    assert clock["slack_ns"] == 0.5 and clock["requested_mhz"] == BOARDS[board].clock_hz / 1e6
    period = clock["period_ns"]
    assert clock["fmax_mhz"] == pytest.approx(1000 / (period - 0.5), abs=0.01)
    total = json.loads((folder / "report/utilisation.json").read_text())["total"]
    capacity = BOARDS[board].capacity
    for kind in ("LUT", "FF", "DSP", "BRAM36"):
        assert total[kind]["available"] == getattr(capacity, kind.lower())
    used = [total[kind]["used"] for kind in ("LUT", "FF", "DSP", "BRAM36")]
    assert used == {
        "zcu102": [81_234, 91_002, 587, 191.5], "pynq-z1": [40_001, 33_000, 139, 79.5]
    }[board]  # fmt: skip
    assert total["LUT"]["percent"] == {"zcu102": 29.6, "pynq-z1": 75.2}[board]


def test_timing_not_met(vivado, tmp_path):
    vivado(slack=(-0.345, 0.02))
    with pytest.raises(BitstreamError, match="timing is not met: worst setup slack -0.345 ns"):
        build("zcu102", tmp_path / "build")
    assert not (tmp_path / "build/eftrain.bit").exists()
    assert Artefact.read(tmp_path / "build").bitstream is None


def test_an_older_build_is_cleared(vivado, no_vivado, tmp_path):
    folder = tmp_path / "build"
    (folder / "report").mkdir(parents=True)
    for name in ("eftrain.bit", "eftrain.bin", "eftrain.hwh", "report/timing.json", "mine.txt"):
        (folder / name).write_text("old")
    with pytest.raises(VivadoMissing):
        build("zcu102", folder)
    assert not any((folder / n).exists() for n in ("eftrain.bit", "eftrain.bin", "eftrain.hwh"))
    assert not (folder / "report/timing.json").exists()
    assert (folder / "mine.txt").read_text() == "old"


@pytest.mark.parametrize(
    "banner, message",
    [
        ("Vivado v2020.1 (64-bit)", "Vivado 2020.1 is too old: 2022.2 or newer is needed"),
        ("Vivado v2022.1.2 (64-bit)", "Vivado 2022.1 is too old"),
        ("cannot find the licence", "does not say its version, but: cannot find the licence"),
    ],
)
def test_versions(vivado, tmp_path, banner, message):
    vivado(banner=banner)
    with pytest.raises(BitstreamError, match=message):
        build("zcu102", tmp_path / "build")
    assert not (tmp_path / "build/arguments.txt").exists()


def test_newer_versions_write_their_name_small(vivado, tmp_path):
    vivado(banner="vivado v2024.1 (64-bit)", version="2024.1")
    build("zcu102", tmp_path / "build")
    timing = json.loads((tmp_path / "build/report/timing.json").read_text())
    assert timing["tool"] == "Vivado 2024.1"


def test_vivado_fails(vivado, tmp_path):
    vivado(crash=True)
    with pytest.raises(BitstreamError, match=r"made no bitstream: ERROR: \[Place 30-640\].*LUTs\."):
        build("pynq-z1", tmp_path / "build")


def test_vivado_does_nothing(vivado, tmp_path):
    vivado(lazy=True)
    with pytest.raises(BitstreamError, match="ended without writing eftrain.bit"):
        build("pynq-z1", tmp_path / "build")


def test_clock(no_vivado, tmp_path):
    with pytest.raises(VivadoMissing):
        build("zcu102", tmp_path / "a", clock_hz=87_500_000)
    assert "PL0_REF_CTRL__FREQMHZ {87.5}" in (tmp_path / "a/block_design.tcl").read_text()
    assert Artefact.read(tmp_path / "a").clock_hz == 87_500_000
    assert "assigned-clock-rates = <87500000>" in (tmp_path / "a/eftrain.dtso").read_text()
    with pytest.raises(UserError, match="A clock of 900 MHz is out of range for AMD ZCU102"):
        build("zcu102", tmp_path / "b", clock_hz=900_000_000)
    assert not (tmp_path / "b").exists()


def test_the_folder_is_a_file(no_vivado, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; --output needs a folder"):
        build("zcu102", tmp_path / "file")


def test_families_have_this_flow():
    for board in zynq_project.BOARDS:
        assert flow(find(board)) is zynq


@pytest.mark.parametrize(
    "board, array, format, dsp, of",
    [("pynq-z1", "16x16", "fp32", 587, 220), ("pynq-z1", "16x16", "bf16", 331, 220)],
)
def test_a_core_that_does_not_fit(tmp_path, board, array, format, dsp, of):
    config = CoreConfig.parse(array, format)
    with pytest.raises(UserError) as error:
        zynq.build(find(board), config, tmp_path / "no")
    assert str(error.value).startswith(
        f"The {array} {format} array does not fit the PYNQ-Z1 (xc7z020clg400-1): it needs about "
        f"{dsp} DSP blocks of {of}; the largest that fit are 8x8 bf16 and "
    )
    assert not (tmp_path / "no").exists()


def test_presets_fit():
    """By yosys's count at most 80 % of anything, also of LUTs with those that serve as memory."""
    record = load()
    for name in zynq_project.BOARDS:
        board = find(name)
        for array, format in board.presets:
            config = board.core(array, format)
            check_fits(config, board)
            usage = record[name, array, format]
            assert usage["batch_norm"] == config.batch_norm
            assert usage["dsp"] == multipliers(config)
            for kind in ("lut", "ff", "dsp", "bram36"):
                share = usage[kind] / getattr(board.capacity, kind)
                assert share <= 0.8, (name, array, format, kind, share)
            whole = (usage["lut"] + usage["memory_luts"]) / board.capacity.lut
            assert whole <= 0.8, (name, array, format, whole)


def test_describe():
    entry = {"board": "pynq-z1", "array": "4x4", "format": "fp32", "synthesis": "flat, for area",
             "lut": 26_600, "ff": 1_064, "dsp": 22, "bram36": 70, "memory_luts": 2_660}  # fmt: skip
    assert describe(entry) == (
        "LUT 26,600 (50.0%), FF 1,064 (1.0%), DSP 22 (10.0%), BRAM36 70 (50.0%), "
        "LUT with those used as memory 29,260 (55.0%)"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["ulx3s"], "ULX3S-85F is no Zynq board; choose zcu102 or pynq-z1."),
        (["vu9p"], "Board 'vu9p' is unknown"),
        (["zcu102", "9x9"], "Array 9x9 is no multiple"),
    ],
)
def test_counting_bad_input(capsys, arguments, message):
    assert board_resources.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "text, message", [("", "no entry 'period_ns'"), ("period_ns x\nwns_ns 1\nwhs_ns 1\n", "float")]
)
def test_damaged_timing(text, message):
    with pytest.raises(ValueError, match=message):
        vivado_report.timing(text, part="p", clock_hz=1)


def test_damaged_utilisation():
    with pytest.raises(ValueError, match="has no row CLB LUTs or Slice LUTs"):
        vivado_report.utilisation("Vivado was interrupted", part="p")
