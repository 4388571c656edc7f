"""The largest batch whose training step fits a memory."""

from eftrain_hdl.isa import DESCRIPTOR_BYTES

from ..errors import UserError
from ..job import MAX_BATCH, PROGRAM, Section, reserve
from .memory import MemoryMap

__all__ = ["fitting_batch"]

LOOP_DESCRIPTORS = 5
"""Descriptors of a program that are no passes: two loops and END."""


def fitting_batch(schedule, batch, size):
    """The largest batch up to ``batch`` whose step fits ``size`` bytes; 0 if none does.

    Parameters
    ----------
    schedule : Schedule
        Of a network that can be trained.
    batch, size : int
    """
    low, high = 0, min(batch, MAX_BATCH)
    if _fits(schedule, high, size):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(schedule, middle, size) else (low, middle)
    return low


def _fits(schedule, batch, size):
    memory = MemoryMap(0, size)
    try:
        passes = schedule.untiled_step(batch)
        reserve(memory, schedule, [Section("fit", "train", batch, batch)], [passes])
        memory.add(PROGRAM, (len(passes) + LOOP_DESCRIPTORS) * DESCRIPTOR_BYTES)
        memory.check()
    except UserError:
        return False
    return True
