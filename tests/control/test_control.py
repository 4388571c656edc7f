"""The whole control side: errors, resets, watchdog, interrupts, counters, the window lock."""

import pytest
from control_bench import END, WORK, ControlBench, good, loop

from eftrain_hdl import isa
from eftrain_hdl.control import Supervisor
from eftrain_hdl.control.control import COUNTED, WHERE
from eftrain_hdl.isa import ErrorCode, ErrorUnit, Opcode

SOFT_RESET = 2
LOCK_WINDOW = 4
DONE, ERROR, DESCRIPTOR = 1, 2, 4


async def descriptors(host):
    await host.read("CYCLES_LOW")
    return {name: await host.read(f"{name}_DESCRIPTOR") for name in WHERE}


async def until_started(ctx, bench, count=1):
    while len(bench.executed) < count:
        await ctx.tick()


def test_build_and_uptime():
    bench = ControlBench((WORK, END))

    async def testbench(ctx, host):
        ctx.set(bench.dut.build, 0x89ABCDEF)
        assert await host.read("BUILD") == 0x89ABCDEF
        first = await host.read("UPTIME")
        await ctx.tick().repeat(1000)
        second = await host.read("UPTIME")
        # The same number of cycles from the request to the sampling both times.
        assert 1000 < second - first < 1020

    bench.run(testbench)


def test_power_on():
    bench = ControlBench((WORK, END), clear_cycles=60)

    async def testbench(ctx, host):
        assert ctx.get(bench.dut.window_base) == ctx.get(bench.dut.window_limit) == 0
        assert await host.status() == {"busy"}
        # A doorbell that comes too early waits.
        await bench.doorbell(host)
        assert bench.cycle < 60 and not bench.executed
        assert await host.wait() == {"done"}
        assert bench.cycle > 60

    bench.run(testbench)
    assert len(bench.executed) == 1
    assert bench.halted == bench.resets == 0


def test_interrupts():
    bench = ControlBench((END,))

    async def testbench(ctx, host):
        dut = bench.dut
        await host.wait()
        await bench.doorbell(host)
        assert await host.wait() == {"done"}
        assert await host.read("IRQ_STATUS") == DONE
        assert not ctx.get(dut.irq)
        await host.write("IRQ_ENABLE", ERROR)
        assert not ctx.get(dut.irq)
        await host.write("IRQ_ENABLE", ERROR | DONE)
        assert ctx.get(dut.irq)
        await host.write("IRQ_STATUS", DONE)
        assert not ctx.get(dut.irq) and await host.read("IRQ_STATUS") == 0
        await bench.doorbell(host, length=0)
        assert await host.wait() == {"error"}
        assert ctx.get(dut.irq) and await host.read("IRQ_STATUS") == ERROR

    bench.run(testbench)


def test_an_interrupt_for_each_completed_descriptor():
    bench = ControlBench((WORK, WORK, END), work_cycles=100)

    async def testbench(ctx, host):
        dut = bench.dut
        await host.wait()
        await host.write("IRQ_ENABLE", DESCRIPTOR)
        await bench.doorbell(host)
        for count in (1, 2):
            while not ctx.get(dut.irq):
                await ctx.tick()
            # The event, then the interrupt line.
            assert bench.cycle == bench.done_cycles[-1] + 2
            assert len(bench.done_cycles) == count
            await host.write("IRQ_STATUS", DESCRIPTOR)
            assert not ctx.get(dut.irq)
        assert await host.wait() == {"done"}
        assert not ctx.get(dut.irq)

    bench.run(testbench)


@pytest.mark.parametrize("unit", ErrorUnit)
def test_unit_errors(unit):
    bench = ControlBench((WORK, WORK, END), work_cycles=None, clear_cycles=50)

    async def testbench(ctx, host):
        dut = bench.dut
        await host.wait()
        await host.write("IRQ_ENABLE", ERROR)
        await bench.doorbell(host)
        await until_started(ctx, bench)
        bench.masters_busy = True
        bench.fetch_latency = 1_000_000
        code = ErrorCode.LABEL_OUT_OF_RANGE if unit == ErrorUnit.LOSS else ErrorCode.BUS_RESPONSE
        ctx.set(dut.unit_error[unit], code)
        # Into the supervisor, its state, and out of a register.
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.halt)
        await ctx.tick()
        assert ctx.get(dut.halt)
        # Another error later changes nothing.
        ctx.set(dut.unit_error[ErrorUnit.CONTROL if unit else ErrorUnit.WRITE],
                ErrorCode.TILE_OVERFLOW)
        await ctx.tick().repeat(100)
        assert ctx.get(dut.halt) and bench.resets == 0
        assert await host.status() == {"busy"}
        assert await host.read("ERROR") == 0
        bench.masters_busy = False
        await ctx.tick().until(dut.datapath_reset)
        for error in dut.unit_error:
            ctx.set(error, 0)
        await ctx.tick().repeat(Supervisor.reset_cycles + 20)
        # The datapath still clears its memories.
        assert not ctx.get(dut.datapath_reset) and not ctx.get(dut.halt)
        assert await host.status() == {"busy"} and not ctx.get(dut.irq)
        assert await host.wait() == {"error"}
        assert ctx.get(dut.irq)
        assert await host.read("ERROR") == code | unit << 8
        assert await host.read("ERROR_DESCRIPTOR") == (1 if unit == ErrorUnit.FETCH else 0)

        # And the device works again.
        bench.work_cycles, bench.fetch_latency = 5, 16
        await bench.doorbell(host)
        assert await host.wait() == {"done"}
        assert await host.read("ERROR") == 0

    bench.run(testbench)
    assert bench.resets == Supervisor.reset_cycles
    assert len(bench.executed) == 3


