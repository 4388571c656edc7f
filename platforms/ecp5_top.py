"""A complete system on an ECP5 board: clocks, reset, pads of the SDRAM and the serial line, LEDs.

Timing of the SDRAM's pins
--------------------------
All outputs leave registers in the pads, at the rising edge of ``sync``; data is caught in registers
in the pads at the same edge. The SDRAM's clock leaves through the same kind of pad, ``phase``
later, so that the delay of a pad does not count for commands; for data it does::

    sync     __/‾‾‾‾\\____/‾‾‾‾\\____/      command   ======X=========X====
    SDRAM    _____/‾‾‾‾\\____/‾‾‾‾\\_       data               <X===X>  caught at the next edge

:func:`sdram_phase` places the clock in the middle of what the data sheets allow. A word of CAS
latency CL is in the pad's register CL cycles after the command left its own.
"""

from amaranth.hdl import ClockDomain, Elaboratable, Module, Mux, Signal
from amaranth.lib import io

from eftrain.errors import UserError

from .ecp5_pll import Clocks, pll_settings

__all__ = ["SystemTop", "check_platform", "sdram_phase", "sdram_slack"]

DEVICES = ("LFE5U-85F", "LFE5UM-85F", "LFE5UM5G-85F")

SDRAM_OUTPUTS = {
    "clk_en": ("cke", 1), "cs": ("cs_n", 1), "ras": ("ras_n", 1), "cas": ("cas_n", 1),
    "we": ("we_n", 1), "ba": ("ba", 2), "a": ("a", 13), "dqm": ("dqm", 2),
}  # fmt: skip
"""Pins of the board: member of the controller's pins, and width."""

_WORD_BITS = 16

CAPTURE = 1
"""Of the memory controller: two registers in the pads, less the cycle by which ``phase`` gives the
SDRAM its command early."""

# Nanoseconds. SDRAM: the worse of IS42S16160G-7 and MT48LC16M16A2-75, CAS latency 2. ECP5: about
# the external switching characteristics of the -6 grade with a PLL, FPGA-DS-02012. By `SKEW` two
# pads with their traces may differ.
SDRAM_SETUP, SDRAM_HOLD = 1.5, 0.8
SDRAM_ACCESS, SDRAM_OUTPUT_HOLD = 6.0, 2.7
PAD_OUT = (1.5, 4.5)
PAD_SETUP, PAD_HOLD = 1.2, 1.0
SKEW = 1.0


def sdram_slack(clock_hz, phase):
    """Worst slack in ns of the SDRAM's pins, for commands and for data read.

    Parameters
    ----------
    clock_hz : int
    phase : float
        Degrees by which the SDRAM's clock follows ``sync``.

    Returns
    -------
    commands, data : float
        Smaller of setup and hold slack.
    """
    period = 1e9 / clock_hz
    late = period * phase / 360
    commands = min(late - SDRAM_SETUP, period - late - SDRAM_HOLD) - SKEW
    setup = period - late - PAD_OUT[1] - SDRAM_ACCESS - PAD_SETUP
    hold = late + PAD_OUT[0] + SDRAM_OUTPUT_HOLD - PAD_HOLD
    return commands, min(setup, hold) - SKEW


def sdram_phase(clock_hz):
    """The phase with the largest :func:`sdram_slack`, in degrees.

    Raises
    ------
    UserError
        If no phase works: the clock is too fast for this SDRAM.
    """
    best = max(range(0, 360, 5), key=lambda phase: (min(sdram_slack(clock_hz, phase)), -phase))
    if min(sdram_slack(clock_hz, best)) < 0:
        raise UserError(
            f"The SDRAM's pins do not work at {clock_hz / 1e6:g} MHz: choose a lower --clock."
        )
    return best


