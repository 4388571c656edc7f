# amaranth: UnusedElaboratable=no
"""Run generator and port maps: which bytes move for a tile, in which order, in which runs."""

import itertools
import random
from collections import namedtuple

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from eftrain_hdl.addressing.port_maps import (
    AuxiliaryMap,
    CompanionMap,
    OutputMap,
    SecondMap,
    SideMap,
    StationaryMap,
    StreamMap,
)
from eftrain_hdl.addressing.run_generator import LEVELS, TERMS, RunGenerator
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import EXCLUSIVE_FLAGS, LEGAL_FLAGS, REQUIRED_FLAGS, Flag, Opcode
from eftrain_hdl.memory.axi import RunTag
from sim.reference_walk import LayerPass, TileOverflow, TileWalk, random_layer

SEED = 20230828
WORD_BYTES = 4
BEAT_BYTES = 16
FP, BP, WU = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU
PASS, PASS_BP = Opcode.PASS, Opcode.PASS_BP


def tag_bits(**fields):
    return RunTag().const(fields).as_value().value


async def collect(ctx, port, runs, times, stalls, rng):
    """Take runs for ever, as ``(address, beats, tag)``; ``times`` gets the cycle of each."""
    held = None
    for cycle in itertools.count():
        ready = rng.random() >= stalls
        ctx.set(port.ready, ready)
        _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        run = (payload["address"], payload["beats"], payload["tag"].as_bits())
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
    runs = []
    for index in itertools.product(*map(range, counts)):
        address = base + sum(i * stride for i, stride in zip(index, strides, strict=True))
        tag = dict(request["tag"])
        tag["mark"] &= index[-1] == counts[-1] - 1
        runs.append((address % 2**32, request["beats"], tag_bits(**tag)))
    return runs


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
        "tag": {name: rng.randrange(2) for name in RunTag.FIELDS},
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
    # The handshake, TERMS + 2 cycles of arithmetic, of which the last loads the loops: then runs.
    cycle, wanted = 0, []
    for request in requests:
        cycle += TERMS + 3
        count = len(expected_runs(request))
        wanted += range(cycle, cycle + count)
        cycle += count
    assert times == wanted


# -- port maps -------------------------------------------------------------------------------------


Axis = namedtuple("Axis", ["rows", "cols"])


class Layout:
    """Where vectors of a layer pass lie, from the descriptor's bases and strides."""

    def __init__(self, layer, config):
        self.layer = layer
        self.group = config.group
        self.vector = config.group * WORD_BYTES

    def pixel(self, port, image, block, row, col, *, base=None):
        layer = self.layer
        return (
            layer[f"{base or port}_base"]
            + image * layer[f"{port}_image_stride"]
            + block * layer[f"{port}_block_stride"]
            + row * layer[f"{port}_row_stride"]
            + col * self.vector
        )

    def run(self, addresses, **tag):
        """One run of vectors, which must lie behind one another."""
        for one, other in itertools.pairwise(addresses):
            assert other == one + self.vector
        beats = len(addresses) * self.vector // BEAT_BYTES
        return (addresses[0] % 2**32, beats, tag_bits(**tag))

    def vectors(self, start, count, **tag):
        return self.run([start + k * self.vector for k in range(count)], **tag)


class Step:
    """One step of a layer pass: the pixels, images and blocks that it covers."""

    def __init__(self, layer, record):
        self.record = record
        self.last = record["last"]
        self.group_last = record["group_last"]
        self.in_block = record["in_block"]
        self.images = range(record["image0"], record["image0"] + record["images"])
        self.out_blocks = range(record["out_block0"], record["out_block0"] + record["out_blocks"])
        self.big, self.small = (
            Axis(*(range(record[a][f"{g}0"] or 0, record[a][f"{g}1"] or 0) for a in Axis._fields))
            for g in ("big", "small")
        )
        self.result = self.big if layer.opcode in (BP, PASS_BP) else self.small


