"""The cycle model and the tile search that uses it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from eftrain import layers
from eftrain.devices.sim import SimDevice
from eftrain.errors import UserError
from eftrain.plan import search
from eftrain.plan.geometry import Geometry
from eftrain.plan.model import BENCHMARK_MEMORY, MACHINE, predict, predict_program
from eftrain.plan.model_core import Core
from eftrain.plan.passes import LayerPass, Tile
from eftrain.plan.search import buffer_use, candidates, choose
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import MAX_STATISTICS_BLOCKS, PARTIAL_BEATS, REGISTER, Flag, Opcode

CONFIG = CoreConfig.parse("4x4")
REFRESH = 26
"""A pass alone begins at any phase of the memory's refresh."""

FP, BP, WU = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU


def geometry(images=2, big=(9, 7), kernel=3, stride=1, pad=1):
    small = tuple((size + 2 * pad - kernel) // stride + 1 for size in big)
    return Geometry(
        images=images,
        big=tuple(big),
        small=small,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(pad, pad),
    )


def make(opcode, shape=None, out_blocks=3, in_blocks=2, flags=(), **sizes):
    shape = shape or geometry(**sizes)
    return LayerPass(opcode, "1 (Conv2d)", shape, out_blocks, in_blocks, frozenset(flags))


def pairs(shape):
    """Pairs of tap and small pixel that meet a big pixel, counted one by one; and along rows."""
    axes = []
    for axis in (0, 1):
        reach = itertools.product(range(shape.kernel[axis]), range(shape.small[axis]))
        meets = [p * shape.stride[axis] + k - shape.pad[axis] for k, p in reach]
        axes.append(sum(0 <= big < shape.big[axis] for big in meets))
    return axes[0] * axes[1], axes[0]


SHAPES = [
    geometry(),
    geometry(kernel=1, pad=0),
    geometry(big=(11, 11), kernel=5, stride=2, pad=2),
    geometry(big=(8, 8), kernel=1, stride=2, pad=0),
    geometry(images=5, big=(1, 1), kernel=1, pad=0),
    geometry(big=(12, 6), kernel=3, stride=4, pad=0),
]
TILES = [Tile(1, 1, 1, 1), Tile(2, 2, 3, 4), Tile(3, 1, 2, 2)]


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.big}-{shape.kernel}")
@pytest.mark.parametrize("opcode", [FP, BP])
def test_vectors_do_not_depend_on_the_tile(opcode, shape, tile):
    layer_pass = make(opcode, shape)
    prediction = predict(choose(layer_pass, CONFIG, tile), CONFIG)
    assert prediction.active == 3 * 2 * shape.images * pairs(shape)[0]


def test_weight_gradient_counts_whole_groups():
    shape = geometry(images=3, big=(6, 5))
    layer_pass = make(WU, shape, flags={Flag.BIAS})
    prediction = predict(choose(layer_pass, CONFIG, Tile(2, 3, 6, 5)), CONFIG)
    rows, groups, group = pairs(shape)[1], 4, CONFIG.group  # 15 pixels a row of three images
    taps = shape.kernel[1] * rows * groups * group
    bias = shape.small[0] * groups * group
    assert prediction.active == 3 * (2 * taps + bias)


@pytest.mark.parametrize("opcode", [FP, BP, WU])
def test_leaving_repetitions_out_changes_nothing(opcode):
    layer_pass = choose(make(opcode, images=8, big=(24, 24)), CONFIG, Tile(2, 1, 4, 6))
    ends = []
    for skips in (True, False):
        core = Core(CONFIG, BENCHMARK_MEMORY, MACHINE, skips=skips)
        run = core.start(layer_pass, None)
        core.finish(run)
        ends.append(run.ended)
        assert (core.clock.skipped > 0) is skips
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_no_pass_is_faster_than_its_ports_and_the_array():
    for opcode, shape in itertools.product([FP, BP, WU], SHAPES):
        prediction = predict(choose(make(opcode, shape), CONFIG), CONFIG)
        slowest = max(prediction.active, *prediction.port_cycles.values())
        assert prediction.cycles > slowest
        assert 0 < prediction.fill + prediction.drain < prediction.cycles


