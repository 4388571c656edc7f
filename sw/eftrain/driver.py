"""The driver: one way to run a program on every back-end, through registers and memory alone."""

from dataclasses import dataclass

from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig

from .devices.base import DeviceError
from .pack.tensors import unpack_records
from .plan.layout import RECORD_BYTES

POLL_CYCLES = 4096
"""Cycles between two looks at the device. Fixed, so that what is seen when does not depend on the
host's speed; it is also how finely the cycle counts of single steps are resolved."""

WATCHDOG_CYCLES = 1_000_000

IDLE_POLLS, IDLE_POLL_CYCLES = 1000, 64
"""How long a device may take to become idle: far longer than clearing its buffers after a reset."""


class DeviceProgramError(DeviceError):
    """The device stopped a program.

    Attributes
    ----------
    code : eftrain_hdl.isa.ErrorCode
    unit : eftrain_hdl.isa.ErrorUnit
    descriptor : int
        Index of the descriptor that stopped.
    """

    def __init__(self, code, unit, descriptor, name):
        self.code, self.unit, self.descriptor = code, unit, descriptor
        super().__init__(
            f"{name} stopped at descriptor {descriptor}: {isa.ERROR_HELP.get(code, 'no reason')} "
            f"({code.name}, code {int(code)}, unit {unit.name})."
        )


@dataclass(frozen=True)
class Record:
    """One result record: mean loss, correct answers, images, and the cycles when it was seen.

    ``cycles`` counts from the doorbell, in steps of ``POLL_CYCLES``.
    """

    loss: float
    correct: int
    images: int
    cycles: int


@dataclass(frozen=True)
class Outcome:
    """What a program left behind: its records, total cycles, and whether Inf or NaN appeared."""

    records: list
    cycles: int
    nonfinite: bool