def tensor(layout, port, step, block, grid, *, base=None, **tag):
    """Runs of all pixels of a tile in one block: image by image, row by row."""
    return [
        layout.run([layout.pixel(port, image, block, row, c, base=base) for c in grid.cols], **tag)
        for image in step.images
        for row in grid.rows
        if grid.cols
    ]


def windows(layout, port, step, block, grid):
    """Runs of 2x2 windows, whose corners are at the even pixels of ``grid``."""
    return [
        layout.run([layout.pixel(port, image, block, row + half, col + k) for k in (0, 1)])
        for image in step.images
        for row in grid.rows
        if row % 2 == 0
        for col in grid.cols
        if col % 2 == 0
        for half in (0, 1)
    ]


def doubled(grid):
    return Axis(*(range(2 * pixels.start, 2 * pixels.stop) for pixels in grid))


def streamed(layer, layout, step, base, *, coefficients=False, **tag):
    """A tensor of the streamed operand's shape, each block behind its coefficients if wanted."""

    def record(block):
        start = layer["stream_coefficients_base"] + block * 4 * layout.vector
        return [layout.vectors(start, 3, coefficients=1)] if coefficients else []

    runs = []
    if layer.opcode is WU:
        for block in step.out_blocks:
            runs += record(block)
            # Row by row all images, so that whole rows of pixels are left out together.
            for row, image in itertools.product(step.small.rows, step.images):
                pixels = [
                    layout.pixel("stream", image, block, row, col, base=base)
                    for col in step.small.cols
                ]
                mark = int(image == step.images[-1])
                runs.append(layout.run(pixels, mark=mark, transpose=1, **tag))
        return runs
    block = step.in_block if layer.opcode in (FP, BP) else step.out_blocks[0]
    grid = step.big if layer.opcode in (FP, PASS) else step.small
    return record(block) + tensor(layout, "stream", step, block, grid, base=base, **tag)


def tees(layer, step):
    return Flag.TEE in layer.flags and (layer.opcode is PASS or step.out_blocks[0] == 0)


def stream_runs(layer, layout, step):
    flags = layer.flags
    wu = layer.opcode is WU
    affine = Flag.NORM_DY in flags or (Flag.NORM_X in flags and not wu)
    pair = bool(flags & {Flag.NORM_DY, Flag.X_PAIR})
    relu = Flag.X_RELU in flags and not wu
    tee = tees(layer, step)
    return streamed(
        layer, layout, step, "stream",
        coefficients=affine, affine=affine, pair=pair, relu=relu, tee=tee,
    )  # fmt: skip


def companion_runs(layer, layout, step):
    if not layer.flags & {Flag.NORM_DY, Flag.X_PAIR}:
        return []
    return streamed(layer, layout, step, "companion", alternate=layer.opcode is WU)


def stationary_runs(layer, layout, step):
    if layer.opcode in (PASS, PASS_BP):
        return []
    if layer.opcode is WU:
        runs = []
        affine, relu = Flag.NORM_X in layer.flags, Flag.X_RELU in layer.flags
        if affine:
            base = layer["stationary_coefficients_base"]
            start = base + step.in_block * 4 * layout.vector
            runs.append(layout.vectors(start, 3, coefficients=1))
        return runs + tensor(
            layout, "stationary", step, step.in_block, step.big, affine=affine, relu=relu
        )
    return [
        layout.vectors(
            layer["stationary_base"]
            + block * layer["stationary_image_stride"]
            + step.in_block * layer["stationary_block_stride"]
            + tap * layout.group * layout.vector,
            layout.group,
        )
        for tap in range(len(layer.taps))
        for block in step.out_blocks
    ]


