"""cocotb testbench of the kernel: 4x4, fp32, buffers of 128 vectors.

Steps come from :class:`sim.reference_walk.TileWalk`, operands are random, and :class:`Model` says
which sums must come out, bit for bit, and which accumulators are used in which order.
``tests/datapath/test_kernel_cycles.py`` builds the kernel and runs each test below.
"""

import enum
import itertools
import logging
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi.stream import define_stream

from eftrain_hdl.arithmetic import FP32, FloatAdd, dot_product_model
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.accumulator import Accumulator
from eftrain_hdl.datapath.mac_array import MacArray
from eftrain_hdl.isa import DESCRIPTOR_BYTES, Flag, Opcode
from eftrain_hdl.memory.axi import RunTag
from sim.reference_walk import LayerPass, TileWalk, tap_pairs

PERIOD_NS = 10
SEED = 20241103
CONFIG = CoreConfig(rows=4, lanes=4, stream_depth=128, stationary_depth=128, accumulator_depth=128)
T = CONFIG.group
ONE = 0x3F800000
STREAM_LATENCY = 2
"""Of the stream buffer's memory, with its output register."""
DESCRIPTOR_BITS = 8 * DESCRIPTOR_BYTES
MARK, TRANSPOSE = 1 << RunTag.FIELDS.index("mark"), 1 << RunTag.FIELDS.index("transpose")

FP, BP, WU = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU
PASS, PASS_BP = Opcode.PASS, Opcode.PASS_BP

TILE_FIELDS = (
    "rows", "cols", "image0", "images", "out_block0", "out_blocks", "in_block", "first", "last",
    "final", "slot", "group_first", "group_last", "small_area", "big_area", "groups",
    "stream_vectors", "stationary_vectors", "pixel_vectors", "block_vectors",
)  # fmt: skip
AXIS_FIELDS = ("small0", "small1", "big0", "big1", "small", "big")

TileBus, Tile, TileSource, _, _ = define_stream("Tile", signals=[*TILE_FIELDS, "valid", "ready"])
BeatBus, Beat, BeatSource, _, _ = define_stream(
    "Beat", signals=["data", "tag", "last", "valid", "ready"]
)
SumBus, _, _, SumSink, _ = define_stream(
    "Sum", signals=["data", "block_start", "diagonal", "lane", "valid", "ready"]
)


class Event(enum.IntFlag):
    """Bits of the port ``events``."""

    ACTIVE = 1
    STALL_STREAM = 2
    STALL_STATIONARY = 4
    STALL_BANK = 8
    STALL_HAZARD = 16
    BEAT = 32
    FINAL = 64


STALLS = (
    Event.STALL_STREAM, Event.STALL_STATIONARY, Event.STALL_BANK, Event.STALL_HAZARD,
)  # fmt: skip
REASONS = Event.ACTIVE | sum(STALLS, Event(0))


def layer(opcode, flags=(), *, big, small, kernel=1, stride=1, pad=0, tile=None, **fields):
    """A layer pass; sizes are the same on both axes, or (rows, cols)."""
    tile = tile or (big if opcode in (BP, PASS_BP) else small)
    sizes = {}
    for name, value in (
        ("big", big), ("small", small), ("kernel", kernel), ("stride", stride), ("pad", pad),
        ("tile", tile),
    ):  # fmt: skip
        rows, cols = value if isinstance(value, tuple) else (value, value)
        sizes |= {f"{name}_rows": rows, f"{name}_cols": cols}
    counts = {"images": 1, "out_blocks": 1, "in_blocks": 1} | fields
    tiles = {"tile_images": counts["images"], "tile_out_blocks": counts["out_blocks"]}
    if opcode in (PASS, PASS_BP):
        tiles["tile_out_blocks"] = 1
    return LayerPass(opcode, flags, **sizes, **(tiles | counts))


