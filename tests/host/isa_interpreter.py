"""An interpreter of programs in numpy, written from isa.py and architecture.md alone.

It is the oracle for planner, packer and driver: it walks tiles as the pages describe, checks what
the device checks, and computes in fp32 without the device's rounding. It is not a back-end.
"""

from math import prod

import numpy as np
from pass_interpreter import ProgramStop, check_pass, run_pass

from eftrain.devices.base import Device
from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, ErrorUnit, Opcode

DESCRIPTOR_CYCLES = 1000
"""Pretended duration of a descriptor: something for the driver's polling to see."""

CLEAR_CYCLES = 2000
"""Pretended duration of a reset."""


class InterpretedDevice(Device):
    """Registers and memory of a core that interprets its program descriptor by descriptor."""

    name = "interpreter"

    def __init__(self, config, memory_base=0x1000_0000, memory_size=1 << 23):
        self.config = config
        self.memory_base, self.memory_size = memory_base, memory_size
        # NaN everywhere: what nobody wrote must not matter.
        self.words = np.full(memory_size // 4, np.nan, np.float32)
        self.registers = {register.name: 0 for register in isa.REGISTERS}
        self.registers |= {
            "ID": isa.PRODUCT_ID, "ISA_VERSION": isa.ISA_VERSION,
            "ARRAY": config.rows | config.lanes << 16,
            "FORMAT": isa.Format[config.format.upper()] | config.data_bits << 16,
            "STREAM_DEPTH": config.stream_depth, "STATIONARY_DEPTH": config.stationary_depth,
            "ACCUMULATOR_DEPTH": config.accumulator_depth, "MAX_CLASSES": config.max_classes,
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
        return self.words.view(np.uint8)[offset:offset + size].tobytes()

    def write_memory(self, address, data):
        offset = address - self.memory_base
        self.words.view(np.uint8)[offset:offset + len(data)] = np.frombuffer(data, np.uint8)

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
        while self._program and self._budget >= DESCRIPTOR_CYCLES:
            self._budget -= DESCRIPTOR_CYCLES
            self._cycles += DESCRIPTOR_CYCLES
            try:
                next(self._program)
            except StopIteration:
                self._stop("done")
            except ProgramStop as stop:
                self.registers["ERROR"] = int(stop.code) | int(stop.unit) << 8
                self.registers["ERROR_DESCRIPTOR"] = self.registers["CURRENT_DESCRIPTOR"]
                self._stop("error")
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
            self._program = self._run()

    def index(self, addresses, unit):
        """Word indices of byte addresses, after the window check."""
        low, high = int(addresses.min()), int(addresses.max()) + 4
        if low < self.registers["WINDOW_BASE"] or high > self.registers["WINDOW_LIMIT"]:
            raise ProgramStop(ErrorCode.ADDRESS_OUT_OF_WINDOW, unit)
        if low < self.memory_base or high > self.memory_base + self.memory_size:
            raise ProgramStop(ErrorCode.BUS_RESPONSE, unit)
        return (addresses - self.memory_base) // 4

    def _run(self):
        """Execute the program; yields after every descriptor."""
        pointers, loops, position = [0] * isa.POINTERS, [], 0
        while True:
            if position >= self.registers["PROGRAM_LENGTH"]:
                raise ProgramStop(ErrorCode.PROGRAM_OVERRUN)
            self.registers["CURRENT_DESCRIPTOR"] = position
            opcode, flags, values = self._fetch(position)
            position += 1
            if opcode is Opcode.END:
                return
            if opcode is Opcode.LOOP:
                if values["count"] == 0:
                    raise ProgramStop(ErrorCode.ZERO_DIMENSION)
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
            elif opcode is Opcode.LOSS:
                self._loss(flags, _moved(values, pointers))
            else:
                values = _moved(values, pointers)
                check_pass(self.config, opcode, flags, values)
                run_pass(self, opcode, flags, values)
            yield

    def _fetch(self, position):
        base = self.registers["PROGRAM_ADDRESS"] + position * isa.DESCRIPTOR_BYTES
        where = base + 4 * np.arange(isa.DESCRIPTOR_WORDS)
        blob = self.words[self.index(where, ErrorUnit.FETCH)].tobytes()
        try:
            opcode, flags, values = isa.decode(blob)
        except ValueError as error:
            raise ProgramStop(ErrorCode.UNKNOWN_OPCODE) from error
        legal = isa.LEGAL_FLAGS[opcode]
        if not flags <= set(legal) or any(set(pair) <= flags for pair in isa.EXCLUSIVE_FLAGS):
            raise ProgramStop(ErrorCode.ILLEGAL_FLAGS)
        for name, value in values.items():
            if name.endswith(("_base", "_stride")) and value % isa.ALIGNMENT:
                raise ProgramStop(ErrorCode.MISALIGNED_ADDRESS)
        return opcode, flags, values

    def _loss(self, flags, values):
        images, classes, group = values["images"], values["classes"], self.config.group
        if not prod((images, classes)):
            raise ProgramStop(ErrorCode.ZERO_DIMENSION)
        if classes > self.config.max_classes:
            raise ProgramStop(ErrorCode.OVERSIZED_DIMENSION)
        width = -(-classes // group) * group
        offsets = 4 * np.arange(images * width).reshape(images, width)
        where = self.index(values["stream_base"] + offsets, ErrorUnit.STREAM)
        logits = self.words[where][:, :classes].astype(np.float64)
        where = self.index(values["side_base"] + 4 * np.arange(images), ErrorUnit.SIDE)
        labels = self.words.view(np.uint32)[where]
        if (labels >= classes).any():
            raise ProgramStop(ErrorCode.LABEL_OUT_OF_RANGE, ErrorUnit.LOSS)
        shifted = logits - logits.max(axis=1, keepdims=True)
        chances = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        rows = np.arange(images)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]
        correct = int((logits.argmax(axis=1) == labels).sum())
        if isa.Flag.GRADIENT in flags:
            gradient = np.zeros((images, width))
            gradient[:, :classes] = chances
            gradient[rows, labels] -= 1
            where = self.index(values["output_base"] + offsets, ErrorUnit.WRITE)
            self.words[where] = (gradient * values["scale"]).astype(np.float32)
        self.registers["RESULTS"] += 1
        record = np.array([0, correct, images, self.registers["RESULTS"]], np.uint32)
        record[:1].view(np.float32)[0] = losses.sum() * values["scale"]
        where = self.index(values["bias_base"] + 4 * np.arange(isa.RESULT_WORDS), ErrorUnit.WRITE)
        self.words.view(np.uint32)[where] = record


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


