"""cocotb testbench of single datapath blocks, which stand side by side in one model.

``tests/datapath/test_block_cycles.py`` builds the model, says what each prefix of a port stands
for, and runs each test below. Inputs change after a rising edge and everything is read at the next
one: a *cycle* is what lies between.
"""

import itertools
import logging
import random
from collections import deque

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi.stream import define_stream

from eftrain_hdl.arithmetic import BF16, FP32, FloatAdd, dot_product_model, round_to_format
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.accumulator import Accumulator
from eftrain_hdl.datapath.mac_array import MacArray
from eftrain_hdl.memory.axi import RunTag

PERIOD_NS = 10
SEED = 20240229
CONFIG = CoreConfig(rows=4, lanes=4, accumulator_depth=64)
T = CONFIG.group
RING_DEPTH = 16
CORNERS = np.array(
    [0, 1 << 31, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F7F8000, 0x7F800000,
     0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x3F808000, 0x3F818000, 0x3F808001],
    np.uint32,
)  # fmt: skip

BeatBus, Beat, BeatSource, _, _ = define_stream(
    "Beat", signals=["data", "tag", "last", "valid", "ready"]
)
VectorBus, Vector, VectorSource, VectorSink, _ = define_stream(
    "Vector", signals=["data", "end", "transpose", "valid", "ready"]
)
PlainBus, _, _, PlainSink, _ = define_stream("Plain", signals=["payload", "valid", "ready"])

# (source idles, sink stalls)
STALLS = [(False, False), (True, False), (False, True), (True, True)]


async def start(dut):
    """Clock and reset; every input 0. Returns the random generator of the test."""
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    dut._log.setLevel(logging.INFO)
    dut._log.info("random seed %d", SEED)
    for name in (
        "ring1_i_valid", "ring1_release", "ring2_i_valid", "ring2_release",
        "load1_i_valid", "load2_i_valid", "load4_i_valid", "turn_i_valid", "turn_o_ready",
        "load1_o_ready", "load2_o_ready", "load4_o_ready", "array_shadow_valid", "array_swap",
        "array_v", "sums_valid", "sums_drain_read", "sums_sums",
    ):  # fmt: skip
        getattr(dut, name).value = 0
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
    await cycles(dut, 3)
    dut.rst.value = 0
    return random.Random(SEED)


async def cycles(dut, count):
    for _ in range(count):
        await RisingEdge(dut.clk)


def pack(words, bits=32):
    return sum(int(word) << bits * i for i, word in enumerate(words))


def unpack(value, count, bits=32):
    value = int(value)
    return [value >> bits * i & (1 << bits) - 1 for i in range(count)]


