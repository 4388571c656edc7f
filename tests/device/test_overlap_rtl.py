"""Two descriptors in flight: the same bits, fewer cycles, and counters that explain every one."""

import numpy as np
import pytest
from raw_program import Conv, Program

from eftrain_hdl import isa
from eftrain_hdl.isa import Flag, Opcode

SEED = 20220319
AHEAD = (Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY, Flag.AHEAD_SIDE)
WEIGHTS_AHEAD = (Flag.AHEAD_STATIONARY,)
THREE = Conv()


def random(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def independent(program, rng, ahead):
    """Six passes of all kinds that read the same tensors: no dependency between any two."""
    x, dy = program.map(random(rng, 2, 8, 8, 8)), program.map(random(rng, 2, 12, 8, 8))
    w, b = program.weights(random(rng, 12, 8, 3, 3)), program.vector(random(rng, 12))
    results = [program.new_map(2, 12, 8, 8), program.new_map(2, 8, 8, 8)]
    results += [program.new_map(2, 8, 4, 4), program.new_map(2, 12, 16, 16)]
    results += [program.new_map(2, 12, 4, 4)]
    dw = program.new_weights(12, 8, 3, 3)
    convs = {"conv": THREE, "stationary": w}
    program.layer(
        Opcode.CONV_FP, (Flag.BIAS, Flag.RELU, *ahead), stream=x, output=results[0], bias=b, **convs
    )
    program.update((*ahead,), THREE, x=x, dy=dy, output=dw)
    program.layer(
        Opcode.CONV_BP, (Flag.SIDE_MASK, *ahead), stream=dy, output=results[1], side=x, **convs
    )
    half = Conv((2, 2), (2, 2), (0, 0))
    program.layer(Opcode.PASS, ahead, half, stream=x, output=results[2], scale=0.25)
    program.layer(Opcode.PASS_BP, ahead, half, stream=dy, output=results[3], scale=0.25)
    program.layer(Opcode.CONV_FP, (Flag.POOL, *ahead), stream=x, output=results[4], **convs)
    return [*results, dw]


def chain(program, rng, ahead):
    """A convolution after another: each reads what the one before it writes, weights apart."""
    maps = [program.map(random(rng, 1, 8, 8, 8))]
    for _ in range(4):
        maps.append(program.new_map(1, 8, 8, 8))
        w = program.weights(random(rng, 8, 8, 3, 3))
        program.layer(Opcode.CONV_FP, ahead, THREE, stream=maps[-2], output=maps[-1], stationary=w)
    return maps[1:]


def run(device, build, ahead):
    """``(bytes of the results, counters)``"""
    program = Program(device)
    results = build(program, np.random.default_rng(SEED), ahead)
    program.run()
    counters = {
        register.name: device.read_register(register.address)
        for register in isa.REGISTERS
        if register.name in ("CYCLES_LOW", "ACTIVE_LOW", *isa.STALLS)
    }
    assert counters["CYCLES_LOW"] == sum(counters.values()) - counters["CYCLES_LOW"], counters
    read = [
        program.read_weights(result) if result.shape[2] == 3 else program.read_map(result)
        for result in results
    ]
    assert not any(np.isnan(values).any() for values in read)
    return [values.tobytes() for values in read], counters


@pytest.mark.parametrize("probability", [0, 0.4])
def test_reading_ahead_changes_no_bit_and_saves_cycles(fresh_device, probability):
    fresh_device.set_stalls(SEED, probability)
    expected, apart = run(fresh_device, independent, ())
    found, together = run(fresh_device, independent, AHEAD)
    print(apart, together, sep="\n")
    assert found == expected
    assert together["ACTIVE_LOW"] == apart["ACTIVE_LOW"]
    assert together["CYCLES_LOW"] < apart["CYCLES_LOW"]
    assert together["STALL_FENCE"] < apart["STALL_FENCE"] / 2


@pytest.mark.parametrize("probability", [0, 0.4])
def test_what_the_layer_before_writes_is_waited_for(fresh_device, probability):
    """Only the weights come ahead; they hide behind the drain of the layer before."""
    fresh_device.set_stalls(SEED, probability)
    expected, apart = run(fresh_device, chain, ())
    found, together = run(fresh_device, chain, WEIGHTS_AHEAD)
    print(apart, together, sep="\n")
    assert found == expected
    assert together["STALL_STATIONARY"] < apart["STALL_STATIONARY"]


def test_a_long_layer_fills_the_array(fresh_device):
    """What does not carry a vector is the start of the layer and the drain of its last tile."""

    def build(program, rng, ahead):
        x, w = program.map(random(rng, 2, 16, 16, 16)), program.weights(random(rng, 16, 16, 3, 3))
        y = program.new_map(2, 16, 16, 16)
        conv = Conv(tile=(4, 1, 16, 16))
        program.layer(Opcode.CONV_FP, ahead, conv, stream=x, output=y, stationary=w)
        return [y]

    _, counters = run(fresh_device, build, ())
    drained = 16 * 16 * 4
    idle = counters["CYCLES_LOW"] - counters["ACTIVE_LOW"]
    print(counters)
    assert idle < drained + 500
    assert counters["STALL_HAZARD"] == counters["STALL_WRITE"] == counters["STALL_DRAIN"] == 0
