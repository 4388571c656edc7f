"""cocotb testbench of the epilogue.

``tests/datapath/test_epilogue_cocotb.py`` builds the models, one for each group T. Inputs change
after a rising edge and everything is read at the next one: a *cycle* is what lies between.
"""

import itertools
import logging
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi.stream import define_stream

from eftrain_hdl.datapath.epilogue import Epilogue
from eftrain_hdl.datapath.epilogue_model import DrainedBlock, side_vectors
from eftrain_hdl.datapath.statistics import Statistics
from eftrain_hdl.isa import (
    EXCLUSIVE_FLAGS,
    LEGAL_FLAGS,
    PARTIAL_BEATS,
    REQUIRED_FLAGS,
    Flag,
    Opcode,
)
from sim.testbenches.stream_unit import (
    High,
    PlainBeat,
    PlainBus,
    PlainSink,
    PlainSource,
    bits,
    to_beats,
)
from sim.testbenches.tb_blocks import PERIOD_NS, Handshakes, cycles, stall

SEED = 20240705
WINDOW = 4
CORNERS = np.array(
    [0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 1,
     0x80000001, 0x00800000, 0x80800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800001],
    np.uint32,
)  # fmt: skip
RATES = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}

FP, BP, WU, PASS, PASS_BP = (
    Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS, Opcode.PASS_BP,
)  # fmt: skip
R, B, A, M = Flag.RELU, Flag.BIAS, Flag.ADD, Flag.SIDE_MASK
P, U, W, V = Flag.POOL, Flag.UNPOOL, Flag.UPDATE, Flag.MOMENTUM
K, S, G, N = Flag.KEEP, Flag.STATISTICS, Flag.SUMS, Flag.NORM_MASK
DRAIN_FLAGS = {R, B, A, M, P, U, W, V, K, S, G, N}

PLACE = ("block_start", "block_end", "group_first", "group_last", "block")
AccBus, AccBeat, AccSource, _, _ = define_stream(
    "Acc", signals=["data", *PLACE, "diagonal", "lane", "valid", "ready"]
)


def legal_modes(opcode):
    """All sets of flags that matter on the drain and are legal with this opcode, as tuples."""
    choice = [flag for flag in LEGAL_FLAGS[opcode] if flag in DRAIN_FLAGS]
    for count in range(len(choice) + 1):
        for flags in itertools.combinations(choice, count):
            exclusive = any(set(pair) <= set(flags) for pair in EXCLUSIVE_FLAGS)
            lacking = any(one in flags and other not in flags for one, other in REQUIRED_FLAGS)
            if not exclusive and not lacking:
                yield flags


ALL_MODES = [(opcode, flags) for opcode in (FP, BP, WU, PASS) for flags in legal_modes(opcode)]


def random_words(rng, shape, corners=0.05):
    """fp32 bits: mostly moderate numbers with repetitions, so that ties occur, and some corners."""
    words = bits(rng.integers(-8, 9, shape) * 0.375)
    words = np.where(rng.random(shape) < 0.5, bits(rng.normal(size=shape)), words)
    return np.where(rng.random(shape) < corners, rng.choice(CORNERS, shape), words)


def random_blocks(rng, *, groups=2, vectors=(1, 2, 3, 5, 9)):
    """Some tiles of a few blocks for each of ``groups`` groups of out blocks."""
    blocks = []
    for _ in range(groups):
        tiles, count = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        for tile, block in itertools.product(range(tiles), range(count)):
            blocks.append(
                DrainedBlock(int(rng.choice(vectors)), block, tile == 0, tile == tiles - 1)
            )
    return blocks