class Model:
    """What the kernel is given and what it must return for one layer pass.

    Attributes
    ----------
    steps : list of dict
    stationary, streamed : list of (words, tag, last)
        Beats in the order of the readers.
    sums : list of (words, block_start, lane of the diagonal or None)
        Vectors in the order of the drain.
    addresses : list of list of int
        For each step, the accumulators in the order in which vectors are issued.
    sweeps : list of list of int
        For each step, how many vectors use each S.
    """

    def __init__(self, pass_, rng):
        self.layer = pass_
        self._random = np.random.default_rng(rng.randrange(2**32))
        self.steps = list(TileWalk(pass_, CONFIG))
        self.stationary, self.streamed, self.sums = [], [], []
        self.addresses, self.sweeps = [], []
        accumulators = None
        for step in self.steps:
            if step["first"]:
                accumulators = np.zeros((CONFIG.accumulator_depth, T), np.uint32)
            run = self._update_step if pass_.opcode is WU else self._pixel_step
            used, sweeps = [], []
            for s, vectors, places in run(step):
                products = dot_product_model(FP32, s[None], vectors[:, None])
                # Within one S no accumulator is met twice.
                accumulators[places] = FloatAdd.model(accumulators[places], products)
                used += list(places)
                sweeps.append(len(places))
            self.addresses.append(used)
            self.sweeps.append(sweeps)
            if step["last"]:
                self._drain(step, accumulators)

    @property
    def vectors(self):
        return sum(map(len, self.addresses))

    def _operands(self, *shape):
        """Random fp32 numbers of a moderate range, with zeros among them."""
        values = self._random.standard_normal(shape) * np.exp2(self._random.integers(-6, 7, shape))
        values[self._random.random(shape) < 0.05] = 0
        return values.astype(np.float32).view(np.uint32)

    def _pairs(self, step, tap):
        """Two arrays [n, 2]: (row, col) on the small and the big grid, counted from the tile."""
        axes = []
        for axis, k in zip(("rows", "cols"), tap, strict=True):
            record = step[axis]
            ranges = [range(record[f"{g}0"] or 0, record[f"{g}1"] or 0) for g in ("small", "big")]
            axes.append(tap_pairs(self.layer, axis, k, *ranges))
        both = [(row, col) for row in axes[0] for col in axes[1]]
        small = np.array([(row[0], col[0]) for row, col in both], int).reshape(-1, 2)
        big = np.array([(row[1], col[1]) for row, col in both], int).reshape(-1, 2)
        return small, big

    def _pixel_step(self, step):
        """All but WU: yields (S, vectors, accumulators) of each sweep."""
        opcode, images = self.layer.opcode, step["images"]
        grids = {}
        for name in ("small", "big"):
            rows, cols = step["rows"][name], step["cols"][name]
            grids[name] = np.arange(images * rows * cols).reshape(images, rows, cols)
        source, target = ("small", "big") if opcode in (BP, PASS_BP) else ("big", "small")
        streamed = self._operands(grids[source].size, T)
        width = max(step["cols"][source], 1)
        for index, vector in enumerate(streamed):
            self.streamed.append((vector, 0, index % width == width - 1))
        for tap in self.layer.taps:
            small, big = self._pairs(step, tap)
            from_, to = (small, big) if source == "small" else (big, small)
            vectors = grids[source][:, from_[:, 0], from_[:, 1]].reshape(-1)
            places = grids[target][:, to[:, 0], to[:, 1]].reshape(-1)
            for block in range(step["out_blocks"]):
                if opcode in (PASS, PASS_BP):
                    scale = np.array(self.layer["scale"], np.float32).view(np.uint32)
                    s = np.where(np.eye(T, dtype=bool), scale, np.uint32(0))
                else:
                    stored = self._operands(T, T)
                    self.stationary += [(stored[m], 0, m == T - 1) for m in range(T)]
                    s = stored.T if opcode is BP else stored
                if len(vectors):
                    yield s, streamed[vectors], places + block * step["block_vectors"]

    def _update_step(self, step):
        """WU: yields (S, vectors, accumulators) of each sweep."""
        images, rows, cols = step["images"], step["rows"], step["cols"]
        x = self._operands(images, rows["big"], cols["big"], T)
        for image, row, col in np.ndindex(x.shape[:3]):
            self.stationary.append((x[image, row, col], 0, col == cols["big"] - 1))
        groups, blocks = step["groups"], step["out_blocks"]
        # Pixels of a row are those of all images, one image after another.
        dy = self._operands(blocks, rows["small"], images, cols["small"], T)
        for block, row, image, col in np.ndindex(dy.shape[:4]):
            last = col == cols["small"] - 1
            tag = TRANSPOSE | (MARK if image == images - 1 else 0)
            self.streamed.append((dy[block, row, image, col], tag, last))
        padded = np.zeros((blocks, rows["small"], groups * T, T), np.uint32)
        padded[:, :, : images * cols["small"]] = dy.reshape(blocks, rows["small"], -1, T)
        # [block, row, group, m, pixel]
        streamed = padded.reshape(blocks, rows["small"], groups, T, T).swapaxes(3, 4)

        def places(tap):
            block = np.arange(blocks)[:, None] * step["block_vectors"]
            return (block + tap * T + np.arange(T)).reshape(-1)

        for number, tap in enumerate(self.layer.taps):
            small, big = self._pairs(step, tap)
            gathered = np.zeros((rows["small"], images, cols["small"], T), np.uint32)
            gathered[small[:, 0], :, small[:, 1]] = x[:, big[:, 0], big[:, 1]].swapaxes(0, 1)
            s = np.zeros((rows["small"], groups * T, T), np.uint32)
            s[:, : images * cols["small"]] = gathered.reshape(rows["small"], -1, T)
            for row in np.unique(small[:, 0]):
                for group in range(groups):
                    columns = s[row, group * T : (group + 1) * T]
                    yield columns.T, streamed[:, row, group].reshape(-1, T), places(number)
        if Flag.BIAS in self.layer.flags and step["in_block"] == 0:
            ones = np.full((T, T), ONE, np.uint32)
            for row, group in np.ndindex(rows["small"], groups):
                yield ones, streamed[:, row, group].reshape(-1, T), places(len(self.layer.taps))

    def _drain(self, step, accumulators):
        wu, flags = self.layer.opcode is WU, self.layer.flags
        size = step["block_vectors"]
        weights = size - T if wu and Flag.BIAS in flags else size
        order = np.arange(weights if step["in_block"] else size)
        if Flag.POOL in flags:
            windows = order.reshape(
                step["images"], step["rows"]["small"] // 2, 2, step["cols"]["small"] // 2, 2
            )
            order = windows.swapaxes(2, 3).reshape(-1)
        for block in range(step["out_blocks"]):
            for position, place in enumerate(order):
                lane = place - weights if place >= weights else None
                self.sums.append((accumulators[block * size + place], position == 0, lane))


