"""A board at the other end of a serial line, as a device (docs/serial.md)."""

import secrets
import struct

from eftrain_hdl.serial_protocol import (
    HELLO_FIELDS,
    MEMORY_ALIGNMENT,
    SERIAL_VERSION,
    Op,
    Status,
)

from .base import Device, DeviceError
from .serial_link import SerialLink
from .serial_port import SerialPort

__all__ = ["BAUD", "SerialDevice"]

BAUD = 3_000_000
"""Baud rate of a ``SerialDevice`` that is not told otherwise."""

TIMEOUT_SECONDS = 0.5

WAIT_CYCLES = 1 << 20
"""Longest single WAIT: a fraction of a second on a board, seconds in a simulator."""

_HELLO = struct.Struct(f"<{len(HELLO_FIELDS)}I")


class SerialDevice(Device):
    """A core and its memory behind a serial line.

    What the line damages is sent again; nothing is done twice and nothing wrong is returned.
    Writes to memory that begin or end inside a unit of 16 bytes read its other bytes first and
    write them back: the core must not write those meanwhile.

    Parameters
    ----------
    path : str
        Serial port, such as ``/dev/ttyUSB0``.
    baud : int
        That of the bitstream.
    timeout : float
        Seconds that a reply may take beyond the time of its bytes and cycles at the rates of line
        and clock. A simulated board, which is slower than its clock, needs more.
    name : str, optional
        For messages; the path by default.
    port : object, optional
        Instead of the serial port at ``path``: see :class:`SerialLink`; with ``clear`` and
        ``close``.

    Attributes
    ----------
    clock_hz : int
        Clock of the board, as it says.
    statistics : LineStatistics

    Raises
    ------
    UserError, DeviceError
        If the port cannot be opened (see :class:`SerialPort`), or no board answers on it that
        speaks this version of the protocol.
    """

    def __init__(self, path, *, baud=BAUD, timeout=TIMEOUT_SECONDS, name=None, port=None):
        self.name = name or path
        self._port = port or SerialPort(path, baud, write_timeout=10 + timeout)
        self._link = SerialLink(self._port, name=self.name, baud=baud, timeout=timeout)
        self.statistics = self._link.statistics
        try:
            self._hello()
        except BaseException:
            self.close()
            raise

    def _hello(self):
        # What an earlier program left. The nonce tells replies to its requests from ours.
        self._port.clear()
        nonce = secrets.randbits(32)

        def is_ours(reply):
            version, echo = reply.payload[:4], reply.payload[4:8]
            if echo != nonce.to_bytes(4, "little"):
                return False
            self._check_version(int.from_bytes(version, "little"))
            return True

        reply = self._link.request(Op.HELLO, address=nonce, expect=_HELLO.size, accept=is_ours)
        self._check(reply, "greeting")
        hello = dict(zip(HELLO_FIELDS, _HELLO.unpack(reply.payload), strict=True))
        self.clock_hz = hello["clock_hz"]
        self.memory_base, self.memory_size = hello["memory_base"], hello["memory_size"]
        self._max_payload = hello["max_payload"]
        self._bus_seconds = hello["timeout_cycles"] / self.clock_hz

    def _check_version(self, version):
        if version != SERIAL_VERSION:
            raise DeviceError(
                f"{self.name} speaks version {version} of the serial protocol and this package "
                f"version {SERIAL_VERSION}; install the package version of the bitstream."
            )

    def read_register(self, address):
        reply = self._request(
            Op.READ_REGISTER,
            f"read of register 0x{address:03x}",
            address=address,
            length=4,
            expect=4,
        )
        return int.from_bytes(reply.payload, "little")

    def write_register(self, address, value):
        self._request(
            Op.WRITE_REGISTER,
            f"write of register 0x{address:03x}",
            address=address,
            length=4,
            payload=value.to_bytes(4, "little"),
        )

    def read_memory(self, address, size):
        self.check_range(address, size)
        begin, end = _whole_units(address, size)
        data = b"".join(
            self._request(
                Op.READ_MEMORY,
                f"read of {length} bytes of memory at 0x{first:08x}",
                address=first,
                length=length,
                expect=length,
            ).payload
            for first, length in self._pieces(begin, end)
        )
        return data[address - begin : address - begin + size]

    def write_memory(self, address, data):
        data = memoryview(data).cast("B")
        self.check_range(address, len(data))
        begin, end = _whole_units(address, len(data))
        if (begin, end) != (address, address + len(data)):
            before = self.read_memory(begin, address - begin)
            after = self.read_memory(address + len(data), end - address - len(data))
            data = memoryview(before + bytes(data) + after)
        for first, length in self._pieces(begin, end):
            self._request(
                Op.WRITE_MEMORY,
                f"write of {length} bytes of memory at 0x{first:08x}",
                address=first,
                length=length,
                payload=bytes(data[first - begin : first - begin + length]),
            )

    def wait(self, cycles):
        while True:
            part = min(max(cycles, 0), WAIT_CYCLES)
            reply = self._request(
                Op.WAIT, "wait", address=part, expect=1, seconds=part / self.clock_hz
            )
            cycles -= part
            if reply.payload[0] or cycles <= 0:
                return bool(reply.payload[0])

    def reset(self):
        """Reset the core and everything behind the serial bridge; memory may lose what it holds."""
        self._request(Op.RESET, "reset")

    def close(self):
        self._port.close()

    def _request(self, op, what, *, seconds=0.0, **arguments):
        reply = self._link.request(op, seconds=seconds + self._bus_seconds, **arguments)
        self._check(reply, what)
        return reply

    def _check(self, reply, what):
        if reply.status != Status.OKAY:
            raise DeviceError(self._link.describe(reply.status, what))

    def _pieces(self, begin, end):
        """(address, length) of the requests for these bytes; none crosses a multiple of 1 KiB."""
        while begin < end:
            length = min(end, (begin // self._max_payload + 1) * self._max_payload) - begin
            yield begin, length
            begin += length


def _whole_units(address, size):
    """First byte, and first byte past, of the units of 16 bytes that these bytes touch."""
    begin = address // MEMORY_ALIGNMENT * MEMORY_ALIGNMENT
    if size == 0:
        return address, address
    return begin, -(-(address + size) // MEMORY_ALIGNMENT) * MEMORY_ALIGNMENT
