"""SDRAM parts: geometry and timing of their data sheets, and the clock cycles that come of it."""

from dataclasses import dataclass, fields

__all__ = [
    "BURST_WORDS",
    "MAX_POSTPONED",
    "IS42S16160G_7",
    "MT48LC16M16A2_75",
    "ULX3S_PART",
    "WORD_BYTES",
    "SdramCycles",
    "SdramPart",
    "slowest",
]

MAX_POSTPONED = 8
"""Refreshes that may be postponed, one after the other made up for later."""

BURST_WORDS = 8
"""Words of a burst, as programmed into the mode register: together one 128-bit AXI beat."""

WORD_BYTES = 2
"""Width of the data pins."""


@dataclass(frozen=True)
class SdramCycles:
    """Timing of a part in cycles of one clock, each the fewest that satisfy the data sheet.

    ``refresh_interval`` is the other way round, the most cycles from one refresh to the next; it is
    so short that each row is refreshed within tREF even if :data:`MAX_POSTPONED` refreshes are
    late. ``t_ras`` also covers tRC: a row that was open so long may be followed by another after
    ``t_rp``.
    """

    cas_latency: int
    t_rcd: int
    t_rp: int
    t_ras: int
    t_rrd: int
    t_wr: int
    t_mrd: int
    t_rfc: int
    power_up: int
    refresh_interval: int


@dataclass(frozen=True, kw_only=True)
class SdramPart:
    """A 16-bit single data rate SDRAM with four banks.

    Attributes
    ----------
    name : str
        As ordered.
    row_bits, column_bits : int
        A bank has ``2**row_bits`` rows of ``2**column_bits`` words.
    t_ck2, t_ck3 : float
        Shortest clock period with CAS latency 2 and 3, ns.
    t_rcd, t_rp, t_ras, t_rc, t_rrd, t_wr, t_rfc : float
        ACTIVE to READ or WRITE, PRECHARGE to the next command of the bank, ACTIVE to PRECHARGE,
        ACTIVE to ACTIVE of the same and of another bank, last word written to PRECHARGE (also
        called tDPL), refresh to the next command; shortest, ns.
    t_ras_max : float
        Longest time that a row may be open, ns.
    t_mrd, mrd_clocks : float, int
        Mode register set to the next command: ns, and at least so many clocks.
    power_up : float
        Pause between stable power and the first command, ns.
    t_ref : float
        In this time each row must be refreshed once, ns.
    """

    name: str
    row_bits: int = 13
    column_bits: int = 9
    t_ck2: float
    t_ck3: float
    t_rcd: float
    t_rp: float
    t_ras: float
    t_ras_max: float
    t_rc: float
    t_rrd: float
    t_wr: float
    t_rfc: float
    t_mrd: float
    mrd_clocks: int = 2
    power_up: float = 200e3
    t_ref: float = 64e6

    @property
    def size(self):
        """Bytes of the part."""
        return 4 * WORD_BYTES << (self.row_bits + self.column_bits)

    def cycles(self, clock_hz):
        """The timing at a clock, with the shortest CAS latency that it allows.

        Raises
        ------
        :exc:`ValueError`
            If the part is not specified for so fast a clock.
        """

        def picoseconds(nanoseconds):
            return round(nanoseconds * 1000)

        def at_least(nanoseconds):
            return max(1, -(-picoseconds(nanoseconds) * clock_hz // 10**12))

        def period_fits(nanoseconds):
            return picoseconds(nanoseconds) * clock_hz <= 10**12

        if not period_fits(self.t_ck3):
            raise ValueError(
                f"{self.name} allows at most {1e3 / self.t_ck3:.1f} MHz, not "
                f"{clock_hz / 1e6:g} MHz."
            )
        t_rp = at_least(self.t_rp)
        intervals = (1 << self.row_bits) + MAX_POSTPONED + 1
        return SdramCycles(
            cas_latency=2 if period_fits(self.t_ck2) else 3,
            t_rcd=at_least(self.t_rcd),
            t_rp=t_rp,
            t_ras=max(at_least(self.t_ras), at_least(self.t_rc) - t_rp),
            t_rrd=at_least(self.t_rrd),
            t_wr=at_least(self.t_wr),
            t_mrd=max(self.mrd_clocks, at_least(self.t_mrd)),
            t_rfc=at_least(self.t_rfc),
            power_up=at_least(self.power_up),
            refresh_interval=picoseconds(self.t_ref) * clock_hz // 10**12 // intervals,
        )


def slowest(name, *parts):
    """A part whose timing suits every one of ``parts``, which must have the same geometry."""
    if len({(part.row_bits, part.column_bits) for part in parts}) != 1:
        raise ValueError(f"{', '.join(part.name for part in parts)} differ in rows or columns.")
    chosen = {"name": name}
    for field in fields(SdramPart):
        if field.name != "name":
            choose = min if field.name in ("t_ras_max", "t_ref") else max
            chosen[field.name] = choose(getattr(part, field.name) for part in parts)
    return SdramPart(**chosen)


MT48LC16M16A2_75 = SdramPart(
    name="MT48LC16M16A2-75",
    t_ck2=10,
    t_ck3=7.5,
    t_rcd=20,
    t_rp=20,
    t_ras=44,
    t_ras_max=120e3,
    t_rc=66,
    t_rrd=15,
    t_wr=15,
    t_rfc=66,
    t_mrd=0,
)
"""Micron 256 Mb, 4 banks of 4 M x 16 (data sheet 256Mb x4, x8, x16 SDRAM, table 12)."""

IS42S16160G_7 = SdramPart(
    name="IS42S16160G-7",
    t_ck2=10,
    t_ck3=7,
    t_rcd=15,
    t_rp=15,
    t_ras=37,
    t_ras_max=100e3,
    t_rc=60,
    t_rrd=14,
    t_wr=14,
    t_rfc=60,
    t_mrd=14,
)
"""ISSI 256 Mb, 4 banks of 4 M x 16."""

ULX3S_PART = slowest("ULX3S SDRAM", MT48LC16M16A2_75, IS42S16160G_7)
"""Boards carry one or the other; this suits both."""