def weight_runs(layer, layout, step, block):
    """WU: weights by themselves, or vector by vector in turn with their momentum, then the bias."""
    offset = block * layer["output_block_stride"] + step.in_block * layer["output_image_stride"]
    pieces = [("output_base", "side_base", offset, len(layer.taps) * layout.group)]
    if Flag.BIAS in layer.flags and step.in_block == 0:
        pieces.append(("bias_base", "bias_momentum_base", block * layout.vector, 1))
    runs = []
    for base, momentum_base, offset, count in pieces:
        start, momentum = layer[base] + offset, layer[momentum_base] + offset
        if Flag.MOMENTUM in layer.flags:
            for k in range(count):
                runs.append(layout.vectors(start + k * layout.vector, 1))
                runs.append(layout.vectors(momentum + k * layout.vector, 1))
        else:
            runs.append(layout.vectors(start, count))
    return runs


def side_runs(layer, layout, step):
    flags = layer.flags
    if not step.last:
        return []
    if layer.opcode is WU:
        return [
            run
            for block in step.out_blocks
            if Flag.UPDATE in flags
            for run in weight_runs(layer, layout, step, block)
        ]
    statistics = Flag.STATISTICS in flags
    gradient = statistics and layer.opcode is not FP
    runs = []
    for block in step.out_blocks:
        first = layer["bias_base"] + block * layer["bias_block_stride"]
        if gradient:
            runs.append(layout.vectors(first, 4))
        elif Flag.BIAS in flags or (statistics and Flag.POOL in flags):
            runs.append(layout.vectors(first, 1))
        bases = ["side"] * (Flag.SIDE_MASK in flags) + ["norm"] * gradient
        if len(bases) == 1:
            runs += tensor(layout, "side", step, block, step.result, base=bases[0])
        else:
            runs += [
                layout.run([layout.pixel("side", image, block, row, col, base=base)])
                for image in step.images
                for row in step.result.rows
                for col in step.result.cols
                for base in bases
            ]
    return runs


def auxiliary_runs(layer, layout, step):
    runs = []
    for block in step.out_blocks if step.last else ():
        if Flag.ADD in layer.flags:
            runs += tensor(layout, "auxiliary", step, block, step.result)
        if Flag.UNPOOL in layer.flags:
            runs += windows(layout, "auxiliary", step, block, doubled(step.result))
    return runs