def pauses(rng, share=0.4):
    while True:
        yield rng.random() < share


def to_int(words):
    return int.from_bytes(np.ascontiguousarray(words, "<u4").tobytes(), "little")


class Bench:
    """Gives the kernel one layer pass after another and records the events of every cycle."""

    def __init__(self, dut):
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        dut._log.setLevel(logging.INFO)
        dut._log.info("random seed %d", SEED)
        self.dut = dut
        self.rng = random.Random(SEED)
        self.events = []
        self.descriptors = [0, 0]
        self.slot = 0
        self.steps = TileSource(TileBus.from_prefix(dut, "steps"), dut.clk)
        self.finished = TileSource(TileBus.from_prefix(dut, "finished_steps"), dut.clk)
        self.stationary = BeatSource(BeatBus.from_prefix(dut, "stationary"), dut.clk)
        self.streamed = BeatSource(BeatBus.from_prefix(dut, "streamed"), dut.clk)
        self.sink = SumSink(SumBus.from_prefix(dut, "o"), dut.clk)

    async def start(self):
        dut = self.dut
        dut.descriptors.value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
        await self.cycles(3)
        dut.rst.value = 0
        while not dut.ready.value:
            await RisingEdge(dut.clk)
        cocotb.start_soon(self._watch())

    async def cycles(self, count):
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    async def _watch(self):
        events = self.dut.events
        while True:
            await RisingEdge(self.dut.clk)
            self.events.append(int(events.value))

    def stall(self, share):
        for stream in (self.steps, self.finished, self.stationary, self.streamed, self.sink):
            generator = itertools.repeat(False)
            if share:
                generator = pauses(random.Random(self.rng.random()), share)
            stream.set_pause_generator(generator)

    async def run(self, model, *, preload=True):
        """Run one layer pass, compare every beat; returns the events of its cycles.

        With ``preload`` the steps come when no operand fits the buffers any more. The slots take
        turns; the other one still holds the descriptor of the pass before.
        """
        self.slot ^= 1
        self.offer(model, self.slot)
        await RisingEdge(self.dut.clk)
        if preload:
            # Padding of the transposer takes longer than the vectors.
            await self.cycles(min(max(len(model.stationary), 2 * len(model.streamed)), 300) + 10)
        self.events.clear()
        self.step(model, self.slot)
        await self.compare(model, self.slot)
        events = await self.settle()
        assert count(events, Event.FINAL) == 1
        self._check([model], events)
        return events

    async def run_together(self, models, *, preload=True):
        """Run layer passes with two of them in flight; returns the events of all cycles.

        As on the core, steps of the next pass follow as soon as a slot is free, and the drain gets
        those of a pass when the one before it is done.
        """
        self.events.clear()
        first = self.slot ^ 1
        slots = [(first + number) % 2 for number in range(len(models))]
        for number, (model, slot) in enumerate(zip(models, slots, strict=True)):
            if number < 2:
                self.offer(model, slot)
        if preload:
            await self.cycles(300)
            self.events.clear()
        for model, slot in zip(models[:2], slots, strict=False):
            self.step(model, slot)
        for number, (model, slot) in enumerate(zip(models, slots, strict=True)):
            await self.compare(model, slot)
            while count(self.events, Event.FINAL) <= number:
                await RisingEdge(self.dut.clk)
            if number + 2 < len(models):
                self.offer(models[number + 2], slot)
                self.step(models[number + 2], slot)
        self.slot = slots[-1]
        events = await self.settle()
        assert count(events, Event.FINAL) == len(models)
        self._check(models, events)
        return events

    def offer(self, model, slot):
        """Send the operands of a pass, and its descriptor."""
        self.descriptors[slot] = model.layer.bits
        self.dut.descriptors.value = self.descriptors[0] | self.descriptors[1] << DESCRIPTOR_BITS
        for source, beats in (
            (self.stationary, model.stationary), (self.streamed, model.streamed),
        ):  # fmt: skip
            for words, tag, last in beats:
                source.send_nowait(Beat(data=to_int(words), tag=int(tag), last=int(last)))

    def step(self, model, slot):
        for step in model.steps:
            self.steps.send_nowait(self._tile(step | {"slot": slot}))

    async def compare(self, model, slot):
        """Let the drain have the tiles of a pass, and compare all of its beats."""
        for step in model.steps:
            if step["last"]:
                self.finished.send_nowait(self._tile(step | {"slot": slot}))
        for number, (words, block_start, lane) in enumerate(model.sums):
            beat = await self.sink.recv()
            where = f"beat {number} of {model.layer}"
            assert int(beat.data) == to_int(words), f"{int(beat.data):032x} {words} {where}"
            assert int(beat.block_start) == block_start, where
            assert int(beat.diagonal) == (lane is not None), where
            assert lane is None or int(beat.lane) == lane, where

    async def settle(self, limit=20000):
        """Wait for the end; returns the events up to it, after which nothing may happen."""
        waited = 0
        while not self.events or not self.events[-1] & Event.FINAL:
            await RisingEdge(self.dut.clk)
            waited += 1
            assert waited < limit, "the kernel does not finish"
        events = list(self.events)
        await self.cycles(10)
        assert self.sink.empty(), "one beat too many"
        assert not any(self.events[len(events) :]), "something happens after the end"
        assert all(source.empty() for source in (self.steps, self.stationary, self.streamed))
        return events

    @staticmethod
    def _tile(step):
        def axis(record):
            return sum((record[name] or 0) << 16 * i for i, name in enumerate(AXIS_FIELDS))

        return Tile(
            **{
                name: axis(step[name]) if name in ("rows", "cols") else int(step[name] or 0)
                for name in TILE_FIELDS
            }
        )

    @staticmethod
    def _check(models, events):
        """What holds for every run, whatever the stalls."""
        for event in events:
            assert (event & REASONS).bit_count() <= 1, "active and a stall, or two stalls, at once"
        assert count(events, Event.ACTIVE) == sum(model.vectors for model in models)
        assert count(events, Event.BEAT) == sum(len(model.sums) for model in models)
        check_hazard(models, events)


