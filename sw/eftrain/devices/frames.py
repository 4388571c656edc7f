"""Frames of the serial protocol, as bytes (docs/serial.md)."""

import struct
import zlib
from dataclasses import dataclass

from eftrain_hdl.serial_protocol import (
    FCS_BYTES,
    MAX_PAYLOAD,
    REPLY_HEADER_BYTES,
    REQUEST_HEADER_BYTES,
    Framing,
)

__all__ = ["FrameReader", "Reply", "Request", "decode_frame", "encode_frame", "line_bytes"]

_FLAG, _ESCAPE = bytes([Framing.FLAG]), bytes([Framing.ESCAPE])
_REQUEST = struct.Struct("<BBIH")
_REPLY = struct.Struct("<BBB")

assert (_REQUEST.size, _REPLY.size) == (REQUEST_HEADER_BYTES, REPLY_HEADER_BYTES)

_LONGEST = 2 * (REQUEST_HEADER_BYTES + MAX_PAYLOAD + FCS_BYTES)
"""Bytes between two flags of the longest frame, all of them escaped."""


@dataclass(frozen=True)
class Request:
    """What the host asks for. ``length`` is that of the payload, or of what is to be read."""

    seq: int
    op: int
    address: int = 0
    length: int = 0
    payload: bytes = b""

    def encode(self):
        """The frame, flags included."""
        header = _REQUEST.pack(self.seq, self.op, self.address, self.length)
        return encode_frame(header + self.payload)

    @classmethod
    def parse(cls, content):
        """The request in the content of a frame; None if it is too short."""
        if len(content) < REQUEST_HEADER_BYTES:
            return None
        return cls(*_REQUEST.unpack_from(content), content[REQUEST_HEADER_BYTES:])


@dataclass(frozen=True)
class Reply:
    """What the device answers."""

    seq: int
    op: int
    status: int
    payload: bytes = b""

    def encode(self):
        """The frame, flags included."""
        return encode_frame(_REPLY.pack(self.seq, self.op, self.status) + self.payload)

    @classmethod
    def parse(cls, content):
        """The reply in the content of a frame; None if it is too short."""
        if len(content) < REPLY_HEADER_BYTES:
            return None
        return cls(*_REPLY.unpack_from(content), content[REPLY_HEADER_BYTES:])


def encode_frame(content):
    """``content`` with its CRC, escaped, between flags."""
    content = bytes(content) + zlib.crc32(content).to_bytes(FCS_BYTES, "little")
    # Escapes first: those that the second replacement makes stay as they are.
    for special in (_ESCAPE, _FLAG):
        content = content.replace(special, _ESCAPE + bytes([special[0] ^ Framing.FLIP]))
    return _FLAG + content + _FLAG


def decode_frame(escaped):
    """The content of the bytes between two flags, or None if they are damaged."""
    first, *parts = escaped.split(_ESCAPE)
    if not all(parts):
        return None  # Two escapes in a row, or one at the end.
    content = first + b"".join(bytes([part[0] ^ Framing.FLIP]) + part[1:] for part in parts)
    content, fcs = content[:-FCS_BYTES], content[-FCS_BYTES:]
    if len(fcs) < FCS_BYTES or zlib.crc32(content) != int.from_bytes(fcs, "little"):
        return None
    return content


def line_bytes(payload):
    """Most bytes on the line of a request or reply with so many bytes of payload."""
    return 2 + 2 * (REQUEST_HEADER_BYTES + payload + FCS_BYTES)


class FrameReader:
    """Takes frames out of bytes that come in pieces.

    What precedes the first flag, and what is longer than any frame, counts as damaged.
    """

    def __init__(self):
        self._pending = bytearray()

    def feed(self, data):
        """The contents of the frames that ``data`` completes, None for each damaged one."""
        *ends, rest = bytes(data).split(_FLAG)
        contents = []
        for end in ends:
            self._append(end)
            if self._pending:
                contents.append(decode_frame(bytes(self._pending)))
            self._pending.clear()
        self._append(rest)
        return contents

    def _append(self, data):
        # One byte too many is kept, so that what is too long does not pass for something shorter.
        self._pending += data[: max(0, _LONGEST + 1 - len(self._pending))]
