"""The AXI memory side: bus signatures, readers, the writer and the read arbiter."""

from .axi import (
    AxiLiteSignature,
    AxiReadSignature,
    AxiWriteSignature,
    BeatLayout,
    BusError,
    FlatPorts,
    RunLayout,
)
from .burst_reader import BurstReader
from .burst_writer import BurstWriter
from .read_arbiter import ReadArbiter

__all__ = [
    "AxiLiteSignature",
    "AxiReadSignature",
    "AxiWriteSignature",
    "BeatLayout",
    "BurstReader",
    "BurstWriter",
    "BusError",
    "FlatPorts",
    "ReadArbiter",
    "RunLayout",
]
