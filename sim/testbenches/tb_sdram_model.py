"""cocotb tests of ``sim/sdram_model.sv`` itself (``tests/sdram/test_sdram_model.py``).

Each check of the model is shown to fire one cycle before the limit and to be silent at the limit.
The parameters below are given to the build.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, Timer

MODEL_SOURCE = Path(__file__).resolve().parents[1] / "sdram_model.sv"

# 133 MHz; tRC longer than tRAS + tRP, few rows and short times, so that each check can be seen.
PARAMETERS = {
    "CLOCK_PS": 7500,
    "T_RC_PS": 74_000,
    "ROW_BITS": 4,
    "COLUMN_BITS": 6,
    "POWER_UP_NS": 1500,
    "T_REF_NS": 16 * 7812,
    "T_RAS_MAX_NS": 20_000,
}
PERIOD_NS = 10
CODES = {
    name: int(value)
    for name, value in re.findall(
        r"localparam byte unsigned (\w+) = (\d+);", MODEL_SOURCE.read_text()
    )
}
COMMANDS = {
    "MODE": 0b000,
    "REF": 0b001,
    "PRE": 0b010,
    "ACT": 0b011,
    "WRITE": 0b100,
    "READ": 0b101,
    "STOP": 0b110,
    "NOP": 0b111,
}
CAS_LATENCY = 3
MODE = CAS_LATENCY << 4 | 3
ALL = 1 << 10


@dataclass
class Step:
    """A command, and how many cycles after the step before."""

    after: int
    name: str
    ba: int = 0
    a: int = 0
    pins: dict | None = None


class Bench:
    def __init__(self, dut):
        self.dut = dut
        self._seen = 0
        cocotb.start_soon(Clock(dut.clk, PERIOD_NS, unit="ns").start())
        self._set("NOP", 0, 0, {})

    def _set(self, name, ba, a, pins):
        dut = self.dut
        code = COMMANDS[name]
        values = {"cke": 1, "cs_n": 0, "ba": ba, "a": a, "dqm": 0, "dq_oe": 0, "dq_i": 0x5555}
        values |= {"ras_n": code >> 2, "cas_n": code >> 1 & 1, "we_n": code & 1, **pins}
        for pin, value in values.items():
            getattr(dut, pin).value = value

    async def cycle(self, name="NOP", ba=0, a=0, **pins):
        """Hold the pins through one clock edge."""
        self._set(name, ba, a, pins)
        await RisingEdge(self.dut.clk)

    async def run(self, *steps):
        """Drive steps at their distances, with data behind each WRITE that brings none."""
        driving = 0
        for step in steps:
            for _ in range(step.after - 1):
                await self.cycle(dq_oe=int(driving > 0))
                driving -= 1
            pins = step.pins or {}
            if step.name == "WRITE" and "dq_oe" not in pins:
                driving = 8
            await self.cycle(step.name, step.ba, step.a, **{"dq_oe": int(driving > 0), **pins})
            driving -= 1
        for _ in range(max(driving, 0)):
            await self.cycle(dq_oe=1)

    async def rest(self):
        """Close all banks and refresh, far from any limit."""
        await self.run(Step(20, "PRE", a=ALL), Step(10, "REF"), Step(20, "NOP"))

    async def initialise(self):
        self._set("NOP", 0, 0, {})
        await Timer(250 * PERIOD_NS, "ns")
        await RisingEdge(self.dut.clk)
        await self.run(Step(1, "PRE", a=ALL), Step(5, "REF"), Step(10, "REF"))
        await self.run(Step(10, "MODE", a=MODE), Step(5, "NOP"))

    async def new_violations(self):
        """How many since the last call, and the code of the last."""
        self._set("NOP", 0, 0, {})
        await ReadOnly()
        count = int(self.dut.violations.value)
        code = int(self.dut.last_violation.value)
        await RisingEdge(self.dut.clk)
        new, self._seen = count - self._seen, count
        return new, code


def limits():
    """Code, function from a distance to steps, and the shortest legal distance."""
    opened = Step(1, "ACT", a=1)
    return [
        ("T_RCD", lambda d: [opened, Step(d, "READ")], 3),
        ("T_RCD", lambda d: [opened, Step(d, "WRITE")], 3),
        ("T_RP", lambda d: [opened, Step(9, "PRE"), Step(d, "ACT", a=2)], 3),
        ("T_RP", lambda d: [opened, Step(9, "PRE"), Step(d, "REF")], 3),
        ("T_RP", lambda d: [opened, Step(9, "PRE"), Step(d, "MODE", a=MODE)], 3),
        ("T_RAS", lambda d: [opened, Step(d, "PRE")], 6),
        ("T_RAS", lambda d: [opened, Step(d, "PRE", a=ALL)], 6),
        ("T_RC", lambda d: [opened, Step(6, "PRE"), Step(d - 6, "ACT", a=2)], 10),
        ("T_RRD", lambda d: [opened, Step(d, "ACT", 1)], 2),
        ("T_WR", lambda d: [opened, Step(3, "WRITE"), Step(7 + d, "PRE")], 2),
        ("T_RFC", lambda d: [Step(1, "REF"), Step(d, "ACT")], 9),
        ("T_RFC", lambda d: [Step(1, "REF"), Step(d, "REF")], 9),
        ("T_MRD", lambda d: [Step(1, "MODE", a=MODE), Step(d, "ACT")], 2),
        (
            "UNSUPPORTED",  # a read cut by a read, and by a precharge
            lambda d: [opened, Step(3, "READ"), Step(d, "READ", a=8)],
            8,
        ),
        ("UNSUPPORTED", lambda d: [opened, Step(3, "READ"), Step(d, "PRE")], 8),
        (
            "CONTENTION",  # the model lets go a cycle after its last word
            lambda d: [opened, Step(3, "READ"), Step(d, "NOP", pins={"dq_oe": 1})],
            CAS_LATENCY + 9,
        ),
    ]


def mistakes():
    """Code, steps, and how many violations they are."""
    opened = Step(1, "ACT", a=1)
    return [
        ("BANK_OPEN", [opened, Step(20, "ACT", a=2)], 1),
        ("BANK_CLOSED", [Step(1, "READ")], 1),
        ("BANK_CLOSED", [opened, Step(9, "WRITE", 1)], 1),
        ("REFRESH_BANKS", [opened, Step(20, "REF")], 1),
        ("MODE_BANKS", [opened, Step(20, "MODE", a=MODE)], 1),
        ("UNDRIVEN", [opened, Step(9, "WRITE", pins={"dq_oe": 0}), Step(9, "NOP")], 8),
        ("T_CK", [Step(1, "MODE", a=2 << 4 | 3), Step(9, "MODE", a=MODE)], 1),
        ("UNSUPPORTED", [Step(1, "MODE", a=CAS_LATENCY << 4 | 2), Step(9, "MODE", a=MODE)], 1),
        ("UNSUPPORTED", [Step(1, "MODE", a=MODE | 8), Step(9, "MODE", a=MODE)], 1),
        ("UNSUPPORTED", [opened, Step(9, "READ", a=ALL)], 1),
        ("UNSUPPORTED", [Step(1, "STOP")], 1),
        ("UNSUPPORTED", [Step(1, "NOP", pins={"cke": 0})], 1),
    ]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def initialisation(dut):
    """Commands before the pause is over, and each step of the initialisation left out."""
    bench = Bench(dut)
    await bench.run(Step(3, "PRE", a=ALL))
    assert await bench.new_violations() == (1, CODES["POWER_UP"])
    await Timer(250 * PERIOD_NS, "ns")
    await RisingEdge(dut.clk)
    # The precharge counted; no refreshes yet, no mode.
    for steps in (
        [Step(1, "ACT")],
        [Step(20, "PRE", a=ALL), Step(9, "MODE", a=MODE), Step(9, "ACT")],
        [Step(20, "PRE", a=ALL), Step(9, "REF"), Step(20, "ACT")],
    ):
        await bench.run(*steps)
        assert await bench.new_violations() == (1, CODES["NOT_READY"])
    await bench.run(Step(20, "PRE", a=ALL), Step(9, "REF"), Step(20, "ACT"), Step(9, "READ"))
    assert (await bench.new_violations())[0] == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def precharge_comes_first(dut):
    bench = Bench(dut)
    await Timer(250 * PERIOD_NS, "ns")
    await RisingEdge(dut.clk)
    for name in ("REF", "MODE"):
        await bench.run(Step(20, name, a=MODE))
        assert await bench.new_violations() == (1, CODES["NOT_READY"])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def limits_and_mistakes(dut):
    bench = Bench(dut)
    await bench.initialise()
    assert (await bench.new_violations())[0] == 0
    for code, steps, least in limits():
        await bench.rest()
        await bench.run(*steps(least))
        await bench.rest()
        assert (await bench.new_violations())[0] == 0, (code, least)
        await bench.run(*steps(least - 1))
        assert await bench.new_violations() == (1, CODES[code]), (code, least - 1)
    for code, steps, count in mistakes():
        await bench.rest()
        await bench.run(*steps)
        assert await bench.new_violations() == (count, CODES[code]), (code, steps)
    # Both sides drive for as long as the data of a read takes.
    for distance in range(CAS_LATENCY, CAS_LATENCY + 9):
        await bench.rest()
        driver = Step(distance, "NOP", pins={"dq_oe": 1})
        await bench.run(Step(1, "ACT"), Step(9, "READ"), driver)
        assert await bench.new_violations() == (1, CODES["CONTENTION"]), distance


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def refresh_limits(dut):
    """A row open for too long, refreshes at too low a rate, and a row that is forgotten."""
    bench = Bench(dut)
    await bench.initialise()

    async def idle(ns):
        bench._set("NOP", 0, 0, {})
        await Timer(int(ns / (PARAMETERS["CLOCK_PS"] / 1000)) * PERIOD_NS, "ns")
        await RisingEdge(dut.clk)

    # One refresh an interval is enough for ever. This is a little faster, so that the rows are
    # refreshed once in 16 intervals less some 5 us: the next is due in 13.
    interval = PARAMETERS["T_REF_NS"] / 16
    for _ in range(20):
        await idle(interval - 700)
        await bench.rest()
    await idle(10_000)
    assert (await bench.new_violations())[0] == 0
    await idle(5000)
    assert await bench.new_violations() == (1, CODES["T_REF"])
    await idle(6 * interval)
    assert (await bench.new_violations())[0] == 0
    await idle(4 * interval)
    assert await bench.new_violations() == (1, CODES["REFRESH_RATE"])

    for _ in range(20):
        await bench.rest()
    await bench.run(Step(1, "ACT"))
    await idle(PARAMETERS["T_RAS_MAX_NS"] - 100)
    assert (await bench.new_violations())[0] == 0
    await idle(200)
    assert await bench.new_violations() == (1, CODES["T_RAS_MAX"])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def contents(dut):
    """Written words come back at the CAS latency, bytes masked or not, from every bank."""
    bench = Bench(dut)
    rng = random.Random(20220210)
    await bench.initialise()
    cells = {}
    for count in range(60):
        bank, row, column = rng.randrange(4), rng.randrange(16), 8 * rng.randrange(8)
        await bench.run(Step(20, "ACT", bank, row), Step(9, "NOP"))
        for word in range(8):
            data = rng.getrandbits(16)
            mask = rng.choice([0, 0, 1, 2, 3]) if (bank, row, column + word) in cells else 0
            name = "WRITE" if word == 0 else "NOP"
            await bench.cycle(name, bank, column, dq_oe=1, dq_i=data, dqm=mask)
            keep = (0xFF if mask & 1 else 0) | (0xFF00 if mask & 2 else 0)
            old = cells.get((bank, row, column + word), 0)
            cells[bank, row, column + word] = old & keep | data & ~keep
        await bench.run(Step(10, "PRE", bank))
        if count % 10 == 0:
            await bench.run(Step(10, "REF"))
    for (bank, row, column), _ in [item for item in cells.items() if item[0][2] % 8 == 0]:
        await bench.run(Step(20, "ACT", bank, row), Step(9, "NOP"))
        first = rng.randrange(8)
        await bench.cycle("READ", bank, column + first)
        bench._set("NOP", 0, 0, {})
        for _ in range(CAS_LATENCY - 1):
            await RisingEdge(dut.clk)
        for word in range(8):
            await RisingEdge(dut.clk)
            # Before the edge takes effect, as the controller's register sees it.
            got = int(dut.dq_o.value)
            assert got == cells[bank, row, column + (first + word) % 8], word
        await bench.run(Step(10, "PRE", bank), Step(10, "REF"))
    assert (await bench.new_violations())[0] == 0


def provoked():
    """Names of the codes that the tests above provoke."""
    named = {"POWER_UP", "NOT_READY", "T_RAS_MAX", "REFRESH_RATE", "T_REF"}
    return named | {code for code, *_ in (*limits(), *mistakes())}
