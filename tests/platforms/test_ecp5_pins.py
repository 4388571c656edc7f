"""Constraints of the ULX3S, against the file that its makers publish (ulx3s_v20.lpf)."""

import re

import pytest
from amaranth_boards.ecpix5 import ECPIX585Platform
from amaranth_boards.ulx3s import ULX3S_45F_Platform
from ecp5_stub import CLOCK_HZ, StubSystem

from eftrain.errors import UserError
from platforms.ecp5 import platform_of
from platforms.ecp5_top import SystemTop, check_platform, sdram_phase, sdram_slack

ADDRESS = "M20 M19 L20 L19 K20 K19 K18 J20 J19 H20 N19 G20 G19"
DATA = "J16 L18 M18 N18 P18 T18 T17 U20 E19 D20 D19 C20 E18 F18 J18 J17"
SITES = {
    "clk25_0__io": "G2",
    "uart_0__rx__io": "M1",  # ftdi_txd
    "uart_0__tx__io": "L4",  # ftdi_rxd
    "sdram_0__clk__io": "F19",
    "sdram_0__clk_en__io": "F20",
    "sdram_0__cs__io": "P20",
    "sdram_0__we__io": "T20",
    "sdram_0__ras__io": "R20",
    "sdram_0__cas__io": "T19",
    "sdram_0__ba__io[0]": "P19",
    "sdram_0__ba__io[1]": "N20",
    "sdram_0__dqm__io[0]": "U19",
    "sdram_0__dqm__io[1]": "E20",
    **{f"sdram_0__a__io[{bit}]": site for bit, site in enumerate(ADDRESS.split())},
    **{f"sdram_0__dq__io[{bit}]": site for bit, site in enumerate(DATA.split())},
    "led_0__io": "B2",
}


@pytest.fixture(scope="module")
def files():
    plan = platform_of("ulx3s").prepare(SystemTop(StubSystem(), CLOCK_HZ), "top")
    return {name: plan.files[name] for name in ("top.il", "top.lpf")}


def test_every_pin_is_placed_where_the_board_has_it(files):
    found = dict(re.findall(r'LOCATE COMP "(.*?)" SITE "(.*?)";', files["top.lpf"]))
    assert {name: found.get(name) for name in SITES} == SITES
    levels = dict(re.findall(r'IOBUF PORT "(.*?)" .*?IO_TYPE=(\w+)', files["top.lpf"]))
    assert {levels[name] for name in SITES} == {"LVCMOS33"}


def test_every_port_of_the_design_is_constrained(files):
    located = set(re.findall(r'LOCATE COMP "(.*?)"', files["top.lpf"]))
    top = files["top.il"].partition("module \\top\n")[2].partition("\nend\n")[0]
    ports = set()
    for width, name in re.findall(r"wire width (\d+) (?:inout|input|output) \d+ +\\(\S+)", top):
        ports |= {name} if width == "1" else {f"{name}[{bit}]" for bit in range(int(width))}
    assert len(ports) == len(SITES) + 3  # More LEDs.
    assert ports <= located


def test_the_oscillator_has_its_frequency(files):
    assert re.findall(r'FREQUENCY PORT "(.*?)" ([\d.]+) HZ', files["top.lpf"]) == [
        ("clk25_0__io", "25000000.0")
    ]


def test_sdram_clock_leaves_margins_both_ways():
    for mhz in (25, 40, 50, 60, 62.5):
        clock = int(mhz * 1e6)
        assert min(sdram_slack(clock, sdram_phase(clock))) > 0.3
    assert sdram_phase(50_000_000) == 90
    assert min(sdram_slack(50_000_000, 90)) > 2
    # Half a period is the usual choice, and too late for data at 50 MHz.
    assert sdram_slack(50_000_000, 180)[1] < 0
    with pytest.raises(UserError, match="do not work at 80 MHz: choose a lower --clock"):
        sdram_phase(80_000_000)


def test_boards_without_a_part_are_refused_by_its_name():
    check_platform(platform_of("ulx3s"))
    with pytest.raises(UserError, match="ECPIX585Platform has no 'sdram' resource"):
        check_platform(ECPIX585Platform())
    with pytest.raises(UserError, match="ULX3S_45F_Platform has an LFE5U-45F, .* LFE5U-85F"):
        check_platform(ULX3S_45F_Platform())
    board = platform_of("ulx3s")
    del board.resources["uart", 0]
    with pytest.raises(UserError, match="has no 'uart' resource, a serial line"):
        check_platform(board)
    board = platform_of("ulx3s")
    board.default_clk = None
    with pytest.raises(UserError, match="has no default clock"):
        check_platform(board)


def test_another_sdram_is_refused_by_its_pins(monkeypatch):
    board = platform_of("ulx3s")
    address = next(pin for pin in board.lookup("sdram").ios if pin.name == "a")
    monkeypatch.setattr(address.ios[0], "names", address.ios[0].names[:12])
    with pytest.raises(UserError, match="has 12 pins 'a', and the controller drives 13"):
        check_platform(board)
