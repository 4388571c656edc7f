"""Boards by their names in amaranth-boards: which one is meant, and what it lacks."""

import re

import amaranth_boards
import pytest

from eftrain import bitstream
from eftrain.artefact import Artefact
from eftrain.boards import find
from eftrain.cli import main
from eftrain.errors import UserError
from platforms import ecp5, ecp5_boards
from platforms.ecp5_top import DEVICES

FITS = "ULX3S_85F_Platform"
TOO_SMALL = {
    "Colorlight_5A75B_R70Platform", "IcepiZero1_3Platform", "ICESugarProPlatform",
    "Supercon19BadgePlatform", "ULX3S_12F_Platform", "ULX3S_25F_Platform", "ULX3S_45F_Platform",
}  # fmt: skip
"""Boards with all parts but a large enough ECP5."""

LARGE = {
    "ButterStickPlatform", "ECP55GEVNPlatform", "ECPIX585Platform", "Logicbone85FPlatform",
    "OrangeCrabR0_2_85FPlatform",
}  # fmt: skip
"""Boards with an ECP5-85F and no SDRAM, or none that the controller drives."""

CLASSES = [cls for _, classes in ecp5_boards._modules() for cls in classes]

BOARD = """
from amaranth.build import *
from amaranth_boards.ulx3s import ULX3S_85F_Platform, ULX3S_25F_Platform

class ColorlightI9Platform(ULX3S_85F_Platform):
    speed = "7"
    connectors = []

class ColorlightI9NoLinePlatform(ULX3S_85F_Platform):
    resources = [r for r in ULX3S_85F_Platform.resources if r.name != "uart"]

class ColorlightI9NoClockPlatform(ULX3S_85F_Platform):
    default_clk = None

class ColorlightI9SmallPlatform(ULX3S_25F_Platform):
    pass
"""


@pytest.fixture
def colorlight(monkeypatch, tmp_path):
    """amaranth-boards with one more module."""
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "colorlight_i9.py").write_text(BOARD)
    path = [*amaranth_boards.__path__, str(tmp_path / "boards")]
    monkeypatch.setattr(amaranth_boards, "__path__", path)


def test_boards_of_the_lists_exist():
    assert {FITS, *TOO_SMALL, *LARGE} <= {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_board_is_known_or_refused_by_its_part(cls):
    name = cls.__name__
    if name == FITS:
        assert ecp5_boards.board_of(name) is find("ulx3s")
        return
    text = f"{name} has (an .*|no ECP5), and the system needs one of {', '.join(DEVICES)}\\.$"
    if name in LARGE:
        text = f"{name} has no 'sdram' resource, a 32 MB SDRAM of 16 bits; choose another board"
    with pytest.raises(UserError, match=f"^{text}"):
        ecp5_boards.board_of(name)


@pytest.mark.parametrize("name", ["ULX3S_85F", "ulx3s-85f", "ULX3S_85F_Platform", "ulx3s85f"])
def test_a_known_board_has_other_names(name):
    assert bitstream.choose(name)[0] is find("ulx3s")


@pytest.mark.parametrize(
    "name, text",
    [
        ("icesugar_pro", "^ICESugarProPlatform has an LFE5U-25F, and the system needs one of"),
        ("ecpix5", "^ECPIX585Platform has no 'sdram' resource"),
        ("logicbone", "^Logicbone85FPlatform has no 'sdram' resource"),
        ("versa_ecp5", "^VersaECP5Platform has an LFE5UM-45F, "),
        ("LogicbonePlatform", "^LogicbonePlatform has an LFE5UM5G-45F, "),
        ("machxo3_sk", "^MachXO3LSKPlatform has an LCMXO3L-6900C, "),
        ("icebreaker", "^ICEBreakerPlatform has no ECP5, and the system needs one of LFE5U-85F, "),
        ("ColorlightI9NoLine", "^ColorlightI9NoLinePlatform has no 'uart' resource, a serial line"),
        ("ColorlightI9NoClock", "^ColorlightI9NoClockPlatform has no default clock"),
        ("ColorlightI9Small", "^ColorlightI9SmallPlatform has an LFE5U-25F"),
        ("colorlight_i5", "'colorlight_i5' is unknown; choose one of zcu102, pynq-z1, ulx3s, or"),
        ("", "'' is unknown"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(name, text, colorlight):
    with pytest.raises(UserError, match=text) as caught:
        bitstream.choose(name)
    assert len(re.findall(r"\.(?:\s|$)", str(caught.value))) == 1


def test_the_command_ends_with_2(capsys):
    assert main(["bitstream", "icesugar_pro"]) == 2
    assert "ICESugarProPlatform has an LFE5U-25F" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, canonical",
    [
        ("colorlight_i9", "colorlight_i9"),
        ("Colorlight-I9", "colorlight_i9"),
        ("ecp5:colorlight_i9", "colorlight_i9"),
        ("ColorlightI9Platform", "ColorlightI9Platform"),
    ],
)
def test_a_board_with_all_parts_is_built_for(name, canonical, colorlight, tmp_path):
    board, core, clock_hz, folder = bitstream.choose(name)
    known = find("ulx3s")
    assert board.name == f"ecp5:{canonical}"
    assert board.part == "LFE5U-85F-7BG381C"
    assert (board.capacity, board.memory_size, board.serial) == (
        known.capacity, known.memory_size, True,
    )  # fmt: skip
    assert (core, clock_hz, str(folder)) == (known.core(), known.clock_hz, f"build/{canonical}")
    platform = ecp5.platform_of(board.name)
    assert type(platform).__name__ == "ColorlightI9Platform"
    # The host reads what the build says, without a platform.
    written = Artefact.describe(board, core, "module core; endmodule\n", baud=1_000_000)
    assert Artefact.read(written.write(tmp_path / "out").folder) == written
    assert find(written.board).title == canonical


def test_without_amaranth_boards_the_command_to_run_is_named(monkeypatch):
    monkeypatch.setattr(ecp5_boards.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"ulx3s; .* run `pip install 'eftrain\[boards\]'`"):
        bitstream.choose("ecpix5")
