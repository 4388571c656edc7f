"""cocotb testbench of the vector unit: LOSS and NORM, also one after the other.

``tests/datapath/test_vector_cocotb.py`` builds the model. Inputs change after a rising edge and
everything is read at the next one: a *cycle* is what lies between.
"""

import itertools
import logging
import random

import cocotb
import numpy as np
from cocotb.clock import Clock

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.norm import Norm
from eftrain_hdl.datapath.softmax_loss import SoftmaxLoss
from eftrain_hdl.isa import PARTIAL_BEATS, Flag
from sim.testbenches.stream_unit import Unit, bits, to_beats
from sim.testbenches.tb_blocks import PERIOD_NS, cycles

SEED = 20240705
CONFIG = CoreConfig(rows=8, lanes=8, max_classes=64)
T = CONFIG.group
N = CONFIG.vector_beats
NUMBERS = (
    "scale", "unbias", "epsilon", "statistics_momentum", "learning_rate", "momentum",
    "weight_decay",
)  # fmt: skip
G, U, V, F, P = Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM, Flag.FROZEN, Flag.X_PAIR
MODES = [(), (P,), (F,), (F, P), (G,), (G, U), (G, U, V)]


async def reset(dut):
    dut.rst.value = 1
    await cycles(dut, 3)
    dut.rst.value = 0


