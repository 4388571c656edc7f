"""The serial protocol (``docs/serial.md``), declared once for the bridge and the host.

Imports nothing, so that a host needs neither Amaranth nor numpy to speak it.
"""

from enum import IntEnum

__all__ = [
    "FCS_BYTES",
    "HELLO_FIELDS",
    "MAX_PAYLOAD",
    "MEMORY_ALIGNMENT",
    "NAK",
    "PAGE_BYTES",
    "REPLY",
    "REPLY_HEADER_BYTES",
    "REQUEST_HEADER_BYTES",
    "SERIAL_VERSION",
    "Framing",
    "Op",
    "Status",
]

SERIAL_VERSION = 1
"""Version of the protocol, in the reply to HELLO."""

MAX_PAYLOAD = 1024
"""Most bytes of payload of a frame, either way: the size of the device's buffers."""

MEMORY_ALIGNMENT = 16
"""Address and length of a memory access are multiples of this."""

PAGE_BYTES = 4096
"""No memory access crosses a multiple of this."""

REQUEST_HEADER_BYTES = 8
"""seq (1), op (1), address (4), length (2); numbers of several bytes are little-endian."""

REPLY_HEADER_BYTES = 3
"""seq (1), op | REPLY (1), status (1)."""

FCS_BYTES = 4
"""CRC-32 at the end of a frame, least significant byte first."""

REPLY = 0x80
"""Set in the op of a reply."""

NAK = 0xFF
"""op of a reply to a frame that could not be read; its seq means nothing."""


class Framing(IntEnum):
    """Bytes of HDLC-like framing (RFC 1662, section 4)."""

    FLAG = 0x7E
    ESCAPE = 0x7D
    FLIP = 0x20
    """An escaped byte is sent exclusive-or this."""


class Op(IntEnum):
    """What a request asks for."""

    HELLO = 0
    READ_REGISTER = 1
    WRITE_REGISTER = 2
    READ_MEMORY = 3
    WRITE_MEMORY = 4
    WAIT = 5
    RESET = 6


class Status(IntEnum):
    """How a request ended. Only OKAY comes with a payload."""

    OKAY = 0
    BAD_CRC = 1
    """NAK: a frame arrived damaged. Nothing was done."""
    SLVERR = 2
    """The bus answered SLVERR, as AXI numbers it."""
    DECERR = 3
    """The bus answered DECERR, as AXI numbers it."""
    TIMEOUT = 4
    """The bus did not answer within the device's limit."""
    BAD_OP = 5
    """There is no such op. Nothing was done."""
    BAD_REQUEST = 6
    """Address, length or size of the frame are not legal for the op. Nothing was done."""
    NO_SESSION = 7
    """No HELLO since the device was reset or configured. Nothing was done."""


HELLO_FIELDS = (
    "version",
    "nonce",
    "clock_hz",
    "memory_base",
    "memory_size",
    "max_payload",
    "timeout_cycles",
)
"""Payload of the reply to HELLO: 32-bit words."""
