"""A board in software at the other end of a pseudo-terminal, and what can happen to its line.

Its half of the protocol is written from ``docs/serial.md`` alone, not with the host's frame code.
"""

import os
import random
import select
import threading
import tty
import zlib

HELLO, READ_REGISTER, WRITE_REGISTER, READ_MEMORY, WRITE_MEMORY, WAIT, RESET = range(7)
OKAY, BAD_CRC, SLVERR, DECERR, TIMEOUT, BAD_OP, BAD_REQUEST, NO_SESSION = range(8)


class SoftwareBoard:
    """Answers requests in a thread until :meth:`unplug`.

    Attributes
    ----------
    path : str
        The terminal that the host opens.
    writes : list
        (register, value) of the register writes that were done, in order.
    memory : bytearray
    statuses : dict
        op to the status that it gets from now on.
    damage : callable
        (bytes, to_host) to bytes: what the line does to them.
    clock_hz, interrupt : int, bool
        For HELLO and WAIT.
    """

    def __init__(self, *, memory_base=0x1000_0000, memory_size=1 << 16, version=1):
        self.memory_base, self.version = memory_base, version
        self.memory = bytearray(random.Random(3).randbytes(memory_size))
        self.registers, self.writes, self.waits = {}, [], []
        self.statuses = {}
        self.clock_hz, self.interrupt = 1_000_000_000, False
        self.damage = lambda data, to_host: data
        self._kept = self._session = None
        self._plugged = True
        self._master, self._slave = os.openpty()
        self._stopped, self._stop = os.pipe()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def unplug(self):
        """Stop, and close both ends, as far as they are the board's. May be called again."""
        if not self._plugged:
            return
        self._plugged = False
        os.write(self._stop, b"x")
        # Not while the thread may read: the number of a closed file is soon that of another.
        if threading.current_thread() is not self._thread:
            self._thread.join()
        for end in (self._slave, self._master, self._stopped, self._stop):
            os.close(end)

    def restart(self):
        """As after a reset of the board."""
        self._kept = self._session = None

    def _serve(self):
        pending = b""
        while self._plugged:
            select.select([self._master, self._stopped], [], [])
            if not self._plugged:
                return
            data = os.read(self._master, 4096)
            *frames, pending = (pending + self.damage(data, False)).split(b"\x7e")
            for frame in filter(None, frames):
                reply = self.damage(self._frame(self._answer(frame)), True)
                if not self._plugged:
                    return
                os.write(self._master, reply)

    @staticmethod
    def _frame(content):
        content += zlib.crc32(content).to_bytes(4, "little")
        escaped = b"".join(
            bytes([0x7D, byte ^ 0x20]) if byte in (0x7D, 0x7E) else bytes([byte])
            for byte in content
        )
        return b"\x7e" + escaped + b"\x7e"

    def _answer(self, frame):
        content, escaped = bytearray(), False
        for byte in frame:
            if byte == 0x7D:
                escaped = True
            else:
                content.append(byte ^ 0x20 if escaped else byte)
                escaped = False
        body, crc = bytes(content[:-4]), content[-4:]
        if len(body) < 8 or escaped or zlib.crc32(body).to_bytes(4, "little") != crc:
            return bytes([0, 0xFF, BAD_CRC])
        seq, op = body[:2]
        if op == HELLO:
            self._session, self._kept = True, None
        if self._kept and self._kept[0] == seq:
            return self._kept
        address, length = int.from_bytes(body[2:6], "little"), int.from_bytes(body[6:8], "little")
        status, payload = self._execute(op, address, length, body[8:])
        reply = bytes([seq, op | 0x80, status]) + (payload if status == OKAY else b"")
        if op != HELLO:
            self._kept = reply
        return reply

    def _execute(self, op, address, length, payload):
        offset = address - self.memory_base
        if not self._session:
            return NO_SESSION, b""
        if op in self.statuses:
            return self.statuses[op], b""
        if op == HELLO:
            memory = (self.memory_base, len(self.memory))
            words = (self.version, address, self.clock_hz, *memory, 1024, 65536)
            return OKAY, b"".join(word.to_bytes(4, "little") for word in words)
        if op in (READ_MEMORY, WRITE_MEMORY):
            legal = address % 16 == length % 16 == 0 < length <= 1024
            if not legal or address // 4096 != (address + length - 1) // 4096:
                return BAD_REQUEST, b""
            if op == READ_MEMORY:
                return OKAY, bytes(self.memory[offset : offset + length])
            if len(payload) != length:
                return BAD_REQUEST, b""
            self.memory[offset : offset + length] = payload
        elif op == READ_REGISTER:
            return OKAY, self.registers.get(address, 0).to_bytes(4, "little")
        elif op == WRITE_REGISTER:
            self.registers[address] = int.from_bytes(payload, "little")
            self.writes.append((address, self.registers[address]))
        elif op == WAIT:
            self.waits.append(address)
            return OKAY, bytes([self.interrupt])
        return OKAY, b""


class Damage:
    """Loses, changes, doubles and adds bytes at random; also doubles whole pieces."""

    def __init__(self, seed, rate, twice=0.0):
        self._rng, self._rate, self._twice = random.Random(seed), rate, twice

    def __call__(self, data, to_host):
        rng, damaged = self._rng, bytearray()
        for byte in data:
            if rng.random() >= self._rate:
                damaged.append(byte)
                continue
            other = rng.choice([rng.randrange(256), 0x7E, 0x7D])
            damaged += rng.choice(
                [b"", bytes([byte ^ 1 << rng.randrange(8)]), bytes([byte, byte]), bytes([other])]
            )
        return bytes(damaged) * (2 if rng.random() < self._twice else 1)
