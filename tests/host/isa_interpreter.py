"""An interpreter of programs in numpy, written from isa.py and architecture.md alone.

It is the oracle for planner, packer, driver and core: it walks tiles as the pages describe, checks
what the device checks, and computes in fp32 without the device's rounding. One descriptor runs
after another; where the device may overlap two, the order of reads and writes is checked instead.
It is not a back-end.
"""

import numpy as np
from interpreter_checks import check
from interpreter_memory import Memory, ProgramStop
from pass_interpreter import run_pass
from vector_interpreter import run_loss, run_norm

from eftrain.devices.base import Device
from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, Opcode

DESCRIPTOR_CYCLES = 1000
"""Pretended duration of a descriptor: something for the driver's polling to see."""

CLEAR_CYCLES = 2000
"""Pretended duration of a reset."""


class InterpretedDevice(Device):
    """Registers and memory of a core that interprets its program descriptor by descriptor.

    Attributes
    ----------
    memory : interpreter_memory.Memory
    largest : float
        Upper bound of all sums of magnitudes so far; fp32 adds integers exactly up to 2**24.
    """

    name = "interpreter"

    def __init__(self, config, memory_base=0x1000_0000, memory_size=1 << 23):
        self.config = config
        self.memory_base, self.memory_size = memory_base, memory_size
        self.memory = Memory(memory_base, memory_size)
        self.largest = 0.0
        self.registers = {register.name: 0 for register in isa.REGISTERS}
        self.registers |= {
            "ID": isa.PRODUCT_ID,
            "ISA_VERSION": isa.ISA_VERSION,
            "ARRAY": config.rows | config.lanes << 16,
            "FORMAT": isa.Format[config.format.upper()] | config.data_bits << 16,
            "STREAM_DEPTH": config.stream_depth,
            "STATIONARY_DEPTH": config.stationary_depth,
            "ACCUMULATOR_DEPTH": config.accumulator_depth,
            "MAX_CLASSES": config.max_classes,
            "FEATURES": int(config.batch_norm),
        }
        self._names = {register.address: register for register in isa.REGISTERS}
        self._program = None
        self._budget = 0
        self._cycles = 0
        self._clear()

    def close(self):
        pass

    def read_memory(self, address, size):
        offset = address - self.memory_base
        return self.memory.bytes[offset : offset + size].tobytes()

    def write_memory(self, address, data):
        offset = address - self.memory_base
        self.memory.bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    @property
    def words(self):
        return self.memory.words

    def saw(self, values):
        """Remember Inf and NaN among the results of a pass, the losses, what NORM writes."""
        if not np.isfinite(values).all():
            self._status("nonfinite", True)

    def bound(self, magnitude):
        """Remember how large a sum can have become on its way."""
        self.largest = max(self.largest, float(magnitude))

    def read_register(self, address):
        register = self._names[address]
        if register.name == "CYCLES_LOW":
            self.registers["CYCLES_HIGH"] = self._cycles >> 32
            return self._cycles & 0xFFFFFFFF
        return self.registers[register.name]

    def write_register(self, address, value):
        register = self._names[address]
        if register.name == "CONTROL":
            self._control({field.name for field in register.fields if value >> field.lsb & 1})
        elif register.access == "w1c":
            self.registers[register.name] &= ~value
        elif register.access == "rw":
            if not (register.name.startswith("WINDOW") and self._status("window_locked")):
                self.registers[register.name] = value

    def _clear(self):
        """Busy for a while, as after every reset."""
        self._clearing = CLEAR_CYCLES
        self._status("busy", True)

    def wait(self, cycles):
        if self._clearing:
            self._clearing = max(0, self._clearing - cycles)
            self._status("busy", self._clearing > 0)
        self._budget += cycles
        while self._program and self._budget >= DESCRIPTOR_CYCLES and not self._interrupts():
            self._budget -= DESCRIPTOR_CYCLES
            self._cycles += DESCRIPTOR_CYCLES
            try:
                next(self._program)
                self.registers["IRQ_STATUS"] |= 4
            except StopIteration:
                self._stop("done")
            except ProgramStop as stop:
                self.registers["ERROR"] = int(stop.code) | int(stop.unit) << 8
                self.registers["ERROR_DESCRIPTOR"] = self.registers["CURRENT_DESCRIPTOR"]
                self._stop("error")
        if self._interrupts():
            self._budget = 0
        return self._interrupts()

    def _interrupts(self):
        return bool(self.registers["IRQ_STATUS"] & self.registers["IRQ_ENABLE"])

    def _status(self, name, value=None):
        field = next(f for f in isa.REGISTER["STATUS"].fields if f.name == name)
        if value is not None:
            self.registers["STATUS"] &= ~(1 << field.lsb)
            self.registers["STATUS"] |= int(value) << field.lsb
        return bool(self.registers["STATUS"] >> field.lsb & 1)

    def _stop(self, status):
        self._program = None
        self._status("busy", False)
        self._status(status, True)
        self.registers["IRQ_STATUS"] |= {"done": 1, "error": 2}[status]

    def _control(self, commands):
        if "soft_reset" in commands:
            self._program = None
            self.registers["STATUS"] &= 1 << 4
            self.registers["ERROR"] = 0
            self._clear()
        if "lock_window" in commands:
            self._status("window_locked", True)
        if "start" in commands and not self._status("busy"):
            for name in ("done", "error", "nonfinite"):
                self._status(name, False)
            self._status("busy", True)
            self.registers["RESULTS"] = self._cycles = self._budget = 0
            self.memory.start((self.registers["WINDOW_BASE"], self.registers["WINDOW_LIMIT"]))
            self._program = self._run()

    def _run(self):
        """Execute the program; yields after every descriptor."""
        pointers, loops, position = [0] * isa.POINTERS, [], 0
        while True:
            for name in ("CURRENT", "READ", "COMPUTE", "DRAIN"):
                self.registers[f"{name}_DESCRIPTOR"] = position
            if position >= self.registers["PROGRAM_LENGTH"]:
                raise ProgramStop(ErrorCode.PROGRAM_OVERRUN)
            opcode, flags, values = self._fetch(position)
            position += 1
            values = _moved(values, pointers)
            check(self.config, opcode, flags, values)
            if opcode is Opcode.END:
                return
            if opcode is Opcode.LOOP:
                if len(loops) == isa.LOOP_DEPTH:
                    raise ProgramStop(ErrorCode.LOOP_NESTING)
                loops.append([position, values["count"]])
            elif opcode is Opcode.NEXT:
                if not loops:
                    raise ProgramStop(ErrorCode.LOOP_NESTING)
                for number in range(1, isa.POINTERS):
                    moved = pointers[number] + values[f"increment_{number}"]
                    pointers[number] = moved & 0xFFFFFFFF
                loops[-1][1] -= 1
                if loops[-1][1]:
                    position = loops[-1][0]
                else:
                    loops.pop()
            else:
                exclusive = {Opcode.LOSS: run_loss, Opcode.NORM: run_norm}.get(opcode)
                self.memory.begin(position - 1, flags, exclusive is not None)
                with np.errstate(all="ignore"):
                    if exclusive:
                        exclusive(self, flags, values)
                    else:
                        run_pass(self, opcode, flags, values)
            yield

    def _fetch(self, position):
        base = self.registers["PROGRAM_ADDRESS"] + position * isa.DESCRIPTOR_BYTES
        blob = self.memory.read("fetch", base + 4 * np.arange(isa.DESCRIPTOR_WORDS)).tobytes()
        try:
            opcode, flags, values = isa.decode(blob)
        except ValueError as error:
            raise ProgramStop(ErrorCode.UNKNOWN_OPCODE) from error
        if int.from_bytes(blob[:4], "little") >> 8 != sum(1 << flag for flag in flags):
            raise ProgramStop(ErrorCode.ILLEGAL_FLAGS)
        return opcode, flags, values


def _moved(values, pointers):
    """``values`` with every base moved on by its pointer."""
    moved = dict(values)
    for port in ("stream", "stationary", "output", "side", "bias"):
        if f"{port}_base" in values:
            offset = pointers[values[f"{port}_pointer"]]
            moved[f"{port}_base"] = (values[f"{port}_base"] + offset) & 0xFFFFFFFF
            if port == "bias" and "bias_momentum_base" in values:
                moved["bias_momentum_base"] = (values["bias_momentum_base"] + offset) & 0xFFFFFFFF
    return moved
