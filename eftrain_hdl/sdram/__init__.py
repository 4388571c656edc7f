"""SDRAM controller: a 16-bit SDRAM behind a 128-bit AXI4 port."""

from .controller import SdramController
from .pins import Command, SdramPins
from .timing import (
    IS42S16160G_7,
    MT48LC16M16A2_75,
    ULX3S_PART,
    SdramCycles,
    SdramPart,
    slowest,
)

__all__ = [
    "IS42S16160G_7",
    "MT48LC16M16A2_75",
    "ULX3S_PART",
    "Command",
    "SdramController",
    "SdramCycles",
    "SdramPart",
    "SdramPins",
    "slowest",
]
