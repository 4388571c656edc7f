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
from eftrain_hdl.isa import Flag, Opcode
from sim.reference_walk import LayerPass, TileWalk, tap_pairs

PERIOD_NS = 10
SEED = 20241103
CONFIG = CoreConfig(rows=4, lanes=4, stream_depth=128, stationary_depth=128, accumulator_depth=128)
T = CONFIG.group
ONE = 0x3F800000
STREAM_LATENCY = 2
"""Of the stream buffer's memory, with its output register."""
STEP_END = 2
"""Cycles without a vector between two steps: one takes the end of the old one, the next loads."""

FP, BP, WU, PASS = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS

TILE_FIELDS = (
    "rows", "cols", "image0", "images", "out_block0", "out_blocks", "in_block", "first", "last",
    "final", "small_area", "big_area", "groups", "stream_vectors", "stationary_vectors",
    "pixel_vectors", "block_vectors",
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
    STALL_ACCUMULATOR = 8
    STALL_HAZARD = 16
    BEAT = 32
    FINAL = 64


STALLS = (
    Event.STALL_STREAM, Event.STALL_STATIONARY, Event.STALL_ACCUMULATOR, Event.STALL_HAZARD,
)  # fmt: skip
REASONS = Event.ACTIVE | sum(STALLS, Event(0))


def layer(opcode, flags=(), *, big, small, kernel=1, stride=1, pad=0, tile=None, **fields):
    """A layer pass; sizes are the same on both axes, or (rows, cols)."""
    tile = tile or (big if opcode is BP else small)
    sizes = {}
    for name, value in (
        ("big", big), ("small", small), ("kernel", kernel), ("stride", stride), ("pad", pad),
        ("tile", tile),
    ):  # fmt: skip
        rows, cols = value if isinstance(value, tuple) else (value, value)
        sizes |= {f"{name}_rows": rows, f"{name}_cols": cols}
    counts = {"images": 1, "out_blocks": 1, "in_blocks": 1} | fields
    tiles = {"tile_images": counts["images"], "tile_out_blocks": counts["out_blocks"]}
    if opcode is PASS:
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
        """FP, BP and PASS: yields (S, vectors, accumulators) of each sweep."""
        opcode, images = self.layer.opcode, step["images"]
        grids = {}
        for name in ("small", "big"):
            rows, cols = step["rows"][name], step["cols"][name]
            grids[name] = np.arange(images * rows * cols).reshape(images, rows, cols)
        source, target = ("small", "big") if opcode is BP else ("big", "small")
        streamed = self._operands(grids[source].size, T)
        width = max(step["cols"][source], 1)
        for index, vector in enumerate(streamed):
            self.streamed.append((vector, 0, index % width == width - 1))
        for tap in self.layer.taps:
            small, big = self._pairs(step, tap)
            from_, to = (small, big) if opcode is BP else (big, small)
            vectors = grids[source][:, from_[:, 0], from_[:, 1]].reshape(-1)
            places = grids[target][:, to[:, 0], to[:, 1]].reshape(-1)
            for block in range(step["out_blocks"]):
                if opcode is PASS:
                    scale = np.array(self.layer["scale"], np.float32).view(np.uint32)
                    s = np.where(np.eye(T, dtype=bool), scale, np.uint32(0))
                else:
                    stored = self._operands(T, T)
                    self.stationary += [(row, 0, index == T - 1) for index, row in enumerate(stored)]
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
            self.streamed.append((dy[block, row, image, col], int(image == images - 1), last))
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
        self.steps = TileSource(TileBus.from_prefix(dut, "steps"), dut.clk)
        self.finished = TileSource(TileBus.from_prefix(dut, "finished_steps"), dut.clk)
        self.stationary = BeatSource(BeatBus.from_prefix(dut, "stationary"), dut.clk)
        self.streamed = BeatSource(BeatBus.from_prefix(dut, "streamed"), dut.clk)
        self.sink = SumSink(SumBus.from_prefix(dut, "o"), dut.clk)

    async def start(self):
        dut = self.dut
        dut.descriptor.value = 0
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

    async def run(self, model, *, preload=True, limit=20000):
        """Run one layer pass, compare every beat; returns the events of its cycles.

        With ``preload`` the steps come when no operand fits the buffers any more.
        """
        dut = self.dut
        dut.descriptor.value = model.layer.bits
        await RisingEdge(dut.clk)
        for source, beats in (
            (self.stationary, model.stationary), (self.streamed, model.streamed),
        ):  # fmt: skip
            for words, tag, last in beats:
                source.send_nowait(Beat(data=to_int(words), tag=int(tag), last=int(last)))
        if preload:
            # Groups of the transposer take twice as long as their vectors.
            await self.cycles(min(max(len(model.stationary), 2 * len(model.streamed)), 300) + 10)
        self.events.clear()
        for step in model.steps:
            self.steps.send_nowait(self._tile(step))
            if step["last"]:
                self.finished.send_nowait(self._tile(step))
        for number, (words, block_start, lane) in enumerate(model.sums):
            beat = await self.sink.recv()
            where = f"beat {number} of {model.layer}"
            assert int(beat.data) == to_int(words), f"{int(beat.data):032x} {words} {where}"
            assert int(beat.block_start) == block_start, where
            assert int(beat.diagonal) == (lane is not None), where
            assert lane is None or int(beat.lane) == lane, where
        waited = 0
        while not self.events or not self.events[-1] & Event.FINAL:
            await RisingEdge(dut.clk)
            waited += 1
            assert waited < limit, "the kernel does not finish"
        events = list(self.events)
        await self.cycles(10)
        assert self.sink.empty(), f"one beat too many of {model.layer}"
        assert not any(self.events[len(events) :]), "something happens after the end"
        assert all(source.empty() for source in (self.steps, self.stationary, self.streamed))
        self._check(model, events)
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
    def _check(model, events):
        """What holds for every run, whatever the stalls."""
        for event in events:
            assert (event & REASONS).bit_count() <= 1, "active and a stall, or two stalls, at once"
        assert count(events, Event.ACTIVE) == model.vectors
        assert count(events, Event.FINAL) == 1
        assert count(events, Event.BEAT) == len(model.sums)
        check_hazard(model, events)


def count(events, event):
    return sum(bool(e & event) for e in events)


def cycles_of(events, event):
    return [cycle for cycle, e in enumerate(events) if e & event]


def check_hazard(model, events):
    """A vector waits for the adder exactly while the sum it adds to is in it."""
    # An address is met by its bank as well; banks change with tiles, which lie further apart.
    addresses = list(itertools.chain(*model.addresses))
    last, number = {}, 0
    for cycle, event in enumerate(events):
        if not event & (Event.ACTIVE | Event.STALL_HAZARD):
            continue
        address = addresses[number]
        busy = cycle - last.get(address, -1000) <= Accumulator.hazard
        assert busy == bool(event & Event.STALL_HAZARD), (cycle, number, address, model.layer)
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
)  # fmt: skip


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def results(dut):
    """All four passes, one after another without a reset: the bits of the model."""
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


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def probe(dut):
    bench = Bench(dut)
    await bench.start()
    for pass_ in (
        layer(FP, big=(4, 4), small=(4, 4), kernel=3, pad=1, out_blocks=2, in_blocks=3),
        layer(FP, big=(1, 6), small=(1, 4), kernel=(1, 3), out_blocks=2, in_blocks=3),
        layer(FP, big=(6, 6), small=(4, 4), kernel=3, out_blocks=1, in_blocks=3, tile=(2,4)),
        layer(BP, big=(4, 4), small=(4, 4), kernel=3, pad=1, out_blocks=2, in_blocks=3),
        layer(WU, [Flag.BIAS], big=(4, 4), small=(4, 4), kernel=3, pad=1, out_blocks=2, in_blocks=2, tile=(2,4)),
        layer(PASS, big=(4, 4), small=(4, 4), out_blocks=6, scale=1.0),
    ):
        model = Model(pass_, bench.rng)
        events = await bench.run(model)
        text = "".join("A" if e & Event.ACTIVE else "s" if e & 2 else "S" if e & 4 else "b" if e & 8 else "h" if e & 16 else "." for e in events)
        beats = "".join("B" if e & Event.BEAT else "F" if e & Event.FINAL else "." for e in events)
        dut._log.info("%s\n%s\n%s", [[len(a), s] for a, s in zip(model.addresses, model.sweeps)], text, beats)