def floats(rng, *shape, special=0.02):
    """fp32 bit patterns: moderate numbers, and corner cases with chance ``special``."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    values = numbers.standard_normal(shape) * np.exp2(numbers.integers(-8, 9, shape))
    bits = values.astype(np.float32).view(np.uint32)
    return np.where(numbers.random(shape) < special, numbers.choice(CORNERS, shape), bits)


# -- ring buffer -----------------------------------------------------------------------------------


class Ring:
    """A ring buffer with its model: every cycle is checked."""

    def __init__(self, dut, latency):
        self._dut = dut
        self._port = lambda name: getattr(dut, f"ring{latency}_{name}")
        self.entries = []
        self._answers = deque([None] * latency)
        self._found = None
        self.reads = 0

    def drive(self, *, append=None, offset=0, release=None, read=True):
        port = self._port
        port("i_valid").value = append is not None
        port("i_payload").value = append or 0
        port("offset").value = offset
        port("read").value = read
        port("release").value = release is not None
        # Without the pulse the count must not matter.
        port("count").value = RING_DEPTH if release is None else release
        self._now = (append, offset, release, read)

    def check(self):
        """At the end of the cycle: compare the outputs, then move the model on."""
        append, offset, release, read = self._now
        entries, port = self.entries, self._port
        assert int(port("available").value) == len(entries)
        room = len(entries) < RING_DEPTH
        assert bool(port("i_ready").value) == room
        answer = self._answers.popleft()
        if answer is not None:
            assert int(port("data").value) == answer
            self.reads += 1
        if read:
            self._found = entries[offset] if offset < len(entries) else None
        self._answers.append(self._found)
        if release is not None:
            del entries[:release]
        accepted = append is not None and room
        if accepted:
            entries.append(append)
        return accepted

    async def cycle(self, **inputs):
        self.drive(**inputs)
        await RisingEdge(self._dut.clk)
        return self.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ring_buffer_latency(dut):
    """An appended entry can be read in the next cycle; data follow after exactly 1 or 2 cycles."""
    await start(dut)
    for latency in (1, 2):
        ring = Ring(dut, latency)
        for value in range(0x11, 0x15):
            await ring.cycle(append=value)
            # Reads of what arrived last; the model compares the data in the right cycle.
            await ring.cycle(offset=len(ring.entries) - 1)
        await ring.cycle()
        seen = []
        for offset in (0, 1, 2, 3, 0, 0, 0):
            await ring.cycle(offset=offset)
            seen.append(int(getattr(dut, f"ring{latency}_data").value))
        assert seen[latency : latency + 4] == [0x11, 0x12, 0x13, 0x14]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ring_buffer_full_and_release(dut):
    """Refuses when full, loses nothing, takes an entry a cycle while one a cycle is released."""
    await start(dut)
    for latency in (1, 2):
        ring = Ring(dut, latency)
        value = itertools.count(1000)
        taken = [await ring.cycle(append=next(value)) for _ in range(RING_DEPTH + 3)]
        assert taken == [True] * RING_DEPTH + [False] * 3
        # A release makes room for the next cycle, not for its own.
        assert not await ring.cycle(append=1, release=1, offset=0)
        assert await ring.cycle(append=next(value), release=1, offset=RING_DEPTH - 2)
        for _ in range(3 * RING_DEPTH):
            offset = len(ring.entries) - 1
            assert await ring.cycle(append=next(value), release=1, offset=offset)
        # All at once, while the read of the last entry and an append are on their way.
        await ring.cycle(append=next(value))
        assert len(ring.entries) == RING_DEPTH
        await ring.cycle(offset=RING_DEPTH - 1, release=RING_DEPTH)
        assert await ring.cycle(append=next(value))
        await ring.cycle(offset=0, release=0)
        await cycles(dut, latency)
        assert len(ring.entries) == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ring_buffer_random(dut):
    """Random appends, reads and releases, many times around both rings."""
    rng = await start(dut)
    rings = [Ring(dut, 1), Ring(dut, 2)]
    appended = [0, 0]
    for cycle in range(3000):
        busy = (0.2, 0.5, 0.9)[cycle // 100 % 3]
        for ring in rings:
            held = len(ring.entries)
            release = rng.randint(0, held) if rng.random() < 0.6 - busy / 2 else None
            ring.drive(
                append=rng.getrandbits(32) if rng.random() < busy else None,
                offset=rng.randrange(held or RING_DEPTH),
                release=release,
                read=rng.random() < 0.7,
            )
        await RisingEdge(dut.clk)
        for index, ring in enumerate(rings):
            appended[index] += ring.check()
    assert min(appended) > 20 * RING_DEPTH and min(ring.reads for ring in rings) > 1000


# -- streams ---------------------------------------------------------------------------------------


class Handshakes:
    """Cycles in which a stream moved, and what it held back may not change."""

    def __init__(self, dut, prefix, payload):
        self.cycles = []
        self._signals = [getattr(dut, f"{prefix}_{name}") for name in ("valid", "ready", *payload)]
        cocotb.start_soon(self._watch(dut))

    async def _watch(self, dut):
        waiting = None
        for cycle in itertools.count():
            await RisingEdge(dut.clk)
            valid, ready, *payload = (int(signal.value) for signal in self._signals)
            assert waiting is None or (valid and payload == waiting), "a waiting payload changed"
            waiting = payload if valid and not ready else None
            if valid and ready:
                self.cycles.append(cycle)


def stall(rng, stream, active):
    def pauses(mine):
        while True:
            yield mine.random() < 0.5

    generator = pauses(random.Random(rng.random())) if active else itertools.repeat(False)
    stream.set_pause_generator(generator)


# -- vector loader ---------------------------------------------------------------------------------

# prefix: (lanes, format)
LOADERS = {"load1": (4, FP32), "load2": (8, BF16), "load4": (16, FP32)}


class Loader:
    def __init__(self, dut, prefix):
        self.lanes, self.fmt = LOADERS[prefix]
        self.beats = self.lanes // 4
        self.source = BeatSource(BeatBus.from_prefix(dut, f"{prefix}_i"), dut.clk)
        self.sink = VectorSink(VectorBus.from_prefix(dut, f"{prefix}_o"), dut.clk)
        self.taken = Handshakes(dut, f"{prefix}_i", ["data"])
        self.given = Handshakes(dut, f"{prefix}_o", ["data", "end", "transpose"])

    async def send(self, rng, vectors):
        """Random vectors with random tags; compares what comes out."""
        values = floats(rng, vectors, self.lanes, special=0.3)
        expected = []
        for words in values:
            for beat in range(self.beats):
                tag, last = rng.getrandbits(len(RunTag.FIELDS)), rng.random() < 0.5
                data = pack(words[4 * beat : 4 * beat + 4])
                self.source.send_nowait(Beat(data=data, tag=tag, last=int(last)))
            # Only the last beat of a vector can end a row.
            rounded = round_to_format(self.fmt, words)
            mark, transpose = (
                tag >> RunTag.FIELDS.index(name) & 1 for name in ("mark", "transpose")
            )
            expected.append((pack(rounded, self.fmt.bits), int(last and mark), transpose))
        ends = 0
        for data, end, transpose in expected:
            vector = await self.sink.recv()
            assert int(vector.data) == data and int(vector.end) == end
            assert int(vector.transpose) == transpose
            ends += end
        assert 0 < ends < vectors and self.sink.empty()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def vector_loader(dut):
    """A beat a cycle without a pause; a vector one cycle after its last beat."""
    rng = await start(dut)
    for prefix in LOADERS:
        loader = Loader(dut, prefix)
        await cycles(dut, 2)
        await loader.send(rng, 200)
        taken = loader.taken.cycles
        assert taken[-1] - taken[0] == 200 * loader.beats - 1
        completed = taken[loader.beats - 1 :: loader.beats]
        assert loader.given.cycles == [cycle + 1 for cycle in completed]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def vector_loader_backpressure(dut):
    """Nothing is lost, repeated or changed by stalls; a full vector holds back the next beat."""
    rng = await start(dut)
    for prefix in LOADERS:
        loader = Loader(dut, prefix)
        for idle, backpressure in STALLS:
            stall(rng, loader.source, idle)
            stall(rng, loader.sink, backpressure)
            await loader.send(rng, 100)
        stall(rng, loader.source, False)
        loader.sink.set_pause_generator(itertools.repeat(True))
        loader.taken.cycles.clear()
        task = cocotb.start_soon(loader.send(rng, 10))
        await cycles(dut, 50)
        assert len(loader.taken.cycles) == loader.beats
        loader.sink.set_pause_generator(itertools.repeat(False))
        await task


# -- transposer ------------------------------------------------------------------------------------

LANES = 4


class Turn:
    """The transposer of 4 lanes of 8 bits."""

    def __init__(self, dut):
        self.source = VectorSource(VectorBus.from_prefix(dut, "turn_i"), dut.clk)
        self.sink = PlainSink(PlainBus.from_prefix(dut, "turn_o"), dut.clk)
        self.taken = Handshakes(dut, "turn_i", ["data"])
        self.given = Handshakes(dut, "turn_o", ["payload"])

    def send(self, rng, rows):
        """Queue array rows of these many vectors; returns the groups that must come out.

        A negative length stands for that many vectors that pass as they are: groups of one.
        """
        groups = []
        for length in rows:
            vectors = [[rng.randrange(1, 256) for _ in range(LANES)] for _ in range(abs(length))]
            for index, vector in enumerate(vectors):
                end = int(index == length - 1) if length > 0 else rng.randrange(2)
                self.source.send_nowait(
                    Vector(data=pack(vector, 8), end=end, transpose=int(length > 0))
                )
            if length < 0:
                groups += [[vector] for vector in vectors]
                continue
            vectors += [[0] * LANES] * (-length % LANES)
            for first in range(0, len(vectors), LANES):
                groups.append(list(zip(*vectors[first : first + LANES], strict=True)))
        return groups

    async def expect(self, groups):
        for number, group in enumerate(groups):
            for lane, pixels in enumerate(group):
                found = unpack((await self.sink.recv()).payload, LANES, 8)
                assert found == list(pixels), (number, lane)
        assert self.sink.empty()

    async def check_cycles(self, rng, rows):
        """Send without stalls: only what the output needs holds back the input.

        A group's first output comes two cycles after its last input, or after the group before. A
        group may enter when the last output but for one of the group before the last is out.
        """
        taken, given, last_outputs = [], [], [-1, -1]
        for length in rows:
            sizes = [1] * -length
            if length > 0:
                sizes = [min(LANES, length - k) for k in range(0, length, LANES)]
            for size in sizes:
                begin = max(len(taken) and taken[-1] + 1, last_outputs[-2])
                taken += range(begin, begin + size)
                begin = max(taken[-1] + 2, last_outputs[-1] + 1)
                given += range(begin, begin + (LANES if length > 0 else 1))
                last_outputs.append(given[-1])
        self.taken.cycles.clear()
        self.given.cycles.clear()
        await self.expect(self.send(rng, rows))
        first = self.taken.cycles[0]
        assert [cycle - first for cycle in self.taken.cycles] == taken
        assert [cycle - first for cycle in self.given.cycles] == given


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transposer_groups(dut):
    """Rows of 1 to 9 vectors: a group of LANES outputs for every LANES inputs or the row's rest."""
    rng = await start(dut)
    turn = Turn(dut)
    await cycles(dut, 2)
    for length in range(1, 10):
        await turn.check_cycles(rng, [length] * 6)
        groups = 6 * -(-length // LANES)
        given = turn.given.cycles
        assert len(given) == LANES * groups
        # From the first group on an output a cycle, if the first input of each group is in time.
        if length <= LANES or length % LANES == 0:
            assert given[-1] - given[0] == LANES * groups - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transposer_random(dut):
    """Random rows in all four stall combinations."""
    rng = await start(dut)
    turn = Turn(dut)
    await cycles(dut, 2)
    for idle, backpressure in STALLS:
        stall(rng, turn.source, idle)
        stall(rng, turn.sink, backpressure)
        await turn.expect(turn.send(rng, [rng.randint(1, 14) for _ in range(60)]))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transposer_passes_through(dut):
    """Vectors that are not transposed come out two cycles later, one a cycle."""
    rng = await start(dut)
    turn = Turn(dut)
    for idle, backpressure in STALLS:
        stall(rng, turn.source, idle)
        stall(rng, turn.sink, backpressure)
        await cycles(dut, 2)
        await turn.expect(turn.send(rng, [-60]))
    stall(rng, turn.source, False)
    stall(rng, turn.sink, False)
    await cycles(dut, 2)
    await turn.check_cycles(rng, [-60])
    assert turn.given.cycles == [cycle + 2 for cycle in turn.taken.cycles]
    assert turn.taken.cycles[-1] - turn.taken.cycles[0] == 59


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transposer_switches(dut):
    """Rows and vectors that pass follow each other at once, in all stall combinations."""
    rng = await start(dut)
    turn = Turn(dut)
    await cycles(dut, 2)
    for idle, backpressure in STALLS:
        stall(rng, turn.source, idle)
        stall(rng, turn.sink, backpressure)
        lengths = [rng.choice((1, -1)) * rng.randint(1, 9) for _ in range(80)]
        await turn.expect(turn.send(rng, lengths))
    stall(rng, turn.source, False)
    stall(rng, turn.sink, False)
    await cycles(dut, 2)
    await turn.check_cycles(rng, [-3, 8, 3, -5, 4, -1])
    await cycles(dut, 2)
    await turn.check_cycles(rng, lengths)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transposer_backpressure(dut):
    """While the output waits two groups fit inside and, of vectors that pass, three."""
    rng = await start(dut)
    turn = Turn(dut)
    for rows, fits in (([LANES] * 4, 2 * LANES), ([1] * 6, 2), ([5] * 4, 5), ([-9], 3)):
        turn.sink.set_pause_generator(itertools.repeat(True))
        await cycles(dut, 2)
        turn.taken.cycles.clear()
        groups = turn.send(rng, rows)
        await cycles(dut, 50)
        assert len(turn.taken.cycles) == fits
        turn.sink.set_pause_generator(itertools.repeat(False))
        await turn.expect(groups)


# -- array -----------------------------------------------------------------------------------------


class Array:
    """Drives the MAC array and keeps its outputs, one a cycle."""

    latency = MacArray(CONFIG).latency

    def __init__(self, dut):
        self._dut = dut
        self.outputs, self.specials = [], []

    async def cycle(self, v, *, shadow=None, column=0, index=0, swap=0):
        dut = self._dut
        dut.array_v.value = pack(v)
        dut.array_shadow_valid.value = shadow is not None
        dut.array_shadow_column.value = column
        dut.array_shadow_index.value = index
        dut.array_shadow_data.value = 0 if shadow is None else pack(shadow)
        dut.array_swap.value = swap
        await RisingEdge(dut.clk)
        self.outputs.append(unpack(dut.array_o.value, T))
        self.specials.append(int(dut.array_special.value))

    async def compare(self, matrices, vectors, *, first=0):
        """Vector ``i`` met ``matrices[i]`` in cycle ``first + i``; its sums come latency later."""
        for _ in range(self.latency):
            await self.cycle([0] * T)
        expected = dot_product_model(FP32, np.array(matrices), np.array(vectors)[:, None])
        begin = first + self.latency
        found = np.array(self.outputs[begin : begin + len(vectors)], np.uint32)
        wrong = np.argwhere(found != expected)
        assert not len(wrong), f"(vector, row) {wrong[:5]}"
        specials = (expected >> 23 & 255 == 255).any(axis=1)
        assert self.specials[begin : begin + len(vectors)] == specials.astype(int).tolist()
        return specials


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def mac_array_swap(dut):
    """A new S every T cycles, a vector every cycle: loading hides behind computing.

    The first row of the next S is written in the cycle of the swap and must not be in this one.
    """
    rng = await start(dut)
    for column in (0, 1):
        array = Array(dut)
        count = 50
        tiles = floats(rng, count, T, T, special=0)
        vectors = floats(rng, (count + 1) * T, T, special=0)
        for number in range(count + 1):
            for index in range(T):
                written = None
                if number < count:
                    written = tiles[number, :, index] if column else tiles[number, index]
                await array.cycle(
                    vectors[number * T + index], shadow=written, column=column, index=index,
                    swap=number > 0 and index == 0,
                )  # fmt: skip
        # Vectors of the cycle of a swap still meet the S before; T cycles later the next swap.
        matrices = np.repeat(tiles, T, axis=0)[: (count - 1) * T]
        first = T + 1
        await array.compare(matrices, vectors[first : first + len(matrices)], first=first)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def mac_array_random(dut):
    """Random rows, columns, swaps and special numbers: the bits, and the flag of Inf and NaN."""
    rng = await start(dut)
    array = Array(dut)
    following = floats(rng, T, T)
    for index in range(T):
        await array.cycle([0] * T, shadow=following[index], index=index)
    await array.cycle([0] * T, swap=1)
    current, first = following.copy(), T + 1
    matrices, vectors = [], floats(rng, 2000, T)
    for v in vectors:
        shadow, column, index = None, rng.randrange(2), rng.randrange(T)
        if rng.random() < 0.7:
            shadow = floats(rng, T)
        swap = rng.random() < 0.3
        await array.cycle(v, shadow=shadow, column=column, index=index, swap=swap)
        matrices.append(current)
        if swap:
            current = following.copy()
        if shadow is not None:
            if column:
                following[:, index] = shadow
            else:
                following[index] = shadow
    specials = await array.compare(matrices, vectors, first=first)
    assert 100 < specials.sum() < 1900


# -- accumulators ----------------------------------------------------------------------------------


class Sums:
    """Drives the accumulators a cycle at a time."""

    def __init__(self, dut):
        self._dut = dut
        self._coming = deque([np.zeros(T, np.uint32)] * 2)

    async def cycle(self, *, add=None, drain=None):
        """``add``: (bank, address, sums); ``drain``: (bank, address). Returns ``drain_data``."""
        dut = self._dut
        # Sums come two cycles after their place.
        dut.sums_sums.value = pack(self._coming.popleft())
        bank, address, value = add or (0, 0, np.full(T, 0x42F60000, np.uint32))
        self._coming.append(value)
        dut.sums_valid.value = add is not None
        dut.sums_bank.value, dut.sums_address.value = bank, int(address)
        bank, address = drain or (0, 0)
        dut.sums_drain_read.value = drain is not None
        dut.sums_drain_bank.value, dut.sums_drain_address.value = bank, int(address)
        await RisingEdge(dut.clk)
        return np.array(unpack(dut.sums_drain_data.value, T), np.uint32)

    async def idle(self, count):
        for _ in range(count):
            await self.cycle()

    async def drained(self, bank, address):
        await self.cycle(drain=(bank, address))
        return await self.cycle()

    async def until_ready(self):
        """Returns how many cycles were not ready."""
        for count in itertools.count():
            await self.cycle()
            if self._dut.sums_ready.value:
                return count
            assert count < 1000


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def accumulator_clears_after_reset(dut):
    """Both banks are zero after a reset, whatever they held; an entry a cycle."""
    await start(dut)
    sums = Sums(dut)
    await sums.until_ready()
    depth = CONFIG.accumulator_depth
    for bank, address in itertools.product((0, 1), range(depth)):
        await sums.cycle(add=(bank, address, np.full(T, 0x40000000 + address, np.uint32)))
    await sums.idle(Accumulator.latency)
    # They do hold something.
    for bank in (0, 1):
        assert (await sums.drained(bank, 5) == 0x40000005).all()
    dut.rst.value = 1
    await sums.idle(1)
    dut.rst.value = 0
    assert await sums.until_ready() == depth
    for bank, address in itertools.product((0, 1), range(depth)):
        assert not (await sums.drained(bank, address)).any(), (bank, address)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def accumulator_latency_and_hazard(dut):
    """``latency`` and ``hazard`` are enough, and one cycle less would lose a sum."""
    rng = await start(dut)
    sums = Sums(dut)
    await sums.until_ready()
    address = 0
    for bank in (0, 1):
        for wait in (Accumulator.latency, Accumulator.latency - 1):
            address += 1
            value = floats(rng, T, special=0)
            await sums.cycle(add=(bank, address, value))
            await sums.idle(wait - 1)
            found = await sums.drained(bank, address)
            assert (found == (value if wait == Accumulator.latency else 0)).all(), wait
            await sums.idle(2)
            assert not (await sums.drained(bank, address)).any(), "draining did not clear"
        for apart in (Accumulator.hazard + 1, Accumulator.hazard):
            address += 1
            one, other = floats(rng, 2, T, special=0)
            await sums.cycle(add=(bank, address, one))
            await sums.idle(apart - 1)
            await sums.cycle(add=(bank, address, other))
            await sums.idle(Accumulator.latency)
            total = FloatAdd.model(one, other) if apart > Accumulator.hazard else other
            assert (await sums.drained(bank, address) == total).all(), apart
        # Two cycles after an entry was drained it takes new sums.
        value = floats(rng, T, special=0)
        await sums.cycle(add=(bank, 0, value))
        await sums.idle(Accumulator.latency)
        await sums.cycle(drain=(bank, 0))
        assert (await sums.cycle() == value).all()
        await sums.cycle(add=(bank, 0, value[::-1]))
        await sums.idle(Accumulator.latency)
        assert (await sums.drained(bank, 0) == value[::-1]).all()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def accumulator_random(dut):
    """One bank takes a vector a cycle while the other drains one a cycle, then they change places.

    No pause between: a bank computes from the cycle after the other's last vector, and drains as
    soon as its own last sum is out of the adder.
    """
    rng = await start(dut)
    sums = Sums(dut)
    await sums.until_ready()
    depth = CONFIG.accumulator_depth
    banks = np.zeros((2, depth, T), np.uint32)
    repeated = held = 0
    for turn in range(14):
        computing, draining = turn % 2, 1 - turn % 2
        paused = turn % 4 >= 2
        order = deque(rng.sample(range(depth), depth))
        recent = deque(maxlen=Accumulator.hazard)
        expected, holding = None, None
        met = set()
        cycle = 0
        while order or cycle < 2 * depth or expected is not None:
            add = drain = None
            choices = [a for a in range(depth) if a not in recent]
            # Few places, so that many sums meet the same one as early as they may.
            address = rng.choice(choices if turn % 3 else choices[:3])
            if not paused or rng.random() < 0.7:
                value = floats(rng, T)
                add = (computing, address, value)
                repeated += address in met
                met.add(address)
                total = FloatAdd.model(banks[computing, address], value)
                banks[computing, address] = total
            recent.append(address if add else None)
            if order and cycle >= Accumulator.latency and (not paused or rng.random() < 0.4):
                drain = (draining, order.popleft())
            found = await sums.cycle(add=add, drain=drain)
            if expected is not None:
                assert (found == expected).all(), (turn, cycle)
            elif holding is not None:
                held += 1
                assert (found == holding).all(), "drained data did not stay"
            holding = expected if expected is not None else holding
            expected = None
            if drain:
                expected = banks[draining, drain[1]].copy()
                banks[draining, drain[1]] = 0
            cycle += 1
    assert repeated > 1000 and held > 100
