"""The PLL of an ECP5: divider settings, and the clocks of a system.

Limits: Lattice FPGA-DS-02012 (ECP5 family data sheet), sysCLOCK PLL timing, and FPGA-TN-02200.
"""

from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In

from eftrain.errors import UserError

__all__ = ["Clocks", "PllSettings", "pll_settings"]

VCO_HZ = (400_000_000, 800_000_000)
PHASE_DETECTOR_HZ = (3_125_000, 400_000_000)
DIVIDER = 128
"""Largest setting of every divider."""

EIGHTHS = 8
"""The fine phase of an output is in eighths of a VCO period."""


@dataclass(frozen=True)
class PllSettings:
    """Settings of an EHXPLLL that feeds its first output back.

    Attributes
    ----------
    input_hz, clock_hz, vco_hz : int
        Input, both outputs, and oscillator.
    input_div, feedback_div, output_div : int
        ``clock = input / input_div * feedback_div``; ``vco = clock * output_div``.
    coarse, shifted_coarse : int
        CPHASE of the first and the second output, in VCO periods.
    shifted_fine : int
        FPHASE of the second output, in eighths of a VCO period.
    """

    input_hz: int
    clock_hz: int
    vco_hz: int
    input_div: int
    feedback_div: int
    output_div: int
    coarse: int
    shifted_coarse: int
    shifted_fine: int

    @property
    def phase(self):
        """Degrees by which the second output comes after the first one."""
        steps = (self.shifted_coarse - self.coarse) * EIGHTHS + self.shifted_fine
        return 360 * steps / (EIGHTHS * self.output_div)


def pll_settings(input_hz, clock_hz, phase=0):
    """Settings for an exact frequency, with the oscillator near the middle of its range.

    Parameters
    ----------
    input_hz, clock_hz : int
    phase : float
        Degrees of the second output, 0 to below 360; rounded to what the PLL can do.

    Raises
    ------
    UserError
        If no setting gives ``clock_hz``; the text names the nearest frequency that one gives.
    """
    best, nearest = None, None
    for input_div in range(1, DIVIDER + 1):
        detector = Fraction(input_hz, input_div)
        if not PHASE_DETECTOR_HZ[0] <= detector <= PHASE_DETECTOR_HZ[1]:
            continue
        around = int(clock_hz / detector)
        for feedback_div in (around, around + 1):
            output = detector * feedback_div
            if not 1 <= feedback_div <= DIVIDER or _output_divider(output) is None:
                continue
            if output != clock_hz:
                if nearest is None or abs(output - clock_hz) < abs(nearest - clock_hz):
                    nearest = output
                continue
            # The fastest phase detector jitters least.
            best = best or (input_div, feedback_div, _output_divider(output))
    if best is None:
        hint = f"; the nearest that it gives is {float(nearest) / 1e6:.6g} MHz" if nearest else ""
        raise UserError(
            f"The PLL cannot make a clock of {clock_hz / 1e6:.6g} MHz from {input_hz / 1e6:g} MHz"
            f"{hint}: choose another --clock."
        )
    input_div, feedback_div, output_div = best
    # Half a period, so that the second output can be early as well as late.
    coarse = output_div // 2 - 1
    steps = coarse * EIGHTHS + round(phase % 360 / 360 * output_div * EIGHTHS)
    return PllSettings(
        input_hz=input_hz,
        clock_hz=clock_hz,
        vco_hz=clock_hz * output_div,
        input_div=input_div,
        feedback_div=feedback_div,
        output_div=output_div,
        coarse=coarse,
        shifted_coarse=steps // EIGHTHS % DIVIDER,
        shifted_fine=steps % EIGHTHS,
    )


def _output_divider(clock_hz):
    """The divider that brings the oscillator nearest to the middle of its range, or None."""
    middle = sum(VCO_HZ) / 2
    allowed = [
        div for div in range(2, DIVIDER + 1) if VCO_HZ[0] <= clock_hz * div <= VCO_HZ[1]
    ]  # fmt: skip
    return min(allowed, key=lambda div: abs(clock_hz * div - middle), default=None)


class Clocks(wiring.Component):
    """Clocks of the domains ``sync`` and ``shifted``, which the parent has, from an oscillator.

    ``sync`` is reset until the PLL has locked, and again if it ever loses its lock; ``shifted`` has
    the same frequency and no reset.

    Parameters
    ----------
    settings : PllSettings

    Members
    -------
    clk : In(1)
        Oscillator.
    """

    clk: In(1)

    def __init__(self, settings):
        self.settings = settings
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        settings = self.settings
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{settings.input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{settings.clock_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOS=f"{settings.clock_hz / 1e6:g}",
            # Loop filter as Lattice's tools set it for these oscillator frequencies.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=settings.input_div,
            p_CLKFB_DIV=settings.feedback_div,
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=settings.output_div,
            p_CLKOP_CPHASE=settings.coarse,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=settings.output_div,
            p_CLKOS_CPHASE=settings.shifted_coarse,
            p_CLKOS_FPHASE=settings.shifted_fine,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_CLKI=self.clk,
            i_CLKFB=ClockSignal("sync"),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=ClockSignal("sync"),
            o_CLKOS=ClockSignal("shifted"),
            o_LOCK=locked,
        )
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m