def count(events, event):
    return sum(bool(e & event) for e in events)


def cycles_of(events, event):
    return [cycle for cycle, e in enumerate(events) if e & event]


def check_hazard(models, events):
    """A vector waits for the adder exactly while the sum it adds to is in it."""
    addresses, tile = [], 0
    for model in models:
        for step, used in zip(model.steps, model.addresses, strict=True):
            addresses += [(tile, address) for address in used]
            tile += step["last"]
    last, number = {}, 0
    for cycle, event in enumerate(events):
        if not event & (Event.ACTIVE | Event.STALL_HAZARD):
            continue
        address = addresses[number]
        busy = cycle - last.get(address, -1000) <= Accumulator.hazard
        assert busy == bool(event & Event.STALL_HAZARD), (cycle, number, address)
        if event & Event.ACTIVE:
            last[address] = cycle
            number += 1


LAYERS = (
    layer(FP, big=1, small=1),
    layer(FP, big=(3, 4), small=(3, 4), kernel=3, pad=1, out_blocks=2, in_blocks=2),
    layer(FP, big=(7, 6), small=(4, 2), kernel=(2, 3), stride=(2, 3), pad=(1, 1), tile=(3, 1),
          images=3, tile_images=2, out_blocks=3, tile_out_blocks=2, in_blocks=2),
    layer(FP, [Flag.POOL], big=(4, 6), small=(4, 6), kernel=3, pad=1, tile=(2, 4), images=2),
    layer(FP, big=(11, 11), small=(2, 1), kernel=11, stride=4, pad=2),
    layer(BP, big=(3, 4), small=(3, 4), kernel=3, pad=1, out_blocks=2, in_blocks=2),
    layer(BP, big=(7, 6), small=(4, 2), kernel=(2, 3), stride=(2, 3), pad=(1, 1), tile=(3, 4),
          images=3, tile_images=2, out_blocks=3, tile_out_blocks=2, in_blocks=2),
    # Some tiles are reached by no pixel: they drain zeros.
    layer(BP, big=(5, 9), small=(2, 3), stride=4, tile=(1, 2), in_blocks=2),
    layer(WU, big=(3, 4), small=(3, 4), kernel=3, pad=1),
    layer(WU, [Flag.BIAS], big=(3, 4), small=(3, 4), kernel=2, pad=1, tile=(2, 3), images=3,
          tile_images=2, out_blocks=3, tile_out_blocks=2, in_blocks=2),
    layer(WU, [Flag.BIAS], big=(7, 6), small=(4, 2), kernel=(2, 3), stride=(2, 3), pad=(1, 1),
          images=2, out_blocks=2),
    # Fully connected: images are the pixels of a row.
    layer(WU, [Flag.BIAS], big=1, small=1, images=10, tile_images=6, out_blocks=4, in_blocks=3),
    layer(PASS, big=(4, 6), small=(4, 6), images=2, tile_images=1, out_blocks=3, scale=1.0),
    layer(PASS, [Flag.POOL], big=(8, 4), small=(4, 2), kernel=2, stride=2, tile=(2, 2),
          out_blocks=2, scale=-0.3),
    layer(PASS_BP, big=(8, 5), small=(4, 3), kernel=2, stride=2, tile=(4, 5), images=2,
          out_blocks=2, scale=0.25),
    layer(PASS_BP, big=(5, 4), small=(5, 4), kernel=3, pad=1, scale=1.5),
)  # fmt: skip


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def results(dut):
    """All passes, one after another without a reset: the bits of the model."""
    bench = Bench(dut)
    await bench.start()
    for pass_ in LAYERS:
        for preload in (True, False):
            await bench.run(Model(pass_, bench.rng), preload=preload)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_stalls(dut):
    """The bits do not depend on when operands come and sums are taken."""
    bench = Bench(dut)
    await bench.start()
    for share in (0.2, 0.6):
        for pass_ in LAYERS:
            bench.stall(share)
            await bench.run(Model(pass_, bench.rng), preload=False)