class Vector(Unit):
    def __init__(self, dut):
        super().__init__(dut, ("logits", "side"), ("busy", "nonfinite", "label_error"))

    async def begin(self, start, **controls):
        self.set(**controls, **{start: 1})
        await cycles(self.dut, 1)
        self.set(**{start: 0})

    async def finish(self, words):
        """Compare what comes out and return the cycles the unit was busy."""
        beats = to_beats(words)
        assert await self.receive(len(beats)) == beats
        await cycles(self.dut, 2)
        assert not self.get("busy")
        self.check_rest()
        assert self.high["label_error"].count == 0
        return self.high["busy"].count

    async def loss(self, logits, labels, *, gradient=True, record=1):
        """Run one batch."""
        logits = bits(logits)
        images, classes = logits.shape
        scale = int(bits(1 / images))
        expected, mean, correct, losses = SoftmaxLoss.model(logits, labels, scale, T)
        # What is in the padding must not matter, be it the largest number of all.
        words = np.full(expected.shape, bits(np.inf))
        words[:, :classes] = logits
        filled = np.full(-(-images // 4) * 4, 0xFFFFFFFF, np.uint32)
        filled[:images] = labels
        result = np.array([mean, correct, images, record], np.uint32)
        assert not self.get("busy")
        self.clear()
        await self.begin(
            "start_loss", images=images, classes=classes, flags=gradient << Flag.GRADIENT,
            scale=scale, record=record,
        )  # fmt: skip
        self.send("logits", words)
        self.send("side", filled)
        written = [np.ravel(expected), result] if gradient else [result]
        count = await self.finish(np.concatenate(written))
        nonfinite = sum(not np.isfinite(np.uint32(w).view(np.float32)) for w in [*losses, mean])
        assert self.high["nonfinite"].count == nonfinite
        return count

    async def norm(self, rng, flags, *, blocks=1, corners=False):
        """Run random blocks."""
        flags = set(flags)
        numbers = dict(zip(NUMBERS, bits(rng.uniform(0.01, 1, len(NUMBERS))), strict=True))

        def words(*shape):
            values = bits(rng.normal(size=shape) * 3)
            odd = [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 1, 0x7F7FFFFF]
            return np.where(corners & (rng.random(shape) < 0.05), rng.choice(odd, shape), values)

        sent, expected = [], []
        for _ in range(blocks):
            statistics = None if F in flags else words(T + 2 * PARTIAL_BEATS * 4)
            parameters = words(8, T)
            pair = words(4, T) if P in flags else None
            sent += [np.ravel(part) for part in (statistics, parameters, pair) if part is not None]
            written, coefficients = Norm.model(T, flags, numbers, statistics, parameters, pair)
            expected += [np.ravel(coefficients)]
            if F not in flags:
                expected.insert(-1, np.ravel(written))
        expected = np.concatenate(expected)
        assert not self.get("busy")
        self.clear()
        await self.begin(
            "start_norm", out_blocks=blocks, flags=sum(1 << flag for flag in flags),
            **{name: int(word) for name, word in numbers.items()},
        )  # fmt: skip
        self.send("side", np.concatenate(sent).astype(np.uint32))
        count = await self.finish(expected)
        nonfinite = (expected >> 23 & 255 == 255).sum()
        assert self.high["nonfinite"].count == nonfinite
        return count


async def start(dut):
    """Clock and reset; every input 0. Returns the unit, a random generator of Python's and one of
    numpy's."""
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    dut._log.setLevel(logging.INFO)
    dut._log.info("random seed %d", SEED)
    for name in (
        "start_loss", "start_norm", "flags", "images", "classes", "record", "out_blocks",
        *NUMBERS, "logits_valid", "side_valid", "o_ready",
    ):  # fmt: skip
        getattr(dut, name).value = 0
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
    await reset(dut)
    unit = Vector(dut)
    await cycles(dut, 2)
    return unit, random.Random(SEED), np.random.default_rng(SEED)


def batch(rng, images, classes):
    logits = (rng.normal(size=(images, classes)) * 3).astype(np.float32)
    return logits, rng.integers(0, classes, images)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def loss_random_stalls(dut):
    """The bits of the model with stalls on every choice of the three streams, without a reset."""
    unit, rng, numbers = await start(dut)
    sizes = itertools.cycle([(5, 10), (1, 1), (2, T), (2, T + 1), (1, 33), (4, 2), (1, 64)])
    for logits, side, o in itertools.product((False, True), repeat=3):
        unit.pause(rng, logits=logits, side=side, o=o)
        for gradient in (True, False):
            for size in itertools.islice(sizes, 2):
                record = int(numbers.integers(2**32))
                await unit.loss(*batch(numbers, *size), gradient=gradient, record=record)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def loss_corners(dut):
    """Ties, infinities, NaNs, subnormals: the bits of the model, and ``nonfinite`` counts them."""
    unit, rng, _ = await start(dut)
    inf, nan = np.inf, np.nan
    rows = [
        [1.0, 3.0, 3.0, -2.0], [-0.0, 0.0, -0.0, 0.0], [200.0, 0.0, -3e38, 3e38],
        [0.0, -86.0, -87.5, 120.0], [1.0, inf, 0.0, 2.0], [-inf, 2.0, 0.0, 1.0],
        [-inf, -inf, -inf, -inf], [1.0, 2.0, nan, 0.0], [1e-40, -1e-40, 0.0, 1e-39],
    ]  # fmt: skip
    for row in rows:
        await unit.loss(np.array([row], np.float32), [rng.randrange(4)])
    await unit.loss(np.array(rows, np.float32), [rng.randrange(4) for _ in rows])


async def cycles_an_image(unit, rng, classes, gradient):
    """What one more image adds to a batch; the same whatever its numbers are."""
    one, two = [
        await unit.loss(*batch(rng, images, classes), gradient=gradient) for images in (1, 2)
    ]
    return two - one


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def loss_cycles(dut):
    """About 335 cycles an image and 20 a class, 16 without the gradient; 556 for 10 classes."""
    unit, _, rng = await start(dut)
    # Six images need two beats of labels, but fetching one costs no cycle of its own.
    two, six = [await unit.loss(*batch(rng, images, 10)) for images in (2, 6)]
    assert six - two == 4 * 556 == 4 * await cycles_an_image(unit, rng, 10, True)
    for gradient, a_class in ((True, 20), (False, 16)):
        counts = []
        for classes in (10, 32, 64):
            counts.append(await cycles_an_image(unit, rng, classes, gradient))
            unit.dut._log.info("%d classes, gradient %d: %d cycles", classes, gradient, counts[-1])
            assert abs(counts[-1] - 335 - a_class * classes) <= 0.05 * counts[-1]
        # Short chunks take a time of their own, which no step is faster than.
        assert await cycles_an_image(unit, rng, 2, gradient) < counts[0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def loss_label_error(dut):
    """A label that is no class stops the unit until a reset, after which it works again."""
    unit, rng, numbers = await start(dut)
    for place, label in itertools.product((0, 2), (10, 16, 0x10000, 0xFFFFFFFF)):
        unit.clear()
        await unit.begin(
            "start_loss", images=4, classes=10, flags=0, scale=int(bits(0.25)), record=1
        )
        labels = [3, 9, 0, 1]
        labels[place] = label
        unit.send("side", labels)
        # Those of the images before.
        for _ in range(place * -(-10 // T) * N):
            unit.send("logits", [rng.getrandbits(32) & ~(0x40 << 24) for _ in range(4)])
        for _ in range(2000):
            await cycles(dut, 1)
            if unit.get("label_error"):
                break
        unit.check_rest()
        for _ in range(50):
            assert unit.get("label_error") and unit.get("busy")
            assert not unit.get("o_valid") and not unit.get("logits_ready")
            await cycles(dut, 1)
        await reset(dut)
        await cycles(dut, 2)
        await unit.loss(*batch(numbers, 2, 10))


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def norm_random_stalls(dut):
    """Every mode with stalls on either stream, and LOSS in between, without a reset."""
    unit, rng, numbers = await start(dut)
    for side, o in itertools.product((False, True), repeat=2):
        unit.pause(rng, side=side, o=o, logits=side)
        for flags in MODES:
            for blocks in (1, 3):
                await unit.norm(numbers, flags, blocks=blocks)
            await unit.loss(*batch(numbers, 2, 10), gradient=bool(len(flags) % 2))


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def norm_corners(dut):
    """Infinities, NaNs, zeros and subnormals anywhere: the bits of the model, and no standstill."""
    unit, _, numbers = await start(dut)
    for flags in MODES:
        await unit.norm(numbers, flags, blocks=8, corners=True)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def norm_cycles(dut):
    """The same time for every block."""
    unit, _, rng = await start(dut)
    for flags in MODES:
        one, two, five = [await unit.norm(rng, flags, blocks=blocks) for blocks in (1, 2, 5)]
        unit.dut._log.info("%s: %d cycles a block", [flag.name for flag in flags], two - one)
        assert five - two == 3 * (two - one)
        assert two - one < 700
