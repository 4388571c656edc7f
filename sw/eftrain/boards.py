"""The boards: part, memory, clock, and the cores that are built for them.

Everything about a board that both the host and the gateware's build must know. Pins, clock networks
and vendor scripts are in ``platforms/``.
"""

from dataclasses import dataclass, replace
from enum import Enum

from eftrain_hdl.config import CoreConfig

from .errors import UserError

__all__ = ["BOARDS", "OTHER_ECP5", "Board", "Capacity", "Family", "find", "other_ecp5"]

OTHER_ECP5 = "ecp5:"
"""Names of boards that are not listed here begin with it: see :func:`other_ecp5`."""


class Family(Enum):
    """Family of a part; the value is yosys's name of it."""

    ULTRASCALE_PLUS = "xcup"
    SERIES7 = "xc7"
    ECP5 = "ecp5"


@dataclass(frozen=True)
class Capacity:
    """What a part has.

    Attributes
    ----------
    lut : int
        Look-up tables with 6 inputs, or 4 on ECP5.
    ff, dsp : int
        Flip-flops; multiplier blocks.
    bram36 : float
        Block memory in units of 36 kbit.
    """

    lut: int
    ff: int
    dsp: int
    bram36: float


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Attributes
    ----------
    name, title : str
        On the command line and in files, and in print.
    part : str
        As the vendor's tools call it.
    family : Family
    capacity : Capacity
    clock_hz : int
        Clock of the core that a build asks for.
    memory_base, memory_size : int
        Bytes that host and core share, as the core sees them. On Zynq boards the device itself says
        how much was reserved; this is the most that is asked for.
    presets : tuple of (str, str)
        Array and format of the cores that are built for the board; the first one is the default.
    without_batch_norm : tuple of str
        Arrays whose cores are built without batch-norm, to fit the part.
    serial : bool
        Whether the host is at the other end of a serial line, instead of on the chip.
    """

    name: str
    title: str
    part: str
    family: Family
    capacity: Capacity
    clock_hz: int
    memory_base: int
    memory_size: int
    presets: tuple
    without_batch_norm: tuple = ()
    serial: bool = False

    def core(self, array=None, format=None, batch_norm=None):
        """The ``CoreConfig`` of a core for this board.

        Parameters
        ----------
        array, format : str, optional
            One that is not given is that of the first preset that has the other.
        batch_norm : bool, optional
            As ``without_batch_norm`` says if it is not given.

        Raises
        ------
        UserError
            If there is no such core.
        """
        known = [
            preset
            for preset in self.presets
            if array in (None, preset[0]) and format in (None, preset[1])
        ]
        own_array, own_format = (known or self.presets)[0]
        array, format = array or own_array, format or own_format
        if batch_norm is None:
            batch_norm = array not in self.without_batch_norm
        try:
            return CoreConfig.parse(array, format, batch_norm=batch_norm)
        except ValueError as error:
            raise UserError(str(error)) from None


_BOARDS = (
    Board(
        name="zcu102",
        title="AMD ZCU102",
        part="xczu9eg-ffvb1156-2-e",
        family=Family.ULTRASCALE_PLUS,
        capacity=Capacity(lut=274_080, ff=548_160, dsp=2_520, bram36=912),
        clock_hz=100_000_000,
        memory_base=0x1000_0000,
        memory_size=512 << 20,
        presets=(("16x16", "fp32"), ("32x32", "bf16")),
    ),
    Board(
        name="pynq-z1",
        title="PYNQ-Z1",
        part="xc7z020clg400-1",
        family=Family.SERIES7,
        capacity=Capacity(lut=53_200, ff=106_400, dsp=220, bram36=140),
        clock_hz=50_000_000,
        memory_base=0x1000_0000,
        memory_size=128 << 20,
        presets=(("8x8", "bf16"), ("4x4", "fp32")),
        without_batch_norm=("8x8",),
    ),
    Board(
        name="ulx3s",
        title="ULX3S-85F",
        part="LFE5U-85F-6BG381C",
        family=Family.ECP5,
        capacity=Capacity(lut=83_640, ff=83_640, dsp=156, bram36=104),
        clock_hz=15_000_000,
        memory_base=0x1000_0000,
        memory_size=32 << 20,
        presets=(("4x4", "bf16"),),
        without_batch_norm=("4x4", "8x8"),
        serial=True,
    ),
)

BOARDS = {board.name: board for board in _BOARDS}
"""Name to :class:`Board`."""


def other_ecp5(name, part="LFE5U-85F"):
    """A board that is not listed here and has what the ULX3S has: part, SDRAM and serial line.

    The gateware's build knows which boards do; to the host they are all alike.

    Parameters
    ----------
    name : str
        In amaranth-boards.
    part : str
        With speed grade and package, where they are known.
    """
    return replace(BOARDS["ulx3s"], name=f"{OTHER_ECP5}{name}", title=name, part=part)


def find(name):
    """The board of this name; ``UserError`` that lists the known ones if there is none."""
    if name.startswith(OTHER_ECP5):
        return other_ecp5(name.removeprefix(OTHER_ECP5))
    if name not in BOARDS:
        raise UserError(f"Board {name!r} is unknown; choose one of {', '.join(BOARDS)}.")
    return BOARDS[name]