def check_platform(platform):
    """Raise ``UserError`` that names the part a board lacks.

    Parameters
    ----------
    platform : amaranth.vendor.LatticePlatform
    """
    name = type(platform).__name__
    if platform.device not in DEVICES:
        raise UserError(
            f"{name} has an {platform.device}, and the system needs one of {', '.join(DEVICES)}."
        )
    needed = {"sdram": "a 32 MB SDRAM of 16 bits", "uart": "a serial line to the host"}
    for resource, meaning in needed.items():
        if (resource, 0) not in platform.resources:
            raise UserError(
                f"{name} has no {resource!r} resource, {meaning}; choose another board."
            )
    if platform.default_clk is None or (platform.default_clk, 0) not in platform.resources:
        raise UserError(f"{name} has no default clock; choose another board.")
    pins = {pin.name: pin.ios[0] for pin in platform.lookup("sdram").ios if hasattr(pin, "ios")}
    widths = {"clk": 1, "dq": _WORD_BITS}
    widths |= {name: width for name, (_, width) in SDRAM_OUTPUTS.items()}
    for pin, width in widths.items():
        found = len(pins[pin].names) if pin in pins else 0
        if found != width and (found or pin not in ("clk_en", "cs")):
            raise UserError(
                f"The SDRAM of {name} has {found} pins {pin!r}, and the controller drives {width}; "
                "choose another board."
            )


class SystemTop(Elaboratable):
    """Joins a system to the pins of a board.

    Parameters
    ----------
    system : Component
        With ``rx``, ``tx``, ``sdram`` (``SdramPins``) and ``irq``, in domain ``sync``.
    clock_hz : int
        Frequency of ``sync``.
    """

    def __init__(self, system, clock_hz):
        self.system = system
        self.clock_hz = clock_hz

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.shifted = ClockDomain(reset_less=True)
        oscillator = platform.request(platform.default_clk, dir="-")
        m.submodules.oscillator = buffer = io.Buffer("i", oscillator)
        phase = sdram_phase(self.clock_hz)
        m.submodules.clocks = clocks = Clocks(
            pll_settings(int(platform.default_clk_frequency), self.clock_hz, phase)
        )
        m.d.comb += clocks.clk.eq(buffer.i)
        m.submodules.system = self.system
        self._serial(m, platform)
        self._sdram(m, platform)
        self._leds(m, platform)
        return m

    def _serial(self, m, platform):
        uart = platform.request("uart", 0, dir="-")
        # The bridge synchronises the input itself.
        m.submodules.serial_rx = rx = io.Buffer("i", uart.rx)
        m.submodules.serial_tx = tx = io.FFBuffer("o", uart.tx)
        m.d.comb += [self.system.rx.eq(rx.i), tx.o.eq(self.system.tx)]

    def _sdram(self, m, platform):
        pins = self.system.sdram
        sdram = platform.request("sdram", 0, dir="-")
        # High in the first half of the shifted cycle.
        m.submodules.sdram_clk = clk = io.DDRBuffer("o", sdram.clk, o_domain="shifted")
        m.d.comb += [clk.o[0].eq(1), clk.o[1].eq(0)]
        for name, (member, _) in SDRAM_OUTPUTS.items():
            if not hasattr(sdram, name):
                continue
            value = getattr(pins, member)
            m.submodules[f"sdram_{name}"] = pad = io.FFBuffer("o", getattr(sdram, name))
            # The platform describes active-low pins as inverted.
            m.d.comb += pad.o.eq(~value if member.endswith("_n") else value)
        m.submodules.sdram_dq = pad = io.FFBuffer("io", sdram.dq)
        m.d.comb += [pad.o.eq(pins.dq_o), pad.oe.eq(pins.dq_oe), pins.dq_i.eq(pad.i)]

    def _leds(self, m, platform):
        """LED 0: a flash every second; 1: the core interrupts; 2 and 3: bytes come and go."""
        beat, traffic = Signal(range(self.clock_hz)), Signal(2)
        m.d.sync += beat.eq(Mux(beat == self.clock_hz - 1, 0, beat + 1))
        flash = beat < self.clock_hz // 8
        # A bit is too short to be seen: what was low lights until the next flash ends.
        for index, line in enumerate((self.system.rx, self.system.tx)):
            with m.If(~line):
                m.d.sync += traffic[index].eq(1)
            with m.Elif(flash):
                m.d.sync += traffic[index].eq(0)
        for number, signal in enumerate((flash, self.system.irq, *traffic)):
            if ("led", number) not in platform.resources:
                break
            led = platform.request("led", number, dir="-")
            m.submodules[f"led{number}"] = pad = io.FFBuffer("o", led)
            m.d.comb += pad.o.eq(signal)
