"""One configuration object from which every size of the core is derived."""

import re
from dataclasses import dataclass

from .isa import Format

GROUP = 4
"""Channels one beat of the memory bus carries; the side of an array is a multiple of it."""

SIDES = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """Sizes of one core.

    Parameters
    ----------
    rows, lanes : int
        Array size Tm x Tn. Both equal the channel group T: 4, 8, 16 or 32.
    format : str
        Operand format of the array, ``"fp32"`` or ``"bf16"``. Sums are always fp32.
    stream_depth, stationary_depth : int
        Vectors of the stream and stationary ring buffers, a power of two.
    accumulator_depth : int
        Vectors of one of the two accumulator banks, a power of two.
    max_classes : int
        Largest number of classes of the loss unit.
    max_outstanding : int
        Read bursts in flight on one port.
    batch_norm : bool
        Whether the core has the units for batch-norm: a third of a small core. Without them it
        refuses the flags and the opcode of ``isa.BATCH_NORM_FLAGS``.

    Raises
    ------
    ValueError
        If a size is not supported; the text names the nearest one that is.
    """

    rows: int = 8
    lanes: int = 8
    format: str = "fp32"
    stream_depth: int = 4096
    stationary_depth: int = 4096
    accumulator_depth: int = 2048
    max_classes: int = 1024
    max_outstanding: int = 32
    batch_norm: bool = True

    address_bits = 32
    data_bits = 128
    id_bits = 2
    """Of the AXI4 buses; readers that share one have an identifier each."""

    def __post_init__(self):
        if self.rows != self.lanes or self.rows not in SIDES:
            side = min(SIDES, key=lambda s: abs(s - max(self.rows, self.lanes)))
            why = (
                f"no multiple of the channel group {GROUP}"
                if self.rows % GROUP or self.lanes % GROUP
                else "not one of the square arrays " + ", ".join(f"{s}x{s}" for s in SIDES)
            )
            raise ValueError(
                f"Array {self.rows}x{self.lanes} is {why}; the nearest that is supported is "
                f"{side}x{side}."
            )
        names = [f.name.lower() for f in Format]
        if self.format not in names:
            raise ValueError(
                f"Number format {self.format!r} is unknown; choose one of {', '.join(names)}."
            )
        for name in ("stream_depth", "stationary_depth", "accumulator_depth", "max_classes"):
            value = getattr(self, name)
            if value < 64 or value > 32768 or value & (value - 1):
                raise ValueError(f"{name} {value} is not a power of two from 64 to 32768.")
            # The longest run is a buffer full of vectors; its beats are counted in 16 bits.
            if name != "max_classes" and value * self.vector_beats > 32768:
                raise ValueError(
                    f"{name} {value} is too deep for vectors of {self.vector_beats} beats; the "
                    f"deepest is {32768 // self.vector_beats}."
                )
        if not 1 <= self.max_outstanding <= 64:
            raise ValueError(f"max_outstanding {self.max_outstanding} is not from 1 to 64.")

    @classmethod
    def parse(cls, array="8x8", format="fp32", **sizes):
        """Build a configuration from a command line's ``ROWSxLANES`` and format name."""
        match = re.fullmatch(r"(\d+)x(\d+)", array)
        if not match:
            raise ValueError(f"Array {array!r} is not written ROWSxLANES; for example 8x8.")
        return cls(rows=int(match[1]), lanes=int(match[2]), format=format, **sizes)

    @property
    def group(self):
        """Channels stored next to each other, T."""
        return self.lanes

    @property
    def array(self):
        return f"{self.rows}x{self.lanes}"

    @property
    def beat_words(self):
        """fp32 words one bus beat carries."""
        return self.data_bits // 32

    @property
    def beat_bytes(self):
        return self.data_bits // 8

    @property
    def vector_beats(self):
        """Bus beats of one vector of T fp32 words."""
        return self.group // self.beat_words

    @property
    def vector_bytes(self):
        return self.group * 4

    @property
    def block_bytes(self):
        """Bytes of one T x T weight block."""
        return self.group * self.vector_bytes

    @property
    def name(self):
        return f"eftrain_{self.array}_{self.format}"


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """A core with its memory and the line to its host: all of a board that hangs on a serial port.

    Parameters
    ----------
    core : CoreConfig
    clock_hz : int
        Clock of everything.
    baud : int
        Of the serial line, 8 bits without parity.
    capture : int
        When read words are taken from the SDRAM, see ``SdramController``; -1 for one whose clock is
        inverted.
    memory_base : int
        Address of the SDRAM's first byte.
    build : int
        What the BUILD register reads as.
    """

    core: CoreConfig
    clock_hz: int = 50_000_000
    baud: int = 3_000_000
    capture: int = -1
    memory_base: int = 0x1000_0000
    build: int = 0

    @property
    def name(self):
        return f"{self.core.name}_system"