def output_runs(layer, layout, step):
    flags = layer.flags
    runs = []
    for block in step.out_blocks if step.last else ():
        if layer.opcode is WU:
            runs += weight_runs(layer, layout, step, block)
        elif Flag.UNPOOL in flags:
            runs += windows(layout, "output", step, block, doubled(step.result))
        elif Flag.POOL in flags:
            half = Axis(*(range(p.start // 2, p.stop // 2) for p in step.result))
            runs += tensor(layout, "output", step, block, half)
        else:
            runs += tensor(layout, "output", step, block, step.result)
        if flags & {Flag.STATISTICS, Flag.SUMS} and step.group_last:
            record = layout.vector + 16 * BEAT_BYTES
            start = (layer["statistics_base"] + block * record) % 2**32
            runs.append((start, record // BEAT_BYTES, 0))
    return runs


def second_runs(layer, layout, step):
    if tees(layer, step):
        return streamed(layer, layout, step, "second", tee=1)
    return [
        run
        for block in step.out_blocks
        if Flag.KEEP in layer.flags and step.last
        for run in windows(layout, "second", step, block, step.result)
    ]


# map, reference, whether it takes the last steps of a reduction only
MAPS = {
    "stream": (StreamMap, stream_runs, False),
    "companion": (CompanionMap, companion_runs, False),
    "stationary": (StationaryMap, stationary_runs, False),
    "side": (SideMap, side_runs, True),
    "auxiliary": (AuxiliaryMap, auxiliary_runs, True),
    "output": (OutputMap, output_runs, True),
    "second": (SecondMap, second_runs, False),
}


def random_flags(rng, opcode, *, even):
    """Legal flags; POOL only if every tile has ``even`` rows and columns."""
    while True:
        flags = {flag for flag in LEGAL_FLAGS[opcode] if rng.random() < rng.choice((0.2, 0.5))}
        for flag, needed in (*REQUIRED_FLAGS, (Flag.X_PAIR, Flag.NORM_X)):
            if flag in flags:
                flags.add(needed)
        refused = any({one, other} <= flags for one, other in EXCLUSIVE_FLAGS)
        # Nobody sums a gradient in the order of windows.
        refused |= opcode is PASS and {Flag.STATISTICS, Flag.POOL} <= flags
        if not refused and (even or Flag.POOL not in flags):
            return flags


def random_pass(rng, opcode):
    """A layer pass with random flags and an unrelated number in every address and stride."""
    while True:
        # PASS and PASS_BP walk like FP and BP with one block of each kind.
        walked = {PASS_BP: BP}.get(opcode, opcode)
        layer = random_layer(rng, walked, max_pixels=9, max_kernel=6, max_steps=8)
        fields = dict(layer.fields)
        if opcode is PASS_BP:
            fields["in_blocks"] = fields["tile_out_blocks"] = 1
        even = all(
            fields[f"{name}_{axis}"] % 2 == 0
            for axis in ("rows", "cols")
            for name in ("tile", "small")
        )
        flags = random_flags(rng, opcode, even=even)
        for port in ("stream", "stationary", "output", "side", "second", "auxiliary"):
            fields[f"{port}_base"] = 16 * rng.randrange(2**28)
            for stride in ("image", "block", "row"):
                fields[f"{port}_{stride}_stride"] = 16 * rng.randrange(2**16)
        for name in (
            "bias", "bias_momentum", "norm", "statistics", "companion", "stream_coefficients",
            "stationary_coefficients",
        ):  # fmt: skip
            fields[f"{name}_base"] = 16 * rng.randrange(2**28)
        fields["bias_block_stride"] = 16 * rng.randrange(2**16)
        return LayerPass(walked, flags, **fields), LayerPass(opcode, flags, **fields)


def walk(layer, config):
    """The steps of a layer pass; also says which tiles are the last ones of their out blocks."""
    records = list(TileWalk(layer, config))
    final = {record["out_block0"]: record for record in records}
    for record in records:
        last = final[record["out_block0"]]
        record["group_last"] = int(all(record[k] == last[k] for k in ("rows", "cols", "image0")))
    return records


def tile_value(step):
    """A record for the hardware; what has no meaning is filled with ones, to be noticed if used."""
    return {
        name: tile_value(value) if isinstance(value, dict) else 0xFFFF if value is None else value
        for name, value in step.items()
    }


@pytest.mark.parametrize("group", [4, 16])
@pytest.mark.parametrize("opcode", [FP, BP, WU, PASS, PASS_BP], ids=lambda opcode: opcode.name)
@pytest.mark.parametrize("port", list(MAPS))
def test_port_map(port, opcode, group):
    print(f"seed {SEED}")
    rng = random.Random(f"{SEED} {port} {opcode} {group}")
    config = CoreConfig(rows=group, lanes=group)
    make, reference, only_last = MAPS[port]
    dut = make(config)
    generator = RunGenerator(address_bits=config.address_bits)
    layers = []
    while len(layers) < 40:
        walked, layer = random_pass(rng, opcode)
        try:
            records = walk(walked, config)
        except TileOverflow:
            continue
        layers.append((layer, [r for r in records if r["last"] or not only_last]))
    runs, total = [], 0

    async def send(ctx):
        nonlocal total
        for layer, records in layers:
            runs.clear()
            layout = Layout(layer, config)
            expected = []
            ctx.set(dut.descriptor.as_value(), layer.bits)
            for record in records:
                expected += reference(layer, layout, Step(layer, record))
                ctx.set(dut.i.payload, tile_value(record))
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
    nothing = {
        "companion": (PASS_BP,),
        "stationary": (PASS, PASS_BP),
        "auxiliary": (WU,),
        "second": (BP, WU, PASS_BP),
    }
    assert total == 0 if opcode in nothing.get(port, ()) else total > 50
