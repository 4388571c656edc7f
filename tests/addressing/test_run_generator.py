# amaranth: UnusedElaboratable=no
"""Run generator and port maps: which bytes move for a tile, in which order, in which runs."""

import itertools
import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from eftrain_hdl.addressing.port_maps import OutputMap, StationaryMap, StreamMap
from eftrain_hdl.addressing.run_generator import LEVELS, TERMS, RunGenerator
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag, Opcode
from sim.reference_walk import TileOverflow, TileWalk, random_layer

SEED = 20230828
WORD_BYTES = 4
BEAT_BYTES = 16
FP, BP, WU, PASS = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS


async def collect(ctx, port, runs, times, stalls, rng):
    """Take runs for ever, as ``(address, beats, tag)``; ``times`` gets the cycle of each."""
    held = None
    for cycle in itertools.count():
        ready = rng.random() >= stalls
        ctx.set(port.ready, ready)
        _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        run = (payload["address"], payload["beats"], payload["tag"])
        assert held is None or (valid and run == held), "a waiting run changed"
        held = run if valid and not ready else None
        if valid and ready:
            runs.append(run)
            times.append(cycle)


# -- run generator ---------------------------------------------------------------------------------


def expected_runs(request):
    """Nested loops for what ``request_layout`` describes."""
    base = request["base"] + sum(t["index"] * t["stride"] for t in request["term"])
    counts = [level["count"] for level in request["level"]]
    strides = [level["stride"] for level in request["level"]]
    if not request["beats"]:
        return []
    return [
        (
            (base + sum(i * stride for i, stride in zip(index, strides, strict=True))) % 2**32,
            request["beats"],
            int(request["mark"] and index[-1] == counts[-1] - 1),
        )
        for index in itertools.product(*map(range, counts))
    ]


