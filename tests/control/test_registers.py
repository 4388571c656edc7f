"""The register block on its own: every access type, strobes, responses, order of channels."""

import random

import pytest
from amaranth.sim import Simulator
from control_bench import OKAY, SLVERR, Host

from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.control import RegisterBlock
from eftrain_hdl.control.control import latched_registers, register_constants

CONSTANTS = register_constants(CoreConfig(rows=4, lanes=4, format="bf16", max_classes=64))


def simulate(testbench):
    """Run ``testbench(ctx, dut, host)`` on a register block."""
    dut = RegisterBlock(constants=CONSTANTS, latched=latched_registers())

    async def wrapped(ctx):
        await testbench(ctx, dut, Host(ctx, dut.ctrl))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(wrapped)
    simulator.run()


def port(dut, name, which="value"):
    """A port of a register as a plain value."""
    value = getattr(getattr(dut, name.lower()), which)
    return value.as_value() if hasattr(value, "as_value") else value


def bits(register):
    if not register.fields:
        return 0xFFFF_FFFF
    return sum(field.mask << field.lsb for field in register.fields)


def test_constants():
    async def testbench(ctx, dut, host):
        assert await host.read("ID") == int.from_bytes(b"EFTR", "big")
        assert await host.read("VERSION") == 0x000100
        assert await host.read("ISA_VERSION") == isa.ISA_VERSION
        assert await host.read("ARRAY") == 0x0004_0004
        assert await host.read("FORMAT") == isa.Format.BF16 | 128 << 16
        assert await host.read("STREAM_DEPTH") == 4096
        assert await host.read("STATIONARY_DEPTH") == 4096
        assert await host.read("ACCUMULATOR_DEPTH") == 2048
        assert await host.read("MAX_CLASSES") == 64

    simulate(testbench)


def test_read_only():
    async def testbench(ctx, dut, host):
        rng = random.Random(1)
        for register in isa.REGISTERS:
            if register.access != "ro" or register.name in CONSTANTS:
                continue
            value = rng.getrandbits(32) & bits(register)
            ctx.set(port(dut, register.name), value)
            if register.name in latched_registers()["CYCLES_LOW"]:
                await host.read("CYCLES_LOW")
            assert await host.read(register.name) == value
            assert await host.write_raw(register.address, 0xFFFF_FFFF) == SLVERR
            assert await host.read(register.name) == value

    simulate(testbench)


def test_counters_are_latched_together():
    latched = latched_registers()["CYCLES_LOW"]
    assert {"CYCLES_HIGH", "ACTIVE_LOW", "STALL_CONTROL", "CURRENT_DESCRIPTOR"} <= set(latched)

    async def testbench(ctx, dut, host):
        for number, name in enumerate(latched):
            ctx.set(port(dut, name), number + 5)
        ctx.set(port(dut, "CYCLES_LOW"), 0xFFFF_FFFF)
        assert await host.read("ACTIVE_LOW") == 0
        assert await host.read("CYCLES_LOW") == 0xFFFF_FFFF
        ctx.set(port(dut, "CYCLES_LOW"), 0)
        for name in latched:
            ctx.set(port(dut, name), 1)
        for number, name in enumerate(latched):
            assert await host.read(name) == number + 5, name
        assert await host.read("CYCLES_LOW") == 0
        assert {await host.read(name) for name in latched} == {1}

    simulate(testbench)


def test_read_write():
    async def testbench(ctx, dut, host):
        for register in isa.REGISTERS:
            if register.access != "rw":
                continue
            name, value = register.name, port(dut, register.name)
            assert await host.read(name) == register.reset == ctx.get(value)
            await host.write(name, 0xA5C3_F0FF)
            assert ctx.get(value) == 0xA5C3_F0FF & bits(register)
            for strobes in range(16):
                await host.write(name, 0xFFFF_FFFF)
                assert await host.write_raw(register.address, 0, strobes) == OKAY
                mask = sum(0xFF << 8 * i for i in range(4) if strobes >> i & 1)
                assert await host.read(name) == ~mask & bits(register)
            ctx.set(port(dut, name, "locked"), 1)
            await host.write(name, 0x1234_5678)
            assert await host.read(name) == 0
            ctx.set(port(dut, name, "locked"), 0)

    simulate(testbench)


