"""Programs whose descriptors overlap wherever the interpreter finds that they may."""

from interpreter_checks import PASSES
from isa_interpreter import InterpretedDevice
from raw_program import GUARD, Program

from eftrain.driver import Driver
from eftrain_hdl import isa
from eftrain_hdl.isa import Flag

AHEAD = (Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY, Flag.AHEAD_SIDE)


def with_flag(descriptor, flag, value=True):
    """The descriptor with one bit of its flags set or cleared."""
    word, bit = int.from_bytes(descriptor[:4], "little"), 1 << (8 + flag)
    return (word | bit if value else word & ~bit).to_bytes(4, "little") + descriptor[4:]


def all_ahead(code):
    """Every layer pass with all three AHEAD flags."""
    code = list(code)
    for index, descriptor in enumerate(code):
        if isa.decode(descriptor)[0] in PASSES:
            for flag in AHEAD:
                descriptor = with_flag(descriptor, flag)
            code[index] = descriptor
    return code


def without_hazards(code, hazards):
    """``code`` without the AHEAD flags that let a descriptor read too early."""
    code = list(code)
    for hazard in hazards:
        code[hazard.position] = with_flag(code[hazard.position], hazard.flag, False)
    return code


class OverlappedProgram(Program):
    """A ``Program`` that sets every AHEAD flag that does no harm before it runs."""

    def arranged(self, code):
        base, size = self.device.memory_base, self.top + GUARD - self.device.memory_base
        memory, place = self.device.read_memory(base, size), -(-size // GUARD) * GUARD
        total = place + len(code) * isa.DESCRIPTOR_BYTES
        code = all_ahead(code)
        twin = InterpretedDevice(self.config, base, total)
        twin.memory.hazards = []
        twin.write_memory(base, memory)
        twin.write_memory(base + place, b"".join(code))
        Driver(twin).run(base + place, len(code), (base, base + total))
        return without_hazards(code, twin.memory.hazards)
