"""Pins of a 16-bit SDRAM."""

from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Command", "SdramPins"]


class Command(enum.Enum, shape=3):
    """Commands of an SDRAM: ``ras_n`` (highest bit), ``cas_n``, ``we_n``."""

    MODE = 0b000
    REFRESH = 0b001
    PRECHARGE = 0b010
    ACTIVE = 0b011
    WRITE = 0b100
    READ = 0b101
    NOP = 0b111


class SdramPins(wiring.Signature):
    """Pins of a 16-bit SDRAM with up to 13 row bits, seen by the controller.

    The controller drives all outputs from registers. Polarity is that of the pins: ``cs_n``,
    ``ras_n``, ``cas_n`` and ``we_n`` are low when active, ``dqm`` is high where a byte is masked.
    ``dq_oe`` is one bit for all data pins.
    """

    def __init__(self):
        super().__init__(
            {
                "cke": Out(1, init=1),
                "cs_n": Out(1, init=1),
                "ras_n": Out(1, init=1),
                "cas_n": Out(1, init=1),
                "we_n": Out(1, init=1),
                "ba": Out(2),
                "a": Out(13),
                "dqm": Out(2, init=3),
                "dq_o": Out(16),
                "dq_oe": Out(1),
                "dq_i": In(16),
            }
        )
