# amaranth: UnusedElaboratable=no
"""The prologue against its model: every bit, any stalls, changes of coefficients and of tags."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from stall_bench import to_beats

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.prologue import Prologue
from eftrain_hdl.memory.axi import RunTag

SEED = 20231101
CORNERS = np.array(
    [0, 1 << 31, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000,
     0xFF800000, 0x7FC00000, 0xFFC00001, 0x3F800000, 0xBF800000],
    np.uint32,
)  # fmt: skip


def floats(rng, *shape, special=0.1):
    values = rng.standard_normal(shape) * np.exp2(rng.integers(-8, 9, shape))
    bits = values.astype(np.float32).view(np.uint32)
    return np.where(rng.random(shape) < special, rng.choice(CORNERS, shape), bits)


class Traffic:
    """Runs for a prologue, and what must come out.

    ``i`` and ``o`` hold (data, tag, last), ``companion`` and ``tee`` data; ``tag`` as an integer.
    """

    def __init__(self, rng, config, *, paired):
        self._rng = rng
        self._group = config.group
        self._paired = paired
        self._coefficients = None
        self.i, self.companion, self.o, self.tee = [], [], [], []

    def coefficients(self):
        self._coefficients = floats(self._rng, 3, self._group)
        self._beats(self.i, self._coefficients, {"coefficients": 1})

    def run(self, vectors, **tag):
        words = floats(self._rng, vectors, self._group)
        self._beats(self.i, words, tag)
        companion = None
        if self._paired and tag.get("affine") and tag.get("pair"):
            companion = floats(self._rng, vectors, self._group)
            self.companion += to_beats(companion)
        if tag.get("affine"):
            words = Prologue.model(words, self._coefficients, companion, relu=bool(tag.get("relu")))
        self._beats(self.o, words, tag)
        if self._paired and tag.get("tee"):
            self.tee += to_beats(words)

    @staticmethod
    def _beats(where, words, tag):
        beats = to_beats(words)
        bits = RunTag().const(tag).as_value().value
        where += [(beat, bits, index == len(beats) - 1) for index, beat in enumerate(beats)]


def run(dut, traffic, *, stalls=None):
    """Move all of ``traffic``; returns the cycles from the first *i* beat to the last *o* beat.

    ``stalls`` gives the chance of each stream, by name, not to move in a cycle.
    """
    stalls = stalls or {}
    rng = random.Random(SEED)
    sources = {"i": list(traffic.i)}
    found = {"o": []}
    expected = {"o": traffic.o}
    if hasattr(dut, "tee"):
        sources["companion"] = list(traffic.companion)
        found["tee"] = []
        expected["tee"] = traffic.tee
    cycles = None

    async def bench(ctx):
        nonlocal cycles
        offered = dict.fromkeys(sources, False)
        held = dict.fromkeys(found)
        tail = 20
        for cycle in range(100 + 30 * len(traffic.i)):
            for name, values in sources.items():
                port = getattr(dut, name)
                if not offered[name] and values and rng.random() >= stalls.get(name, 0):
                    offered[name] = True
                    if name == "i":
                        word, tag, last = values[0]
                        ctx.set(port.payload.data, word)
                        ctx.set(port.payload.tag.as_value(), tag)
                        ctx.set(port.payload.last, last)
                    else:
                        ctx.set(port.payload, values[0])
                ctx.set(port.valid, offered[name])
            for name in found:
                ctx.set(getattr(dut, name).ready, rng.random() >= stalls.get(name, 0))
            await ctx.delay(1e-9)
            for name, values in sources.items():
                if offered[name] and ctx.get(getattr(dut, name).ready):
                    values.pop(0)
                    offered[name] = False
            for name, beats in found.items():
                port = getattr(dut, name)
                value = None
                if ctx.get(port.valid):
                    value = ctx.get(port.payload)
                    if name == "o":
                        value = (value["data"], value["tag"].as_bits(), value["last"])
                assert held[name] in (None, value), f"{name} changed while it had to wait"
                ready = ctx.get(port.ready)
                held[name] = None if ready else value
                if ready and value is not None:
                    beats.append(value)
                    cycles = cycle + 1
            await ctx.tick()
            if not any(sources.values()) and all(
                len(found[name]) >= len(expected[name]) for name in found
            ):
                tail -= 1
                if not tail:
                    break
        assert found == expected
        assert ctx.get(dut.idle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return cycles


@pytest.mark.parametrize("stalls", [0.0, 0.4])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("group", [4, 8, 16])
def test_random_traffic(group, paired, stalls):
    """Single, paired and plain runs mixed at random, with new coefficients between them."""
    config = CoreConfig(rows=group, lanes=group)
    rng = np.random.default_rng((SEED, group, paired))
    traffic = Traffic(rng, config, paired=paired)
    traffic.coefficients()
    for _ in range(40):
        if rng.random() < 0.4:
            traffic.coefficients()
        tag = {name: int(rng.random() < 0.5) for name in RunTag.FIELDS if name != "coefficients"}
        traffic.run(int(rng.integers(1, 6)), **tag)
    names = ("i", "companion", "o", "tee")
    run(Prologue(config, paired=paired), traffic, stalls=dict.fromkeys(names, stalls))


@pytest.mark.parametrize("stalled", ["i", "companion", "o", "tee"])
def test_one_slow_stream(stalled):
    """Each stream may be the slowest one by far."""
    config = CoreConfig(rows=4, lanes=4)
    traffic = Traffic(np.random.default_rng(SEED), config, paired=True)
    for number in range(6):
        traffic.coefficients()
        traffic.run(20, affine=1, pair=number % 2, relu=number // 2 % 2, tee=1)
    run(Prologue(config), traffic, stalls={stalled: 0.85})


@pytest.mark.parametrize("tag", [
    {}, {"affine": 1}, {"affine": 1, "pair": 1}, {"affine": 1, "pair": 1, "relu": 1, "tee": 1},
], ids=lambda tag: "_".join(tag) or "plain")  # fmt: skip
def test_rate(tag):
    """One beat a cycle in, whatever happens to it; a coefficient costs the cycles of its beats."""
    config = CoreConfig(rows=8, lanes=8)
    traffic = Traffic(np.random.default_rng(SEED), config, paired=True)
    for vectors in (30, 1, 1, 20):
        traffic.coefficients()
        traffic.run(vectors, **tag)
    dut = Prologue(config)
    assert run(dut, traffic) == len(traffic.i) + dut.latency


def test_single_latency():
    """Without the pair there are fewer stages."""
    config = CoreConfig(rows=4, lanes=4)
    traffic = Traffic(np.random.default_rng(SEED), config, paired=False)
    traffic.coefficients()
    traffic.run(1, affine=1)
    dut = Prologue(config, paired=False)
    assert dut.latency < Prologue(config).latency
    assert run(dut, traffic) == len(traffic.i) + dut.latency


def test_model_rounds_as_written():
    """Against numpy, whose fp32 rounds every operation by itself as well."""
    rng = np.random.default_rng(SEED)
    x, c, k = (floats(rng, n, 8, special=0) for n in (50, 50, 4))
    x_f, c_f, k_f = (value.view(np.float32) for value in (x, c, k))
    single = (k_f[0] * x_f + k_f[2]).view(np.uint32)
    pair = k_f[0] * x_f + (k_f[1] * c_f + k_f[2])
    assert (Prologue.model(x, k) == single).all()
    assert (Prologue.model(x, k, c) == pair.view(np.uint32)).all()
    assert (Prologue.model(x, k, c, relu=True) == np.maximum(pair, 0).view(np.uint32)).all()