class Job:
    """Random vectors for one descriptor, the streams they make, and what must come out.

    The vectors of the blocks are those of results: POOL takes four for each.
    """

    def __init__(self, rng, group, opcode, flags, blocks=None, *, vectors=12, corners=0.05):
        flags = set(flags)
        each = WINDOW if P in flags else 1
        blocks = [
            DrainedBlock(each * b.vectors, b.block, b.group_first, b.group_last)
            for b in blocks or [DrainedBlock(vectors)]
        ]
        vectors = sum(block.vectors for block in blocks)
        diagonal = np.zeros(vectors, bool)
        if opcode == WU and B in flags:
            diagonal = np.r_[diagonal, np.ones(group, bool), np.zeros(2, bool)]
            blocks = [DrainedBlock(len(diagonal))]
            vectors = len(diagonal)
        results = vectors - diagonal.sum() + diagonal.any()
        parameters, operands = side_vectors(opcode, flags)
        acc = random_words(rng, (vectors, group), corners)
        side = random_words(rng, (results * operands + len(blocks) * parameters, group), corners)
        windows = WINDOW if U in flags else int(A in flags)
        auxiliary = random_words(rng, (vectors * windows, group), corners)
        rates = {name: int(bits(value)) for name, value in RATES.items()}
        o, second = Epilogue.model(
            acc, side, auxiliary, opcode=opcode, flags=flags, blocks=blocks, diagonal=diagonal,
            **rates,
        )  # fmt: skip
        self.title = f"{opcode.name} {'+'.join(flag.name for flag in sorted(flags))} {blocks}"
        self.controls = {"flags": sum(1 << flag for flag in flags), "opcode": int(opcode), **rates}
        self.side = [PlainBeat(payload=data) for data in to_beats(side)]
        self.auxiliary = [PlainBeat(payload=data) for data in to_beats(auxiliary)]
        self.expected, self.second = to_beats(o), to_beats(second)
        self.nonfinite = int(((o.reshape(-1, 4) >> 23 & 255) == 255).any(axis=1).sum())
        self._make_acc(acc, blocks, diagonal)
        self._make_rests(group // 4, blocks, diagonal, flags)

    def _make_acc(self, acc, blocks, diagonal):
        group = acc.shape[1]
        lanes = np.maximum(np.cumsum(diagonal) - 1, 0)
        self.acc, k = [], 0
        for b in blocks:
            for vector in range(b.vectors):
                for data in to_beats(acc[k]):
                    self.acc.append(
                        AccBeat(
                            data=data, block_start=int(vector == 0),
                            block_end=int(vector == b.vectors - 1),
                            group_first=int(b.group_first), group_last=int(b.group_last),
                            block=b.block, diagonal=int(diagonal[k]), lane=int(lanes[k]) % group,
                        )
                    )  # fmt: skip
                k += 1

    def _make_rests(self, beats, blocks, diagonal, flags):
        """(beats of acc, beats of o) between which nothing is on the way."""
        self.rests = {(0, 0)}
        each = WINDOW if U in flags else 2 if {W, V} <= flags else 1
        record, sums = beats + 2 * PARTIAL_BEATS, {S, G} & flags
        taken = given = 0
        for block in blocks:
            for vector in range(block.vectors):
                whole = (
                    diagonal[: taken + 1].sum() % (4 * beats) == 0
                    if diagonal[taken]
                    else P not in flags or vector % WINDOW == WINDOW - 1
                )
                taken += 1
                given += each * beats * int(whole)
                ends = vector == block.vectors - 1
                if sums and block.group_last and ends:
                    given += record
                if whole and (ends or not sums):
                    self.rests.add((taken * beats, given))
        assert given == len(self.expected), self.title


class Unit:
    """The epilogue with its streams."""

    SINKS = ("o", "second")
    SOURCES = ("acc", "side", "auxiliary")

    def __init__(self, dut):
        self.dut = dut
        self.group = 1 << len(dut.acc_lane)
        self.beats = self.group // 4
        self.sources = {"acc": AccSource(AccBus.from_prefix(dut, "acc"), dut.clk)}
        self.sinks, self.moved = {}, {}
        for name in ("side", "auxiliary"):
            self.sources[name] = PlainSource(PlainBus.from_prefix(dut, name), dut.clk)
        for name in self.SINKS:
            self.sinks[name] = PlainSink(PlainBus.from_prefix(dut, name), dut.clk)
        for name in (*self.SOURCES, *self.SINKS):
            payload = ["data", *PLACE] if name == "acc" else ["payload"]
            self.moved[name] = Handshakes(dut, name, payload)
        self.nonfinite = High(dut, "nonfinite")
        self._rests, self._moved = set(), [0, 0]
        cocotb.start_soon(self._watch_idle())

    async def _watch_idle(self):
        """Notes how many beats of acc and o had moved whenever the unit said that it is idle."""
        while True:
            await RisingEdge(self.dut.clk)
            if int(self.dut.idle.value):
                self._rests.add(tuple(self._moved))
            for k, name in enumerate(("acc", "o")):
                valid, ready = (getattr(self.dut, f"{name}_{end}") for end in ("valid", "ready"))
                self._moved[k] += int(valid.value) & int(ready.value)

    def pause(self, rng, **active):
        """Random stalls on the streams that are named; none on the others."""
        for name, stream in {**self.sources, **self.sinks}.items():
            stall(rng, stream, active.get(name, False))

    def job(self, rng, opcode, flags, *arguments, **settings):
        return Job(rng, self.group, opcode, flags, *arguments, **settings)

    async def run(self, job):
        """Run one job from idle to idle; compares what comes out."""
        assert int(self.dut.idle.value), job.title
        for name, value in job.controls.items():
            getattr(self.dut, name).value = value
        for moved in self.moved.values():
            moved.cycles.clear()
        self.nonfinite.count = 0
        self._rests, self._moved = set(), [0, 0]
        for name, source in self.sources.items():
            for beat in getattr(job, name):
                source.send_nowait(beat)
        for name, expected in (("o", job.expected), ("second", job.second)):
            got = [int((await self.sinks[name].recv()).payload) for _ in expected]
            assert got == expected, (name, job.title)
        # The sink hands a beat over in the cycle after the one in which it took it.
        for _ in range(40):
            await cycles(self.dut, 1)
            if int(self.dut.idle.value):
                break
        else:
            raise AssertionError(f"{job.title}: not idle after the last beat")
        assert all(sink.empty() for sink in self.sinks.values()), job.title
        assert all(source.empty() for source in self.sources.values()), job.title
        assert self.nonfinite.count == job.nonfinite, job.title
        assert self._rests <= job.rests, f"{job.title}: idle with beats inside"

    def cycles_of(self, *names):
        return tuple(self.moved[name].cycles for name in names)


async def start(dut):
    """Clock and reset; every input 0. Returns a unit, a generator of Python's, one of numpy's."""
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    dut._log.setLevel(logging.INFO)
    dut._log.info("random seed %d", SEED)
    inputs = ("flags", "opcode", *RATES, *(f"{name}_valid" for name in Unit.SOURCES))
    for name in (*inputs, "o_ready", "second_ready"):
        getattr(dut, name).value = 0
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
    dut.rst.value = 1
    await cycles(dut, 3)
    dut.rst.value = 0
    unit = Unit(dut)
    await cycles(dut, 2)
    return unit, random.Random(SEED), np.random.default_rng(SEED)


def consecutive(taken):
    return taken == list(range(taken[0], taken[0] + len(taken)))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_latency(dut):
    """A single vector, or window, in every mode: ``Epilogue.latency`` from acc to o."""
    unit, _, rng = await start(dut)
    for opcode, flags in ALL_MODES:
        if {W, V} <= set(flags) or (opcode == WU and B in flags):
            continue
        await unit.run(unit.job(rng, opcode, flags, vectors=1))
        acc, side, o = unit.cycles_of("acc", "side", "o")
        # The first beat waits in a buffer of two for parameters and mask; then one goes on a cycle.
        parameters, operands = side_vectors(opcode, flags)
        before = (parameters + max(operands - 1, 0)) * unit.beats
        first = acc[0] + 1 + before
        gone = list(range(first, first + len(acc)))
        assert acc[2:] == [k + 1 for k in gone[:-2]], flags
        if U in flags:
            # The sign of k0 is known once the vector has gone on; then the window is scanned.
            assert o[0] == first + max(Epilogue.latency - 1, 4 * unit.beats + 3), flags
        else:
            latency = Epilogue.latency - 1 + (P in flags)
            assert o[: unit.beats] == [k + latency for k in gone[-unit.beats :]], flags
        # Operands go on with their beat, parameters and masks right before it. They come in through
        # a buffer: a cycle before that at the latest, and at most two beats ahead.
        if side:
            used = [*range(acc[0] + 1, first), *(gone if operands else [])]
            assert len(side) == len(used) and side[0] == used[0] - 1, flags
            assert all(came < use for came, use in zip(side, used, strict=True)), flags
            assert all(came > use for came, use in zip(side[2:], used, strict=False)), flags
    await unit.run(unit.job(rng, WU, (W, V), vectors=1))
    acc, side, o = unit.cycles_of("acc", "side", "o")
    # Once through half of the lanes, then through all of them.
    assert acc == side[: unit.beats]
    assert Epilogue.latency < o[0] - acc[0] <= 2 * Epilogue.latency
    assert consecutive(o)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def epilogue_a_beat_a_cycle(dut):
    """No pause in a long run: on the stream of each mode that has most beats."""
    unit, _, rng = await start(dut)
    vectors = 48
    for opcode, flags in ALL_MODES:
        if opcode == WU and B in flags:
            continue
        await unit.run(unit.job(rng, opcode, flags, vectors=vectors))
        acc, side, auxiliary, o = unit.cycles_of("acc", "side", "auxiliary", "o")
        if U in flags:
            # The windows come at the rate of o, so that masks and operands have time to be read.
            assert consecutive(o[: 4 * vectors * unit.beats]), flags
        elif {M, S} <= set(flags) or {W, V} <= set(flags):
            assert consecutive(side), flags
        else:
            # Behind the first two beats, which wait for the parameters.
            assert consecutive(acc[2:]), flags
    # The two results of each weight share one output.
    await unit.run(unit.job(rng, WU, (W, V), vectors=vectors))
    acc, o = unit.cycles_of("acc", "o")
    assert consecutive(o) and len(o) == 2 * len(acc)
    # T diagonal vectors go in for one that comes out.
    for flags in [(B,), (W, B)]:
        await unit.run(unit.job(rng, WU, flags, vectors=8))
        assert consecutive(*unit.cycles_of("acc")), flags


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def epilogue_blocks(dut):
    """Blocks back to back: the gaps between them are those of parameters and statistics."""
    unit, _, rng = await start(dut)
    for opcode, flags in ALL_MODES:
        parameters, operands = side_vectors(opcode, flags)
        if opcode == WU or U in flags or operands > 1:
            continue
        gap = max(parameters * unit.beats, Statistics.gap if {S, G} & set(flags) else 0)
        for size in (1, 2, 9):
            blocks = [DrainedBlock(size, block, True, False) for block in range(5)]
            await unit.run(unit.job(rng, opcode, flags, blocks))
            (acc,) = unit.cycles_of("acc")
            length = len(acc) // len(blocks)
            first = acc[0] + 1 + parameters * unit.beats
            gone = [
                first + block * (length + gap) + k
                for block in range(len(blocks))
                for k in range(length)
            ]
            # A beat is taken when the one two places ahead has gone on.
            assert acc[2:] == [k + 1 for k in gone[:-2]], (flags, size)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def epilogue_records(dut):
    """A record follows its block soon; blocks of the tile go on behind it, the next tile waits."""
    unit, _, rng = await start(dut)
    record = unit.beats + 2 * PARTIAL_BEATS
    for opcode, flag in ((FP, S), (BP, S), (BP, G)):
        blocks = [DrainedBlock(20, block) for _ in range(2) for block in range(3)]
        await unit.run(unit.job(rng, opcode, (flag,), blocks))
        acc, o = unit.cycles_of("acc", "o")
        length = 20 * unit.beats
        for tile in range(2):
            first = tile * 3 * (length + record)
            waits = o[first + length] - o[first + length - 1]
            assert waits <= 2 * Statistics.gap + 12, (opcode, waits)
            assert consecutive(o[first + length : first + length + record]), opcode
        assert acc[3 * length + 2] <= o[3 * (length + record) - 1] + 2 + 4 * unit.beats
        assert acc[length + 2] <= acc[length + 1] + 1 + max(Statistics.gap, 4 * unit.beats)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def epilogue_modes_back_to_back(dut):
    """Every mode after every other in random order, flags changed as soon as the unit is idle."""
    unit, rng, numbers = await start(dut)
    for _ in range(2):
        jobs = [unit.job(numbers, *mode, random_blocks(numbers)) for mode in ALL_MODES]
        rng.shuffle(jobs)
        for job in jobs:
            await unit.run(job)
    for opcode, flags in itertools.product((PASS_BP,), legal_modes(PASS_BP)):
        await unit.run(unit.job(numbers, opcode, flags, random_blocks(numbers)))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def epilogue_random_stalls(dut):
    """The bits of the model in every legal mode, with stalls on many choices of the streams."""
    unit, rng, numbers = await start(dut)
    names = (*Unit.SOURCES, *Unit.SINKS)
    choices = [dict.fromkeys(names, True)]
    choices += [{name: True} for name in names]
    choices += [{name: name != other for name in names} for other in names]
    for choice in choices:
        unit.pause(rng, **choice)
        # Every mode of BP is one of PASS too.
        for opcode, flags in ALL_MODES:
            if opcode != BP:
                blocks = random_blocks(numbers, groups=1)
                await unit.run(unit.job(numbers, opcode, flags, blocks))


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def epilogue_nonfinite(dut):
    """Many infinities, NaNs and subnormals: the bits of the model, and nothing hangs."""
    unit, _, numbers = await start(dut)
    for mode in ALL_MODES:
        await unit.run(unit.job(numbers, *mode, random_blocks(numbers), corners=0.7))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_lacking(dut):
    """``lacking`` is high while an operand is missing, and never when all of them are there."""
    unit, _, rng = await start(dut)
    lacking = High(dut, "lacking")
    for mode in ALL_MODES:
        job = unit.job(rng, *mode, [DrainedBlock(3, block) for block in range(2)])
        for late in ("side", "auxiliary"):
            if not getattr(job, late):
                continue
            unit.sources[late].set_pause_generator(itertools.repeat(True))
            task = cocotb.start_soon(unit.run(job))
            await cycles(dut, 100)
            lacking.count = 0
            await cycles(dut, 50)
            assert lacking.count == 50, job.title
            unit.sources[late].set_pause_generator(itertools.repeat(False))
            await task
        # The sources of the testbench need a cycle to offer their first beat.
        await cycles(dut, 5)
        lacking.count = 0
        await unit.run(job)
        assert lacking.count <= 4 * unit.beats, job.title


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def epilogue_full(dut):
    """An output that stands still holds acc and side back, and nothing is lost."""
    unit, _, rng = await start(dut)
    for opcode, flags, stuck in [
        (FP, (), "o"), (FP, (A, B, R), "o"), (FP, (P,), "o"), (FP, (P, K, S), "o"),
        (FP, (P, K), "second"), (BP, (U, S, N), "o"), (PASS, (M, S), "o"), (PASS, (M, G), "o"),
        (WU, (W, V), "o"),
    ]:  # fmt: skip
        job = unit.job(rng, opcode, flags, vectors=160)
        unit.sinks[stuck].set_pause_generator(itertools.repeat(True))
        task = cocotb.start_soon(unit.run(job))
        await cycles(dut, 800)
        before = [len(taken) for taken in unit.cycles_of(*unit.moved)]
        assert before[0] < len(job.acc) and not unit.cycles_of(stuck)[0], job.title
        await cycles(dut, 50)
        assert [len(taken) for taken in unit.cycles_of(*unit.moved)] == before, job.title
        unit.sinks[stuck].set_pause_generator(itertools.repeat(False))
        await task