def test_bound_and_buffers():
    deep = predict(choose(make(FP, images=4, big=(16, 16), in_blocks=8), CONFIG), CONFIG)
    assert deep.bound == "compute" and deep.share > 0.9
    flat = make(FP, geometry(images=1, big=(1, 1), kernel=1, pad=0), 16, 16)
    flat = choose(flat, CONFIG)
    prediction = predict(flat, CONFIG)
    assert prediction.bound == "stationary"
    use = buffer_use(flat, flat.tile, CONFIG)
    assert prediction.buffers["accumulator"] == use["accumulator"][0]
    assert prediction.buffers["stream"] == use["stream"][0]
    assert prediction.port_bytes["stationary"] == 16 * 16 * CONFIG.block_bytes


WHOLE = Tile(1, 1, 9, 7)


def port_bytes(opcode, flags, tile=WHOLE):
    layer_pass = make(opcode, geometry(), out_blocks=1, in_blocks=1, flags=flags)
    return predict(choose(layer_pass, CONFIG, tile), CONFIG).port_bytes


@pytest.mark.parametrize("opcode, port", [(BP, "stationary"), (WU, "side")])
def test_the_companion_is_as_large_as_the_stream(opcode, port):
    plain, paired = port_bytes(opcode, ()), port_bytes(opcode, {Flag.NORM_DY})
    vectors = 2 * 9 * 7 * CONFIG.vector_bytes
    assert paired[port] - plain[port] == vectors
    assert all(paired[name] == plain[name] for name in ("stationary", "side") if name != port)


def test_addends_come_on_the_stationary_bus():
    plain, added = port_bytes(BP, ()), port_bytes(BP, {Flag.ADD})
    vectors = 2 * 9 * 7 * CONFIG.vector_bytes
    assert added == plain | {"stationary": plain["stationary"] + vectors}


@pytest.mark.parametrize("tile", [WHOLE, Tile(1, 1, 3, 7)], ids=str)
def test_sums_cost_one_record_for_a_block(tile):
    plain, summed = port_bytes(BP, (), tile), port_bytes(BP, {Flag.SUMS}, tile)
    record = CONFIG.vector_bytes + 2 * PARTIAL_BEATS * CONFIG.beat_bytes
    assert summed == plain | {"write": plain["write"] + record}


# -- programs --------------------------------------------------------------------------------------


def test_a_program_of_one_pass_is_the_pass():
    layer_pass = choose(make(FP), CONFIG)
    _, total = predict_program([layer_pass], CONFIG)
    assert total == predict(layer_pass, CONFIG).cycles


def test_passes_overlap_and_ahead_flags_overlap_more():
    alone = choose(make(FP, images=4), CONFIG)
    ahead = replace(alone, flags=frozenset({Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY}))
    apart = 2 * predict(alone, CONFIG).cycles
    after = predict_program([alone, alone], CONFIG)
    early = predict_program([alone, ahead], CONFIG)
    assert early[1] < after[1] < apart
    for predictions, total in (after, early):
        assert abs(sum(p.cycles for p in predictions) + MACHINE.end - total) <= len(predictions)


def test_reads_of_the_next_pass_hold_up_the_last_windows():
    shape = geometry(4, (8, 8), kernel=1, pad=0)
    unpooled = make(BP, shape, 1, 1, {Flag.UNPOOL})
    unpooled = choose(unpooled, CONFIG, Tile(1, 2, 8, 8))
    update = choose(make(WU, shape, 1, 1), CONFIG, Tile(1, 1, 8, 8))
    ahead = replace(update, flags=update.flags | {Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY})
    alone, waited_for, held_up = (
        predict_program([unpooled, *behind], CONFIG)[0][0].cycles
        for behind in ([], [update], [ahead])
    )
    assert alone == waited_for < held_up
    assert held_up - alone < 1.1 * predict(update, CONFIG).port_cycles["stationary"]