def gaps(model, events):
    """Idle cycles ahead of each vector but the first: ``(inside steps, at the start of steps)``."""
    cycles = cycles_of(events, Event.ACTIVE)
    between = [b - a - 1 for a, b in itertools.pairwise(cycles)]
    starts = list(itertools.accumulate(map(len, model.addresses)))[:-1]
    at_starts = [between[start - 1] for start in starts]
    inside = [gap for number, gap in enumerate(between, start=1) if number not in set(starts)]
    return inside, at_starts


BUSY_LAYERS = (
    # Sweeps of 9 to 16 vectors.
    layer(FP, big=4, small=4, kernel=3, pad=1, out_blocks=2, in_blocks=3),
    layer(BP, big=4, small=4, kernel=3, pad=1, out_blocks=2, in_blocks=3),
    # Sweeps of T vectors: as short as loading a new S allows.
    layer(FP, big=(1, 6), small=(1, 4), kernel=(1, 3), out_blocks=2, in_blocks=3),
    layer(WU, [Flag.BIAS], big=(4, 7), small=(4, 7), kernel=3, pad=1, out_blocks=2, in_blocks=2),
    # One tap, so that every sweep is a step.
    layer(FP, big=4, small=4, out_blocks=1, in_blocks=4),
    # As short as accumulators and adder allow where all sweeps add to the same sums.
    layer(FP, big=(1, 9), small=(1, 7), kernel=(1, 3), in_blocks=3),
    layer(PASS, big=(8, 6), small=(4, 6), kernel=(2, 1), stride=(2, 1), scale=0.5),
)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def no_bubble_between_sweeps(dut):
    """A vector every cycle from the first of the first step to the last of the last one."""
    bench = Bench(dut)
    await bench.start()
    for pass_ in BUSY_LAYERS:
        model = Model(pass_, bench.rng)
        events = await bench.run(model)
        inside, at_starts = gaps(model, events)
        first = cycles_of(events, Event.ACTIVE)[0]
        dut._log.info(
            "%s: %d sweeps of %d to %d vectors in %d steps; first vector after %d cycles, idle "
            "cycles inside steps %d, between them %s",
            pass_.opcode.name, sum(map(len, model.sweeps)), min(map(min, model.sweeps)),
            max(map(max, model.sweeps)), len(model.steps), first, sum(inside), at_starts,
        )  # fmt: skip
        assert not any(inside) and not any(at_starts)
        # Bounds of the first tap, the queues, and T vectors of S.
        assert first <= 12 + T


