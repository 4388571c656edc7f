# amaranth: UnusedElaboratable=no
"""Framing in gateware against zlib's CRC-32, RFC 1662 and the host's code."""

import random
import zlib

from amaranth.sim import Simulator

from eftrain.devices.frames import FrameReader, encode_frame
from eftrain_hdl.bridge import Deframer, Framer

RNG_SEED = 7

CONTENTS = [b"\0", b"~", b"}", b"~}" * 8, b"}^", b"\xff" * 5, bytes(range(256))]


def contents():
    rng = random.Random(RNG_SEED)
    return CONTENTS + [rng.randbytes(rng.randint(1, 40)) for _ in range(20)]


def simulate(dut, *testbenches):
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    first, *others = testbenches
    simulator.add_testbench(first)
    for other in others:
        simulator.add_testbench(other, background=True)
    simulator.run()


def deframe(pieces):
    """(frame without CRC, good) of what the deframer finds; None among the bytes is an error."""
    dut = Deframer()
    found, frame = [], bytearray()

    async def feed(ctx):
        for byte in pieces:
            ctx.set(dut.i.valid, byte is not None)
            ctx.set(dut.error, byte is None)
            ctx.set(dut.i.payload, byte or 0)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.error, 0)
        await ctx.tick().repeat(2)

    async def watch(ctx):
        async for _, _, valid, item in ctx.tick().sample(dut.o.valid, dut.o.p):
            if valid and item.end:
                found.append((bytes(frame[:-4]), bool(item.good)))
                frame.clear()
            elif valid:
                frame.append(item.data)

    simulate(dut, feed, watch)
    return found


def test_deframer_takes_the_hosts_frames():
    line = b"".join(encode_frame(content) for content in contents())
    assert deframe(line) == [(content, True) for content in contents()]


def test_deframer_agrees_with_the_host_on_damaged_frames():
    """Lost, changed, doubled and added bytes: both find the same frames, and none that is wrong."""
    rng = random.Random(RNG_SEED)
    line = bytearray()
    for _ in range(150):
        frame = bytearray(encode_frame(rng.randbytes(rng.randint(1, 12)) + b"}~"))
        for _ in range(rng.randint(0, 2)):
            at = rng.randrange(len(frame))
            frame[at : at + 1] = rng.choice(
                [
                    b"",
                    b"}",
                    b"~",
                    bytes([frame[at] ^ 1 << rng.randrange(8)]),
                    frame[at : at + 1] * 2,
                ]
            )
        line += frame
    found = deframe(line)
    assert [content if good else None for content, good in found] == FrameReader().feed(line)
    assert 40 < sum(good for _, good in found) < len(found) - 40


def test_line_errors_and_escapes_damage_a_frame():
    frame = list(encode_frame(b"content"))
    assert deframe(frame[:3] + [None] + frame[3:]) == [(b"content", False)]
    # RFC 1662: an escape before a flag aborts the frame, even if all that was before it is right.
    assert deframe(frame[:-1] + [0x7D, 0x7E]) == [(b"content", False)]
    assert deframe(frame[:3] + [0x7D] + frame[3:])[0][1] is False
    # Each of these ends with the next flag.
    assert deframe([None] + frame + frame) == [(b"", False), (b"content", True), (b"content", True)]


def test_framer_sends_what_the_host_takes():
    dut = Framer()
    rng = random.Random(RNG_SEED)
    line = bytearray()

    async def feed(ctx):
        for content in contents():
            for index, byte in enumerate(content):
                ctx.set(dut.i.p.data, byte)
                ctx.set(dut.i.p.last, index == len(content) - 1)
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)
                if rng.random() < 0.3:
                    await ctx.tick().repeat(3)
        await ctx.tick().repeat(100)

    async def take(ctx):
        waiting = None
        while True:
            ready = rng.random() < 0.6
            ctx.set(dut.o.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            # What is offered stays until it is taken.
            assert waiting in (None, (valid, byte))
            waiting = (valid, byte) if valid and not ready else None
            if valid and ready:
                line.append(byte)

    simulate(dut, feed, take)
    assert line == b"".join(encode_frame(content) for content in contents())
    first = line[1 : line.index(0x7E, 1)]
    assert first == b"\0" + zlib.crc32(b"\0").to_bytes(4, "little")
