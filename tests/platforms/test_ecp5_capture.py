"""The SDRAM controller behind the pads of an ECP5, with delays of pads and SDRAM in nanoseconds.

The clock reaches the SDRAM as :func:`platforms.ecp5_top.sdram_phase` says; read data is there from
the access time to the hold time of the data sheet, and garbage else.
"""

import dataclasses
from random import Random

import pytest
from amaranth.hdl import Cat, ClockDomain, Module, Signal
from amaranth.sim import Simulator

from eftrain_hdl.sdram import ULX3S_PART, SdramController
from platforms.ecp5_top import (
    CAPTURE,
    PAD_OUT,
    PAD_SETUP,
    SDRAM_ACCESS,
    SDRAM_OUTPUT_HOLD,
    SKEW,
    sdram_phase,
)

BEATS = 4
READ, WRITE, ACTIVE, NOP = 0b101, 0b100, 0b011, 0b111


def round_trip(clock_hz, phase, pad_out, capture=CAPTURE):
    """Words written and words read back."""
    part = dataclasses.replace(ULX3S_PART, power_up=1000)
    controller = SdramController(part, clock_hz, capture=capture)
    pins = controller.pins
    m = Module()
    m.submodules.controller = controller
    m.domains.sdram = ClockDomain(reset_less=True)
    chip = Signal()
    m.d.sdram += chip.eq(~chip)
    # Registers in the pads.
    command, pad_i, dq = Signal(3, init=NOP), Signal(16), Signal(16)
    bank, address, pad_o, mask = Signal(2), Signal(13), Signal(16), Signal(2)
    m.d.sync += [
        command.eq(Cat(pins.we_n, pins.cas_n, pins.ras_n)),
        bank.eq(pins.ba),
        address.eq(pins.a),
        pad_o.eq(pins.dq_o),
        mask.eq(pins.dqm),
        pad_i.eq(dq),
    ]
    m.d.comb += pins.dq_i.eq(pad_i)

    period = 1 / clock_hz
    cas = part.cycles(clock_hz).cas_latency
    garbage, memory, rows = Random(4), {}, {}

    async def sdram(ctx):
        coming, writing = {}, None
        edge = 0
        while True:
            await ctx.tick("sdram")
            edge += 1
            word = ctx.get(command)
            place = ctx.get(bank), ctx.get(address)
            if word == ACTIVE:
                rows[place[0]] = place[1]
            elif word in (READ, WRITE):
                start = place[0], rows[place[0]], place[1] & 0x1FF
                writing = (start, 0) if word == WRITE else None
                if word == READ:
                    coming |= {edge + cas - 1 + n: (*start[:2], start[2] + n) for n in range(8)}
            if writing:
                (row, n), writing = writing, None
                if not ctx.get(mask):
                    memory[(*row[:2], row[2] + n)] = ctx.get(pad_o)
                writing = (row, n + 1) if n < 7 else None
            await ctx.delay((SDRAM_OUTPUT_HOLD - SKEW) * 1e-9)
            ctx.set(dq, garbage.getrandbits(16))
            if edge in coming:
                late = SDRAM_ACCESS - SDRAM_OUTPUT_HOLD + PAD_SETUP + 2 * SKEW
                await ctx.delay(late * 1e-9)
                ctx.set(dq, memory.get(coming.pop(edge), 0xDEAD))

    written = [Random(beat).getrandbits(128) for beat in range(BEATS)]
    read = []

    async def master(ctx):
        write, answers = controller.write, controller.read
        for name, value in (
            ("awaddr", 0x1F80),
            ("awlen", BEATS - 1),
            ("awsize", 4),
            ("awburst", 1),
        ):
            ctx.set(getattr(write, name), value)
            ctx.set(getattr(answers, name.replace("aw", "ar")), value)
        ctx.set(write.awvalid, 1)
        await ctx.tick().until(write.awready)
        ctx.set(write.awvalid, 0)
        for number, word in enumerate(written):
            ctx.set(write.wdata, word)
            ctx.set(write.wstrb, 0xFFFF)
            ctx.set(write.wlast, number == BEATS - 1)
            ctx.set(write.wvalid, 1)
            await ctx.tick().until(write.wready)
        ctx.set(write.wvalid, 0)
        ctx.set(write.bready, 1)
        await ctx.tick().until(write.bvalid)
        ctx.set(answers.arvalid, 1)
        await ctx.tick().until(answers.arready)
        ctx.set(answers.arvalid, 0)
        ctx.set(answers.rready, 1)
        for _ in range(BEATS):
            (word,) = await ctx.tick().sample(answers.rdata).until(answers.rvalid)
            read.append(word)

    simulator = Simulator(m)
    simulator.add_clock(period, phase=period)
    # The outputs of the pads are as late as the clock; only the way back counts for both.
    simulator.add_clock(period, phase=period * (1 + phase / 360) + pad_out * 1e-9, domain="sdram")
    simulator.add_testbench(sdram, background=True)
    simulator.add_testbench(master)
    simulator.run_until(2000 * period)
    return written, read


@pytest.mark.parametrize("pad_out", PAD_OUT)
@pytest.mark.parametrize("clock_hz", [25_000_000, 50_000_000])
def test_data_is_caught_in_the_middle(clock_hz, pad_out):
    written, read = round_trip(clock_hz, sdram_phase(clock_hz), pad_out)
    assert read == written


@pytest.mark.parametrize("change", [{"capture": CAPTURE - 1}, {"capture": CAPTURE + 1}])
def test_another_cycle_catches_something_else(change):
    written, read = round_trip(50_000_000, 90, PAD_OUT[1], **change)
    assert read != written


def test_half_a_period_would_be_too_late_at_50_mhz():
    written, read = round_trip(50_000_000, 180, PAD_OUT[1])
    assert read != written