def test_loss_has_the_device_to_itself():
    layer_pass = choose(make(FP), CONFIG)
    loss = LayerPass(Opcode.LOSS, "loss", scalars={"images": 4, "classes": 10})
    predictions, total = predict_program([layer_pass, loss, layer_pass], CONFIG)
    parts = [predict(p, CONFIG).cycles for p in (layer_pass, loss, layer_pass)]
    assert predictions[1].bound == "vector"
    assert 0.7 * sum(parts) < total <= sum(parts)


# -- the simulated core ----------------------------------------------------------------------------


def ones(*shape):
    return np.ones(shape, np.float32)


RTL_CASES = {
    "forward": lambda d: layers.conv_forward(
        d, ones(4, 12, 14, 14), ones(16, 12, 3, 3), ones(16), padding=1, relu=True
    ),
    "strided": lambda d: layers.conv_forward(
        d, ones(8, 8, 15, 11), ones(12, 8, 5, 5), stride=2, padding=2, tile=Tile(2, 2, 4, 6)
    ),
    "input gradient": lambda d: layers.conv_input_gradient(
        d, (4, 12, 14, 14), ones(16, 12, 3, 3), ones(4, 16, 14, 14), padding=1
    ),
    "weight gradient": lambda d: layers.conv_weight_gradient(
        d, ones(4, 8, 12, 12), ones(4, 16, 12, 12), (16, 8, 3, 3), padding=1
    ),
    "fully connected": lambda d: layers.conv_forward(
        d, ones(16, 256, 1, 1), ones(64, 256), ones(64)
    ),
    "pooling": lambda d: layers.max_pool(d, ones(8, 16, 16, 16)),
}


@pytest.fixture(scope="module")
def simulated():
    return SimDevice(CONFIG)


@pytest.mark.parametrize("case", RTL_CASES)
def test_model_agrees_with_the_core(simulated, monkeypatch, case):
    chosen = []

    def record(*arguments):
        chosen.append(choose(*arguments))
        return chosen[-1]

    monkeypatch.setattr(layers, "choose", record)
    RTL_CASES[case](simulated)
    cycles, active = (
        simulated.read_register(REGISTER[name].address) for name in ("CYCLES_LOW", "ACTIVE_LOW")
    )
    prediction = predict(chosen[-1], CONFIG)
    assert prediction.active == active
    assert prediction.cycles == pytest.approx(cycles, rel=0.01, abs=REFRESH)


# -- the search ------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", ["4x4", "8x8", "16x16", "32x32"])
@pytest.mark.parametrize(
    "opcode, flags",
    [
        (FP, {Flag.BIAS}),
        (FP, {Flag.POOL}),
        (BP, {Flag.SIDE_MASK}),
        (WU, {Flag.BIAS}),
        (Opcode.PASS, {Flag.RELU}),
        (Opcode.PASS_BP, ()),
    ],
)
def test_every_candidate_fits(array, opcode, flags):
    config = CoreConfig.parse(array, stream_depth=512, stationary_depth=1024)
    blocks = 1 if opcode in (Opcode.PASS, Opcode.PASS_BP) else 5
    layer_pass = make(opcode, images=6, big=(26, 40), in_blocks=blocks, flags=flags)
    found = candidates(layer_pass, config)
    assert found
    for tile in found:
        for needed, limit in buffer_use(layer_pass, tile, config).values():
            assert 0 < needed <= limit
        if Flag.POOL in flags:
            assert tile.rows % 2 == tile.cols % 2 == 0
        if blocks == 1:
            assert tile.out_blocks == 1
    chosen = choose(layer_pass, config)
    assert replace(chosen, tile=None) == layer_pass
    assert predict(chosen, config).cycles <= search.CLOSE * min(
        predict(replace(layer_pass, tile=tile), config).cycles for tile in found
    )