class Driver:
    """Runs programs on a ``Device``.

    Parameters
    ----------
    device : eftrain.devices.base.Device
    poll_cycles : int
        Cycles of one ``device.wait``.

    Raises
    ------
    DeviceError
        If the device is not eftrain, or speaks another version of the instruction set.
    """

    def __init__(self, device, poll_cycles=POLL_CYCLES):
        self.device = device
        self.poll_cycles = poll_cycles
        found = self._read("ID")
        if found != isa.PRODUCT_ID:
            raise DeviceError(
                f"{device.name} answers ID {found:#010x} instead of {isa.PRODUCT_ID:#010x}; it is "
                "no eftrain core, or its address is wrong."
            )
        version = self._read("ISA_VERSION")
        if version != isa.ISA_VERSION:
            raise DeviceError(
                f"{device.name} has ISA version {version} and this package speaks "
                f"{isa.ISA_VERSION}; install the package version of the bitstream."
            )
        self.config = self._capabilities()

    def _capabilities(self):
        array, number_format = self._fields("ARRAY"), self._fields("FORMAT")
        return CoreConfig(
            rows=array["rows"],
            lanes=array["lanes"],
            format=isa.Format(number_format["format"]).name.lower(),
            stream_depth=self._read("STREAM_DEPTH"),
            stationary_depth=self._read("STATIONARY_DEPTH"),
            accumulator_depth=self._read("ACCUMULATOR_DEPTH"),
            max_classes=self._read("MAX_CLASSES"),
            batch_norm=bool(self._fields("FEATURES")["batch_norm"]),
        )

    def require(self, config):
        """Raise ``DeviceError`` unless the device has the sizes a program was planned for."""
        names = (
            "rows",
            "lanes",
            "format",
            "stream_depth",
            "stationary_depth",
            "accumulator_depth",
            "max_classes",
            "batch_norm",
        )
        for name in names:
            planned, found = getattr(config, name), getattr(self.config, name)
            if planned != found:
                raise DeviceError(
                    f"The program was planned for {name} {planned} but {self.device.name} has "
                    f"{found}; plan it again for this device."
                )

    def write(self, address, data):
        self.device.write_memory(address, data)

    def read(self, address, size):
        return self.device.read_memory(address, size)

    def reset(self):
        """Soft reset; returns when the device is idle."""
        self._write_bits("CONTROL", "soft_reset")
        if not self._becomes_idle():
            raise DeviceError(
                f"{self.device.name} is still busy after a soft reset; reset the board."
            )

    def _becomes_idle(self):
        for _ in range(IDLE_POLLS):
            if not self._fields("STATUS")["busy"]:
                return True
            self.device.wait(IDLE_POLL_CYCLES)
        return False

    def run(self, address, descriptors, window, records=(0, 0), on_record=None):
        """Ring the doorbell and wait for END.

        Parameters
        ----------
        address, descriptors : int
            Where the program lies and how many descriptors it has.
        window : tuple
            (first byte, first byte past) the device may access.
        records : tuple
            (address, number) of the result records the program writes.
        on_record : callable, optional
            Called with (index, Record) as soon as a record is seen.

        Returns
        -------
        Outcome

        Raises
        ------
        DeviceProgramError
            If the device stopped the program; it has been reset and takes the next one.
        DeviceError
            If the device was busy, or its window is locked to one that leaves the program out.
        """
        self._prepare(address, descriptors, window)
        try:
            seen = self._watch(records, on_record)
        except BaseException:
            # Ctrl-C or a failing callback: leave a device that takes the next program.
            self.reset()
            raise
        status = self._fields("STATUS")
        self._write_bits("IRQ_STATUS", "done", "error")
        if status["error"]:
            raise self._program_error()
        if len(seen) != records[1]:
            raise DeviceError(
                f"{self.device.name} finished with {len(seen)} of {records[1]} result records."
            )
        return Outcome(seen, self._cycles(), bool(status["nonfinite"]))

    def _prepare(self, address, descriptors, window):
        if not self._becomes_idle():
            raise DeviceError(f"{self.device.name} is busy; reset it before a new program.")
        self._write("WINDOW_BASE", window[0])
        self._write("WINDOW_LIMIT", window[1])
        base, limit = self._read("WINDOW_BASE"), self._read("WINDOW_LIMIT")
        # A window that has been locked to more than this program needs serves it as well.
        if not (base <= window[0] and window[1] <= limit):
            raise DeviceError(
                f"The memory window of {self.device.name} is locked to another range; reset the "
                "board to open it."
            )
        self._write("PROGRAM_ADDRESS", address)
        self._write("PROGRAM_LENGTH", descriptors)
        self._write("WATCHDOG", WATCHDOG_CYCLES)
        self._write_bits("IRQ_STATUS", "done", "error")
        self._write_bits("IRQ_ENABLE", "done", "error")
        self._write_bits("CONTROL", "start")

    def _watch(self, records, on_record):
        """The records of the running program, once it has stopped."""
        seen, finished = [], False
        while not finished:
            finished = self.device.wait(self.poll_cycles)
            for record in self._new_records(records, len(seen)):
                seen.append(record)
                if on_record:
                    on_record(len(seen) - 1, record)
        return seen

    def _new_records(self, records, first):
        address, total = records
        ready = min(self._read("RESULTS"), total)
        if ready <= first:
            return
        cycles = self._cycles()
        data = self.read(address + first * RECORD_BYTES, (ready - first) * RECORD_BYTES)
        for index, record in enumerate(unpack_records(data), first):
            if record["number"] != index + 1:
                return  # Counted but not yet in memory; the next look finds it.
            yield Record(
                float(record["loss"]), int(record["correct"]), int(record["images"]), cycles
            )

    def _program_error(self):
        fields = self._fields("ERROR")
        error = DeviceProgramError(
            isa.ErrorCode(fields["code"]),
            isa.ErrorUnit(fields["unit"]),
            self._read("ERROR_DESCRIPTOR"),
            self.device.name,
        )
        self.reset()
        return error

    def _cycles(self):
        low = self._read("CYCLES_LOW")
        return low | self._read("CYCLES_HIGH") << 32

    def _read(self, name):
        return self.device.read_register(isa.REGISTER[name].address)

    def _write(self, name, value):
        self.device.write_register(isa.REGISTER[name].address, value)

    def _fields(self, name):
        value = self._read(name)
        return {f.name: value >> f.lsb & f.mask for f in isa.REGISTER[name].fields}

    def _write_bits(self, name, *bits):
        fields = {f.name: f for f in isa.REGISTER[name].fields}
        self._write(name, sum(1 << fields[bit].lsb for bit in bits))
