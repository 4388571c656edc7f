"""Frames of the serial protocol as the host makes and takes them."""

import random
import zlib

import pytest

from eftrain.devices.frames import (
    FrameReader,
    Reply,
    Request,
    decode_frame,
    encode_frame,
    line_bytes,
)
from eftrain_hdl.serial_protocol import MAX_PAYLOAD

CONTENTS = [b"", b"~", b"}", b"}^}]~" * 20, bytes(range(256)) * 4]


@pytest.mark.parametrize("content", CONTENTS)
def test_encoding(content):
    frame = encode_frame(content)
    assert frame[0] == frame[-1] == 0x7E and 0x7E not in frame[1:-1]
    plain, escaped = bytearray(), False
    for byte in frame[1:-1]:
        if byte == 0x7D:
            escaped = True
        else:
            plain.append(byte ^ 0x20 if escaped else byte)
            escaped = False
    assert plain == content + zlib.crc32(content).to_bytes(4, "little")
    assert decode_frame(frame[1:-1]) == content


def test_reader_does_not_mind_how_bytes_come():
    rng = random.Random(2)
    contents = [rng.randbytes(rng.randint(1, 60)) for _ in range(50)]
    line = b"".join(encode_frame(content) for content in contents)
    reader, found = FrameReader(), []
    while line:
        size = rng.randint(1, 50)
        found += reader.feed(line[:size])
        line = line[size:]
    assert found == contents


def test_damage_is_never_taken_for_a_frame():
    rng = random.Random(3)
    content = b"}~content~}"
    frame = encode_frame(content)
    for _ in range(3000):
        damaged = bytearray(frame)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged))
            damaged[at : at + 1] = rng.choice([b"", b"}", b"~", rng.randbytes(1), b"ab"])
        reader = FrameReader()
        # Damage may undo itself, and may leave the frame whole beside a piece.
        assert set(reader.feed(damaged + frame)) <= {None, content}


def test_what_is_too_long_is_damage_and_takes_no_memory():
    reader = FrameReader()
    for _ in range(100):
        assert reader.feed(b"x" * 1000) == []
    assert len(reader._pending) <= line_bytes(MAX_PAYLOAD)
    assert reader.feed(b"~" + encode_frame(b"next")) == [None, b"next"]


def test_headers():
    request = Request(1, 2, 0x1234_5678, 0x9A, b"payload")
    assert request.encode() == encode_frame(b"\1\2\x78\x56\x34\x12\x9a\0payload")
    assert Request.parse(b"\1\2\x78\x56\x34\x12\x9a\0payload") == request
    reply = Reply(1, 0x82, 4, b"payload")
    assert reply.encode() == encode_frame(b"\1\x82\4payload")
    assert Reply.parse(b"\1\x82\4payload") == reply
    assert Reply.parse(b"\1\2") is None and Request.parse(b"\1\2\3\4\5\6\7") is None


def test_longest_frame():
    # Nearly all of it escaped.
    request = Request(0x7E, 0x7E, 0x7E7E7E7E, 0x7E7E, b"\x7e" * MAX_PAYLOAD)
    assert line_bytes(MAX_PAYLOAD) - 4 <= len(request.encode()) <= line_bytes(MAX_PAYLOAD)
    assert FrameReader().feed(request.encode()) != [None]
