"""What docs/serial.md shows: its example host, its bytes, its tables."""

import os
import re
import termios
import tty
from pathlib import Path

import pytest
from software_board import SoftwareBoard

from eftrain.devices import frames
from eftrain_hdl import isa, serial_protocol
from eftrain_hdl.serial_protocol import HELLO_FIELDS, Op, Status

PAGE = (Path(__file__).parents[2] / "docs/serial.md").read_text()


def test_the_example_host_works():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(program, names)
    board = SoftwareBoard()
    port = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    settings = termios.tcgetattr(port)
    settings[6][termios.VMIN], settings[6][termios.VTIME] = 0, 1
    termios.tcsetattr(port, termios.TCSANOW, settings)
    host = names["Host"](port)
    with pytest.raises(RuntimeError, match="status 7"):
        host.request(Op.READ_REGISTER, 0, 4, size=4)
    hello = host.request(Op.HELLO, 0x7E7D, size=28)
    assert int.from_bytes(hello[4:8], "little") == 0x7E7D
    lost = [True, True]

    def lose_two(data, to_host):
        return b"" if to_host and lost and lost.pop() else data

    board.damage = lose_two
    host.request(Op.WRITE_REGISTER, 0x40, 4, b"\1~}\0")
    assert board.writes == [(0x40, 0x007D_7E01)] and not lost
    payload = bytes(range(0x70, 0x80)) * 64
    host.request(Op.WRITE_MEMORY, 0x1000_0400, 1024, payload)
    assert host.request(Op.READ_MEMORY, 0x1000_0400, 1024, size=1024) == payload
    os.close(port)
    board.unplug()


def test_the_example_session():
    rows = re.findall(r"^\| (host|board) \| (`.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    contents = [bytes.fromhex(cell.replace("`", "")) for _, cell, _ in rows]
    hello, hello_reply, read, read_reply, start, again, start_reply = contents
    assert frames.Request.parse(hello) == frames.Request(1, Op.HELLO, 0xDEADBEEF)
    words = [int.from_bytes(hello_reply[at : at + 4], "little") for at in range(3, 31, 4)]
    assert dict(zip(HELLO_FIELDS, words, strict=True)) == {
        "version": serial_protocol.SERIAL_VERSION,
        "nonce": 0xDEADBEEF,
        "clock_hz": 50_000_000,
        "memory_base": 0x1000_0000,
        "memory_size": 32 << 20,
        "max_payload": serial_protocol.MAX_PAYLOAD,
        "timeout_cycles": 65536,
    }
    assert frames.Request.parse(read) == frames.Request(2, Op.READ_REGISTER, 0, 4)
    assert int.from_bytes(frames.Reply.parse(read_reply).payload, "little") == isa.PRODUCT_ID
    address = isa.REGISTER["CONTROL"].address
    assert start == again
    assert frames.Request.parse(start) == frames.Request(
        3, Op.WRITE_REGISTER, address, 4, b"\1\0\0\0"
    )
    assert frames.Reply.parse(start_reply) == frames.Reply(3, Op.WRITE_REGISTER | 0x80, 0)


def test_the_tables_have_all_operations_and_statuses():
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert rows == [(str(int(member)), member.name) for member in (*Op, *Status)]