@pytest.mark.parametrize("newer", [0, 1])
def test_errors_of_two_in_flight(newer):
    """The unit says whose error it is; what comes after both is not begun."""
    bench = ControlBench((*loop(1), WORK, WORK, WORK, END), work_cycles=None)

    async def testbench(ctx, host):
        dut = bench.dut
        await host.wait()
        await bench.doorbell(host)
        await until_started(ctx, bench, 2)
        ctx.set(dut.reads_newer, 1)
        await ctx.tick().repeat(100)
        assert ctx.get(dut.waiting)
        assert (await descriptors(host)) == {"CURRENT": 2, "READ": 3, "COMPUTE": 2, "DRAIN": 2}
        ctx.set(dut.computes_newer, 1)
        ctx.set(dut.unit_newer, newer << ErrorUnit.STREAM)
        ctx.set(dut.unit_error[ErrorUnit.STREAM], ErrorCode.BUS_RESPONSE)
        await ctx.tick().until(dut.datapath_reset)
        ctx.set(dut.unit_error[ErrorUnit.STREAM], 0)
        assert await host.wait() == {"error"}
        assert await host.read("ERROR") == ErrorCode.BUS_RESPONSE | ErrorUnit.STREAM << 8
        assert await host.read("ERROR_DESCRIPTOR") == 2 + newer

    bench.run(testbench)
    assert len(bench.executed) == 2


def test_where_the_program_stands():
    bench = ControlBench((WORK, WORK, WORK, END), work_cycles=None)

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host)
        for done in range(3):
            await until_started(ctx, bench, min(done + 2, 3))
            expected = dict.fromkeys(("CURRENT", "READ", "COMPUTE", "DRAIN"), done)
            assert (await descriptors(host)) == expected
            bench.finish = True
            await ctx.tick().repeat(3)
        assert await host.wait() == {"done"}
        assert (await descriptors(host))["CURRENT"] == 3

    bench.run(testbench)


def test_checker_error_after_good_work():
    bench = ControlBench((WORK, good(Opcode.CONV_FP, kernel_rows=12), END), work_cycles=150)

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host)
        await until_started(ctx, bench)
        await ctx.tick().repeat(140)
        assert bench.halted == 0
        assert await host.wait() == {"error"}
        assert await host.read("ERROR") == ErrorCode.OVERSIZED_DIMENSION
        assert await host.read("ERROR_DESCRIPTOR") == 1
        # The first descriptor was completed.
        assert await host.read("IRQ_STATUS") == ERROR | DESCRIPTOR

    bench.run(testbench)
    assert len(bench.executed) == len(bench.done_cycles) == 1


@pytest.mark.parametrize("delay", [0, 1, 20, 30, 47, 48, 49, 60, *range(86, 94), 150])
def test_soft_reset_of_a_program(delay):
    """A soft reset at any time, while fetching or executing, leaves a device that works."""
    bench = ControlBench((WORK, *loop(3, WORK), END), work_cycles=50)

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host)
        await ctx.tick().repeat(delay + 1)
        bench.masters_busy = True
        await host.write("CONTROL", SOFT_RESET)
        started = len(bench.executed)
        await ctx.tick().repeat(30)
        assert ctx.get(bench.dut.halt)
        assert await host.status() == {"busy"}
        bench.masters_busy = False
        assert await host.wait() == set()
        assert bench.resets == Supervisor.reset_cycles
        assert len(bench.executed) == started
        assert await host.read("IRQ_STATUS") == 0

        bench.executed.clear()
        await bench.doorbell(host)
        assert await host.wait() == {"done"}
        assert len(bench.executed) == 4

    bench.run(testbench)


def test_soft_reset_clears_the_error():
    bench = ControlBench((END,))

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host, length=0)
        assert await host.wait() == {"error"}
        await host.write("CONTROL", SOFT_RESET)
        assert await host.wait() == set()
        assert await host.read("ERROR") == await host.read("IRQ_STATUS") == 0
        # While the device handles an error, the soft reset takes over.
        bench.masters_busy = True
        await bench.doorbell(host, length=0)
        await host.write("CONTROL", SOFT_RESET)
        bench.masters_busy = False
        assert await host.wait() == set()
        # Written together: reset, then start.
        await host.write("PROGRAM_LENGTH", 1)
        await host.write("CONTROL", SOFT_RESET | 1)
        assert await host.wait() == {"done"}
        # A start during a reset waits, unless there is another reset.
        await host.write("CONTROL", SOFT_RESET)
        await host.write("CONTROL", 1)
        await host.write("CONTROL", SOFT_RESET)
        assert await host.wait() == set()

    bench.run(testbench)