def random_request(rng, *, empty=0.1):
    def count():
        return 0 if rng.random() < empty else rng.choice((1, 1, 2, 3, 5))

    def stride():
        return rng.choice((rng.getrandbits(32), 16 * rng.getrandbits(12)))

    return {
        "base": rng.getrandbits(32),
        "term": [{"index": rng.getrandbits(16), "stride": stride()} for _ in range(TERMS)],
        "level": [{"count": count(), "stride": stride()} for _ in range(LEVELS)],
        "beats": 0 if rng.random() < empty else rng.getrandbits(16),
        "mark": rng.randrange(2),
    }


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_random_requests(stalls):
    """Random boxes, empty ones among them, give the runs of nested loops."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    dut = RunGenerator(address_bits=32)
    requests = [random_request(rng) for _ in range(150)]
    expected, runs = [], []

    async def send(ctx):
        for request in requests:
            ctx.set(dut.i.payload, request)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            # What comes after the handshake belongs to the next request.
            ctx.set(dut.i.payload, random_request(rng))
            ctx.set(dut.i.valid, 0)
            if rng.random() < stalls:
                await ctx.tick().repeat(3)
            expected.extend(expected_runs(request))
        await ctx.tick().until(dut.idle)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.idle)
        assert runs == expected and len(runs) > 500

    async def take(ctx):
        await collect(ctx, dut.o, runs, [], stalls, random.Random(SEED + 1))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(send)
    simulator.add_testbench(take, background=True)
    simulator.run()


def test_rate():
    """Runs come one a cycle; a request costs TERMS + 3 cycles beside them."""
    dut = RunGenerator(address_bits=32)
    rng = random.Random(SEED)
    requests = [random_request(rng, empty=0) for _ in range(20)]
    runs, times = [], []

    async def send(ctx):
        for request in requests:
            ctx.set(dut.i.payload, request)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().until(dut.idle)

    async def take(ctx):
        await collect(ctx, dut.o, runs, times, 0.0, rng)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(send)
    simulator.add_testbench(take, background=True)
    simulator.run()
    # The handshake, TERMS + 1 cycles of arithmetic, one to load the loops: then the first run.
    cycle, wanted = 0, []
    for request in requests:
        cycle += TERMS + 3
        count = len(expected_runs(request))
        wanted += range(cycle, cycle + count)
        cycle += count
    assert times == wanted


# -- port maps -------------------------------------------------------------------------------------


class Layout:
    """Where vectors of a layer pass lie, from the descriptor's bases and strides."""

    def __init__(self, layer, config):
        self.layer = layer
        self.vector = config.group * WORD_BYTES

    def pixel(self, port, image, block, row, col):
        layer = self.layer
        return (
            layer[f"{port}_base"]
            + image * layer[f"{port}_image_stride"]
            + block * layer[f"{port}_block_stride"]
            + row * layer[f"{port}_row_stride"]
            + col * self.vector
        )

    def run(self, addresses, tag=0):
        """One run of vectors, which must lie behind one another."""
        for one, other in itertools.pairwise(addresses):
            assert other == one + self.vector
        return (addresses[0] % 2**32, len(addresses) * self.vector // BEAT_BYTES, tag)


def indices(step, what, grid=None):
    """Range of images, out blocks, or pixels of one axis that a step covers."""
    if grid:
        return range(step[what][f"{grid}0"] or 0, step[what][f"{grid}1"] or 0)
    start = {"images": "image0", "out_blocks": "out_block0"}[what]
    return range(step[start], step[start] + step[what])


def box(layout, port, step, block, grid, *, scale=1, shrink=1):
    """Runs of all pixels of a tile in one block: image by image, row by row."""
    rows = [r for r in indices(step, "rows", grid) if r % shrink == 0]
    cols = [c for c in indices(step, "cols", grid) if c % shrink == 0]
    return [
        layout.run([layout.pixel(port, image, block, row // shrink, c // shrink) for c in cols])
        for image in indices(step, "images")
        for row in rows
        if cols
    ]


def stream_runs(layer, layout, step):
    if layer.opcode is WU:
        # Row by row all images, so that whole rows of pixels are left out together.
        cols = indices(step, "cols", "small")
        return [
            layout.run(
                [layout.pixel("stream", image, block, row, col) for col in cols],
                tag=int(image == indices(step, "images")[-1]),
            )
            for block in indices(step, "out_blocks")
            for row in indices(step, "rows", "small")
            for image in indices(step, "images")
        ]
    block = step["out_block0"] if layer.opcode is PASS else step["in_block"]
    return box(layout, "stream", step, block, "small" if layer.opcode is BP else "big")


def stationary_runs(layer, layout, step):
    if layer.opcode is PASS:
        return []
    if layer.opcode is WU:
        return box(layout, "stationary", step, step["in_block"], "big")
    rows = layout.vector // WORD_BYTES
    runs = []
    for tap in range(len(layer.taps)):
        for block in indices(step, "out_blocks"):
            start = (
                layer["stationary_base"]
                + block * layer["stationary_image_stride"]
                + step["in_block"] * layer["stationary_block_stride"]
                + tap * rows * layout.vector
            )
            runs.append(layout.run([start + row * layout.vector for row in range(rows)]))
    return runs


def weight_runs(layer, layout, start, momentum_start, vectors):
    """Weights by themselves, or vector by vector in turn with their momentum."""
    places = [(start + v * layout.vector, momentum_start + v * layout.vector) for v in vectors]
    if {Flag.UPDATE, Flag.MOMENTUM} <= layer.flags:
        return [layout.run([place]) for pair in places for place in pair]
    return [layout.run([weight for weight, _ in places])]


def output_runs(layer, layout, step, *, side):
    """Writes of a finished tile, or with ``side`` what its epilogue reads."""
    flags, port = layer.flags, "side" if side else "output"
    rows = layout.vector // WORD_BYTES
    runs = []
    for block in indices(step, "out_blocks"):
        bias = layer["bias_base"] + block * layout.vector
        if layer.opcode is WU:
            if side and Flag.UPDATE not in flags:
                continue
            offset = block * layer["output_block_stride"]
            offset += step["in_block"] * layer["output_image_stride"]
            bases = (layer["output_base"] + offset, layer["side_base"] + offset)
            runs += weight_runs(layer, layout, *bases, range(len(layer.taps) * rows))
            if Flag.BIAS in flags and step["in_block"] == 0:
                momentum = bias + layer["bias_momentum_base"] - layer["bias_base"]
                runs += weight_runs(layer, layout, bias, momentum, range(1))
            continue
        if side:
            if Flag.BIAS in flags:
                runs.append(layout.run([bias]))
            if not flags & {Flag.SIDE_MASK, Flag.SIDE_ADD, Flag.UNPOOL}:
                continue
        grid = "big" if layer.opcode is BP else "small"
        if Flag.UNPOOL in flags:
            runs += [
                layout.run(
                    [layout.pixel(port, image, block, 2 * row + half, 2 * col + k) for k in (0, 1)]
                )
                for image in indices(step, "images")
                for row in indices(step, "rows", grid)
                for col in indices(step, "cols", grid)
                for half in (0, 1)
            ]
        else:
            runs += box(layout, port, step, block, grid, shrink=2 if Flag.POOL in flags else 1)
    return runs


MAPS = {
    "stream": (StreamMap, stream_runs),
    "stationary": (StationaryMap, stationary_runs),
    "output": (
        lambda config: OutputMap(config, side=False),
        lambda *given: output_runs(*given, side=False),
    ),
    "side": (
        lambda config: OutputMap(config, side=True),
        lambda *given: output_runs(*given, side=True),
    ),
}


def tile_value(step):
    """A record for the hardware; what has no meaning is filled with ones, to be noticed if used."""
    return {
        name: tile_value(value) if isinstance(value, dict) else 0xFFFF if value is None else value
        for name, value in step.items()
    }


@pytest.mark.parametrize("group", [4, 16])
@pytest.mark.parametrize("opcode", [FP, BP, WU, PASS], ids=lambda opcode: opcode.name)
@pytest.mark.parametrize("port", list(MAPS))
def test_port_map(port, opcode, group):
    print(f"seed {SEED}")
    rng = random.Random(f"{SEED} {port} {opcode} {group}")
    config = CoreConfig(rows=group, lanes=group)
    make, reference = MAPS[port]
    dut = make(config)
    generator = RunGenerator(address_bits=config.address_bits)
    layers = []
    while len(layers) < 25:
        layer = random_layer(rng, opcode, max_pixels=9, max_kernel=6, max_steps=8)
        try:
            steps = list(TileWalk(layer, config))
        except TileOverflow:
            continue
        # Outputs and side operands belong to the last step of a reduction.
        if port in ("output", "side"):
            steps = [step for step in steps if step["last"]]
        layers.append((layer, steps))
    runs, total = [], 0

    async def send(ctx):
        nonlocal total
        for layer, steps in layers:
            runs.clear()
            layout = Layout(layer, config)
            expected = []
            ctx.set(dut.descriptor.as_value(), layer.bits)
            for step in steps:
                expected += reference(layer, layout, step)
                ctx.set(dut.i.payload, tile_value(step))
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)
            await ctx.tick().repeat(3)
            await ctx.tick().until(generator.idle)
            await ctx.tick().repeat(3)
            assert runs == expected, layer
            total += len(runs)

    async def take(ctx):
        await collect(ctx, generator.o, runs, [], 0.2, rng)

    m = Module()
    m.submodules.map = dut
    m.submodules.generator = generator
    wiring.connect(m, dut.o, generator.i)
    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(send)
    simulator.add_testbench(take, background=True)
    simulator.run()
    print(f"{total} runs")
    assert (total > 200) != (port == "stationary" and opcode is PASS)