def tiles_of(model, events):
    """For each finished tile the cycles of its vectors and of its beats."""
    vectors, beats = iter(cycles_of(events, Event.ACTIVE)), iter(cycles_of(events, Event.BEAT))
    starts = [number for number, sum_ in enumerate(model.sums) if sum_[1]] + [len(model.sums)]
    sizes = [stop - start for start, stop in itertools.pairwise(starts)]
    tiles, mine, block = [], [], 0
    for step, addresses in zip(model.steps, model.addresses, strict=True):
        mine += itertools.islice(vectors, len(addresses))
        if step["last"]:
            drained = sum(sizes[block : block + step["out_blocks"]])
            tiles.append((mine, list(itertools.islice(beats, drained))))
            block += step["out_blocks"]
            mine = []
    return tiles


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def tiles_back_to_back(dut):
    """Where a tile takes longer to compute than to drain, draining costs no cycle at all."""
    bench = Bench(dut)
    await bench.start()
    for pass_ in (
        layer(FP, big=6, small=4, kernel=3, in_blocks=2, tile=(2, 4), images=2, tile_images=1),
        layer(BP, big=4, small=6, kernel=3, pad=2, in_blocks=2, tile=(2, 4), out_blocks=2),
        layer(WU, big=(4, 8), small=(4, 8), kernel=3, pad=1, out_blocks=2, in_blocks=3),
    ):
        model = Model(pass_, bench.rng)
        events = await bench.run(model)
        inside, at_starts = gaps(model, events)
        assert not any(inside) and not any(at_starts)
        assert not count(events, Event.STALL_BANK)
        tiles = tiles_of(model, events)
        assert len(tiles) >= 2
        for (_, beats), (vectors, _) in itertools.pairwise(tiles):
            assert vectors[0] < beats[0] and beats[-1] < vectors[-1]
            assert all(events[cycle] & Event.ACTIVE for cycle in beats)
        taken = tiles[-1][0][-1] - tiles[0][0][0] + 1
        dut._log.info(
            "%s: %d tiles, %d vectors in %d cycles",
            pass_.opcode.name, len(tiles), model.vectors, taken,
        )  # fmt: skip
        assert taken == model.vectors


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def two_in_flight(dut):
    """Passes that follow each other in two slots: the bits of each alone, stalls or not."""
    bench = Bench(dut)
    await bench.start()
    for share in (0, 0.3):
        bench.stall(share)
        order = bench.rng.sample(LAYERS, len(LAYERS))
        await bench.run_together([Model(pass_, bench.rng) for pass_ in order], preload=False)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def no_bubble_between_passes(dut):
    """The first vector of a pass follows the last one of the pass before it."""
    bench = Bench(dut)
    await bench.start()
    forward = layer(FP, big=(4, 6), small=(4, 6), kernel=3, pad=1)
    for pair in itertools.product(
        (
            forward,
            layer(BP, big=(4, 6), small=(4, 6), kernel=3, pad=1),
            layer(PASS, big=(4, 6), small=(4, 6), scale=1.0),
            layer(PASS_BP, big=(4, 6), small=(2, 3), kernel=2, stride=2, tile=(4, 6), scale=1.0),
        ),
        repeat=2,
    ):  # fmt: skip
        models = [Model(pass_, bench.rng) for pass_ in pair]
        active = cycles_of(await bench.run_together(models), Event.ACTIVE)
        gap = active[models[0].vectors] - active[models[0].vectors - 1] - 1
        # PASS needs ten cycles to find the bounds of the next, and has six vectors.
        assert gap == 0 or models[0].vectors < 50, (pair, gap)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def drain_rate(dut):
    """A beat a cycle, also between out blocks; two cycles lost between tiles, where the drain takes
    the next tile with the last vector of one and walks it three cycles later."""
    bench = Bench(dut)
    await bench.start()
    model = Model(layer(PASS, big=(4, 4), small=(4, 4), out_blocks=7, scale=1.0), bench.rng)
    events = await bench.run(model)
    tiles = tiles_of(model, events)
    lost = []
    for _, beats in tiles:
        assert beats[-1] - beats[0] == len(beats) - 1 == 15
    for (_, beats), (_, following) in itertools.pairwise(tiles):
        lost.append(following[0] - beats[-1] - 1)
    dut._log.info("cycles without a beat between tiles: %s", lost)
    # Tiles of 16 vectors do not hide the way to their first beat: banks fill in pairs.
    assert lost[::2] == [2] * len(lost[::2])
    assert count(events, Event.STALL_BANK)
    model = Model(layer(FP, big=(4, 4), small=(4, 4), kernel=3, pad=1, out_blocks=5), bench.rng)
    beats = cycles_of(await bench.run(model), Event.BEAT)
    assert beats[-1] - beats[0] == len(beats) - 1 == 5 * 16 - 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def latency_to_first_beat(dut):
    """From the last vector of a tile to its first beat: the latencies of the blocks in a row."""
    bench = Bench(dut)
    await bench.start()
    # The place of a sum goes ahead of it by two cycles.
    vector_to_sum = STREAM_LATENCY + MacArray(CONFIG).latency - 2 + Accumulator.latency
    # The full bank, the output of its memory, the FIFO of the drain.
    expected = vector_to_sum + 3
    found = []
    for pass_ in (
        layer(FP, big=1, small=1),
        layer(FP, big=6, small=4, kernel=3, in_blocks=2, tile=(2, 4)),
        layer(BP, big=4, small=6, kernel=3, pad=2, in_blocks=2, tile=(2, 4)),
        layer(WU, [Flag.BIAS], big=3, small=3, kernel=3, pad=1, in_blocks=2, out_blocks=2),
        layer(PASS, big=(4, 4), small=(4, 4), scale=1.0),
    ):
        model = Model(pass_, bench.rng)
        for vectors, beats in tiles_of(model, await bench.run(model)):
            found.append(beats[0] - vectors[-1])
    dut._log.info("cycles from last vector to first beat: %s, expected %d", found, expected)
    assert len(found) == 8 and set(found) == {expected}


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def full_banks(dut):
    """Nobody takes the sums: two tiles are computed, the third waits, and no bit is lost."""
    bench = Bench(dut)
    await bench.start()
    model = Model(layer(PASS, big=(4, 5), small=(4, 5), out_blocks=5, scale=2.0), bench.rng)
    bench.sink.pause = True
    task = cocotb.start_soon(bench.run(model))
    await bench.cycles(400)
    active = cycles_of(bench.events, Event.ACTIVE)
    assert len(active) == 2 * 20
    # The next sweep begins its wait where it would have begun to work.
    waiting = bench.events[active[-1] + 1 :]
    assert len(waiting) > 100 and set(waiting) == {int(Event.STALL_BANK)}
    bench.sink.pause = False
    await task


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stalls_name_their_cause(dut):
    """The kernel says which operand it waits for, and goes on when it comes."""
    bench = Bench(dut)
    await bench.start()
    pass_ = layer(FP, big=(4, 4), small=(4, 4), kernel=3, pad=1, in_blocks=2)
    for name, stall in (
        ("streamed", Event.STALL_STREAM), ("stationary", Event.STALL_STATIONARY),
    ):  # fmt: skip
        source = getattr(bench, name)
        source.pause = True
        task = cocotb.start_soon(bench.run(Model(pass_, bench.rng), preload=False))
        await bench.cycles(150)
        assert not count(bench.events, Event.ACTIVE)
        assert set(bench.events[-100:]) == {int(stall)}
        source.pause = False
        await task


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def short_sweeps(dut):
    """Every tile of 1 to 6 pixels under every kernel from 1x1 to 3x3: sums that come too soon."""
    bench = Bench(dut)
    await bench.start()
    waited = 0
    shapes = [(rows, cols) for rows in range(1, 7) for cols in range(1, 7) if rows * cols <= 6]
    for shape, kernel in itertools.product(shapes, itertools.product((1, 2, 3), repeat=2)):
        pad = (kernel[0] // 2, kernel[1] // 2)
        for opcode in (FP, BP):
            pass_ = layer(opcode, big=shape, small=shape, kernel=kernel, pad=pad, in_blocks=2)
            events = await bench.run(Model(pass_, bench.rng))
            waited += count(events, Event.STALL_HAZARD)
    dut._log.info("%d cycles of waiting for the adder", waited)
    assert waited > 500


def earliest(model):
    """Cycles of the vectors of one step, the first at 0, if nothing but adder and S limits them."""
    cycles, last, sweep_start = [], {}, -T
    (addresses,), (sweeps,) = model.addresses, model.sweeps
    starts = {0, *itertools.accumulate(sweeps)}
    cycle = -1
    for number, address in enumerate(addresses):
        cycle += 1
        if number in starts:
            # The next S can be loaded once this one is in use.
            cycle = max(cycle, sweep_start + T)
        cycle = max(cycle, last.get(address, -100) + Accumulator.hazard + 1)
        if number in starts:
            sweep_start = cycle
        last[address] = cycle
        cycles.append(cycle)
    return cycles


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def earliest_schedule(dut):
    """Sweeps of 1 to 8 pixels: every vector in the first cycle in which it may be issued."""
    bench = Bench(dut)
    await bench.start()
    for pixels in range(1, 9):
        row = (1, pixels)
        for pass_ in (
            layer(FP, big=(1, pixels + 5), small=row, kernel=(1, 6)),
            layer(FP, big=(1, pixels + 3), small=row, kernel=(1, 4), out_blocks=3),
            layer(BP, big=(1, pixels + 5), small=row, kernel=(1, 6)),
            layer(WU, [Flag.BIAS], big=(1, pixels + 3), small=row, kernel=(1, 4), images=3),
            layer(WU, big=(1, pixels + 3), small=row, kernel=(1, 4), out_blocks=3),
            layer(PASS, big=(1, pixels + 5), small=row, kernel=(1, 6), scale=1.0),
        ):
            model = Model(pass_, bench.rng)
            cycles = cycles_of(await bench.run(model), Event.ACTIVE)
            assert [cycle - cycles[0] for cycle in cycles] == earliest(model), pass_