def test_start_is_ignored_while_a_program_runs():
    bench = ControlBench((WORK, END), work_cycles=100)

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host)
        await until_started(ctx, bench)
        # Takes effect with the next program only.
        await host.write("PROGRAM_LENGTH", 0)
        await host.write("CONTROL", 1)
        assert await host.wait() == {"done"}
        assert await host.wait() == {"done"}

    bench.run(testbench)
    assert len(bench.executed) == 1


def test_watchdog():
    bench = ControlBench((WORK, END), work_cycles=None, clear_cycles=300)

    async def testbench(ctx, host):
        dut = bench.dut
        await host.write("WATCHDOG", 100)
        await host.wait()
        await bench.doorbell(host)
        await until_started(ctx, bench)
        for event in ("active", "beat_stationary", "beat_stream", "beat_side", "beat_write"):
            await ctx.tick().repeat(90)
            ctx.set(getattr(dut, event), 1)
            await ctx.tick()
            ctx.set(getattr(dut, event), 0)
        await ctx.tick().repeat(95)
        assert not ctx.get(dut.halt)
        await ctx.tick().repeat(10)
        assert bench.halted
        assert await host.wait() == {"error"}
        assert await host.read("ERROR") == ErrorCode.WATCHDOG
        assert await host.read("ERROR_DESCRIPTOR") == 0

        await host.write("WATCHDOG", 0)
        await bench.doorbell(host)
        await ctx.tick().repeat(1000)
        assert await host.status() == {"busy"}

    bench.run(testbench)
    # It does not bark while the datapath clears its memories, which takes longer.
    assert bench.resets == Supervisor.reset_cycles


def test_counters():
    bench = ControlBench((WORK, END), work_cycles=None)

    async def testbench(ctx, host):
        dut = bench.dut

        async def read(register):
            """As CYCLES_LOW, read before, latched it."""
            if f"{register}_LOW" in isa.REGISTER:
                low = await host.read(f"{register}_LOW")
                return low | await host.read(f"{register}_HIGH") << 32
            return await host.read(register)

        async def pulse(event, cycles):
            ctx.set(getattr(dut, event), 1)
            await ctx.tick().repeat(cycles)
            ctx.set(getattr(dut, event), 0)

        await host.wait()
        for event in (*COUNTED, "result_written", "nonfinite"):
            await pulse(event, 3)
        await bench.doorbell(host)
        await until_started(ctx, bench)
        for i, event in enumerate((*COUNTED, "result_written")):
            await pulse(event, i + 5)
        assert ctx.get(dut.record) == len(COUNTED) + 5 + 1
        await ctx.tick().repeat(2)
        cycles = await host.read("CYCLES_LOW")
        for i, register in enumerate((*COUNTED.values(), "RESULTS")):
            assert await read(register) == i + 5, register
        # What nothing explains is control's.
        assert cycles == await read("ACTIVE") + sum([await read(name) for name in isa.STALLS])
        assert await host.status() == {"busy"}
        await pulse("nonfinite", 1)
        assert await host.status() == {"busy", "nonfinite"}

        bench.finish = True
        assert await host.wait() == {"done", "nonfinite"}
        cycles = await read("CYCLES")
        # From the doorbell to END; the host's polling saw a little more.
        assert 0 < bench.cycle - bench.begin_cycle - cycles < 20
        for event in COUNTED:
            await pulse(event, 3)
        assert await read("CYCLES") == cycles
        assert await read("ACTIVE") == 5

        await bench.doorbell(host, length=0)
        assert await host.wait() == {"error"}
        await host.read("CYCLES_LOW")
        for register in (*COUNTED.values(), "RESULTS"):
            assert await read(register) == 0
        assert ctx.get(dut.record) == 1

    bench.run(testbench)


def test_window():
    bench = ControlBench((WORK, END))

    async def testbench(ctx, host):
        dut = bench.dut
        await host.wait()
        await host.write("WINDOW_BASE", 0x1000)
        await host.write("WINDOW_LIMIT", 0x9000)
        await bench.doorbell(host)
        await until_started(ctx, bench)
        await host.write("WINDOW_LIMIT", 0xA000)
        assert (ctx.get(dut.window_base), ctx.get(dut.window_limit)) == (0x1000, 0x9000)
        await host.wait()
        await host.write("CONTROL", LOCK_WINDOW)
        assert await host.status() == {"done", "window_locked"}
        await host.write("WINDOW_BASE", 0)
        await host.write("WINDOW_LIMIT", 0xFFFF_FFFF)
        assert await host.read("WINDOW_BASE") == 0x1000
        assert await host.read("WINDOW_LIMIT") == 0xA000
        # A soft reset does not open the lock.
        await host.write("CONTROL", SOFT_RESET)
        assert await host.wait() == {"window_locked"}
        await host.write("WINDOW_BASE", 0)
        await bench.doorbell(host)
        await host.wait()
        assert (ctx.get(dut.window_base), ctx.get(dut.window_limit)) == (0x1000, 0xA000)

    bench.run(testbench)