@pytest.mark.parametrize("opcode, flag", [(FP, Flag.STATISTICS), (BP, Flag.SUMS)])
def test_statistics_limit_the_out_blocks(opcode, flag):
    layer_pass = make(opcode, geometry(images=1, big=(4, 4)), out_blocks=40, flags={flag})
    tiles = [*candidates(layer_pass, CONFIG), choose(layer_pass, CONFIG).tile]
    assert max(tile.out_blocks for tile in tiles) <= MAX_STATISTICS_BLOCKS


def test_whole_images_spare_the_traffic_of_borders():
    flags = {Flag.NORM_DY, Flag.ADD, Flag.SIDE_MASK, Flag.STATISTICS}
    layer_pass = make(BP, geometry(images=128, big=(32, 32)), 1, 1, flags)
    chosen = choose(layer_pass, CoreConfig.parse("16x16"))
    assert (chosen.tile.rows, chosen.tile.cols) == (32, 32)
    assert predict(chosen, CoreConfig.parse("16x16")).share > 0.95


def test_the_search_is_deterministic():
    layer_pass = make(WU, images=8, big=(28, 28), flags={Flag.BIAS})
    tiles = []
    for _ in range(2):
        search.clear()
        tiles.append(choose(layer_pass, CONFIG).tile)
    assert tiles[0] == tiles[1] == choose(replace(layer_pass, layer="another"), CONFIG).tile


@pytest.mark.parametrize("opcode", [FP, BP, WU])
def test_the_choice_is_as_good_as_simple_tiles(opcode):
    layer_pass = make(opcode, images=8, big=(28, 28), out_blocks=4, in_blocks=4)
    best = predict(choose(layer_pass, CONFIG), CONFIG).cycles
    for tile in (Tile(4, 1, 14, 28), Tile(1, 2, 28, 28), Tile(4, 1, 7, 14), Tile(2, 2, 7, 28)):
        try:
            simple = choose(layer_pass, CONFIG, tile)
        except UserError:
            continue
        assert best <= 1.005 * predict(simple, CONFIG).cycles


def test_loss_has_no_tile():
    loss = LayerPass(Opcode.LOSS, "loss", scalars={"images": 4, "classes": 10})
    assert choose(loss, CONFIG) is loss


# -- what does not fit -----------------------------------------------------------------------------


def test_a_larger_buffer_is_named():
    layer_pass = make(WU, geometry(big=(15, 15), kernel=11, pad=5), flags={Flag.BIAS})
    with pytest.raises(UserError) as caught:
        choose(layer_pass, CoreConfig.parse("16x16", accumulator_depth=1024))
    assert str(caught.value) == (
        "1 (Conv2d): its CONV_WU pass needs 1952 vectors of the accumulator buffer, which holds "
        "1024; use a device with accumulator_depth 2048 or more."
    )


def test_a_smaller_array_is_named_where_no_buffer_is_deep_enough():
    layer_pass = make(WU, geometry(big=(15, 15), kernel=11, pad=5), flags={Flag.BIAS})
    config = CoreConfig.parse("32x32", accumulator_depth=1024, stream_depth=64)
    with pytest.raises(UserError, match="accumulator_depth 4096 or more"):
        choose(layer_pass, config)


def test_two_buffers_that_are_too_small_are_both_named():
    layer_pass = make(WU, geometry(big=(15, 15), kernel=11, pad=0), flags={Flag.BIAS})
    config = CoreConfig.parse("4x4", accumulator_depth=64, stationary_depth=64)
    with pytest.raises(UserError, match="accumulator_depth 512 and stationary_depth 128 or more"):
        choose(layer_pass, config)


def test_a_forced_tile_that_does_not_fit_is_refused():
    layer_pass = make(FP, images=8, big=(32, 32))
    with pytest.raises(UserError, match="needs 16384 vectors of the accumulator buffer"):
        choose(layer_pass, CONFIG, Tile(2, 8, 32, 32))
