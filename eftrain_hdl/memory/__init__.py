"""The AXI memory side: bus signatures, readers, writers and arbiters."""

from .axi import (
    AxiLiteSignature,
    AxiReadSignature,
    AxiWriteSignature,
    BeatLayout,
    BusError,
    FlatPorts,
    RunLayout,
    RunTag,
)
from .burst_reader import BurstReader
from .burst_writer import BurstWriter
from .read_arbiter import ReadArbiter
from .read_steer import ReadSteer
from .run_switch import RunSwitch
from .write_arbiter import WriteArbiter

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
    "ReadSteer",
    "RunLayout",
    "RunSwitch",
    "RunTag",
    "WriteArbiter",
]