def test_write_one_to_clear():
    async def testbench(ctx, dut, host):
        name = "IRQ_STATUS"
        events, clear = port(dut, name, "set"), port(dut, name, "clear")
        ctx.set(events, 3)
        await ctx.tick()
        ctx.set(events, 0)
        assert await host.read(name) == 3
        await host.write_raw(isa.REGISTER[name].address, 0x3, strobes=0xE)
        assert await host.read(name) == 3
        await host.write(name, 1)
        assert await host.read(name) == 2
        # An event in the cycle of the write is not lost.
        ctx.set(events, 2)
        await host.write(name, 3)
        ctx.set(events, 0)
        assert await host.read(name) == 2
        ctx.set(clear, 1)
        await ctx.tick()
        ctx.set(clear, 0)
        assert await host.read(name) == 0

    simulate(testbench)


@pytest.mark.parametrize("word, strobes, seen", [
    (1, 0xF, 1), (2, 0xF, 2), (7, 0x1, 7), (7, 0xE, 0), (0xFFFF_FFFF, 0xF, 7), (0, 0xF, 0),
])
def test_commands_act_once(word, strobes, seen):
    async def testbench(ctx, dut, host):
        pulses = []

        command = port(dut, "CONTROL", "written")
        ctx.set(dut.ctrl.awaddr, isa.REGISTER["CONTROL"].address)
        ctx.set(dut.ctrl.wdata, word)
        ctx.set(dut.ctrl.wstrb, strobes)
        ctx.set(dut.ctrl.awvalid, 1)
        ctx.set(dut.ctrl.wvalid, 1)
        for cycle in range(8):
            _, _, value = await ctx.tick().sample(command)
            pulses.append(value)
            if cycle == 0:
                ctx.set(dut.ctrl.awvalid, 0)
                ctx.set(dut.ctrl.wvalid, 0)
        assert [value for value in pulses if value] == [seen] * (seen != 0)
        ctx.set(dut.ctrl.bready, 1)
        await ctx.tick()
        ctx.set(dut.ctrl.bready, 0)
        assert await host.read("CONTROL") == 0

    simulate(testbench)


def test_unmapped_addresses():
    mapped = {register.address for register in isa.REGISTERS}

    async def testbench(ctx, dut, host):
        for address in (*range(0, 0x100, 4), 0x100, 0x450, 0x800, 0xFFC):
            if address not in mapped:
                assert await host.read_raw(address) == (0, SLVERR)
                assert await host.write_raw(address, 0xFFFF_FFFF) == SLVERR
        for register in isa.REGISTERS:
            if register.access == "rw":
                assert await host.read(register.name) == register.reset
        assert (await host.read_raw(0x003))[1] == OKAY

    simulate(testbench)


@pytest.mark.parametrize("seed", [3])
def test_channel_order(seed):
    async def testbench(ctx, dut, host):
        rng = random.Random(seed)
        for _ in range(60):
            word = rng.getrandbits(32)
            name = rng.choice(("PROGRAM_ADDRESS", "WATCHDOG"))
            response = await host.write_raw(
                isa.REGISTER[name].address, word,
                address_delay=rng.randrange(4), word_delay=rng.randrange(4))
            assert response == OKAY
            await ctx.tick().repeat(rng.randint(1, 3))
            assert await host.read(name) == word

    simulate(testbench)


def test_writes_wait_for_the_response_to_be_taken():
    async def testbench(ctx, dut, host):
        bus = dut.ctrl
        ctx.set(bus.awaddr, isa.REGISTER["WATCHDOG"].address)
        ctx.set(bus.awvalid, 1)
        ctx.set(bus.wvalid, 1)
        ctx.set(bus.wstrb, 0xF)
        ctx.set(bus.wdata, 1)
        await ctx.tick().repeat(3)
        ctx.set(bus.wdata, 2)
        await ctx.tick().repeat(6)
        assert ctx.get(bus.bvalid) and not ctx.get(bus.awready) and not ctx.get(bus.wready)
        assert ctx.get(dut.watchdog.value) == 1

    simulate(testbench)
