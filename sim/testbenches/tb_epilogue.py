"""cocotb testbench of the epilogue and the loss unit, which stand side by side in one model.

``tests/datapath/test_epilogue_cocotb.py`` builds the model, in which ``ep`` is the prefix of the
epilogue's ports and ``loss`` that of the loss unit's. Inputs change after a rising edge and
everything is read at the next one: a *cycle* is what lies between.
"""

import itertools
import logging
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi.stream import define_stream

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.epilogue import Epilogue
from eftrain_hdl.datapath.softmax_loss import SoftmaxLoss
from eftrain_hdl.isa import Flag
from sim.testbenches.tb_blocks import PERIOD_NS, Handshakes, cycles, pack, stall

SEED = 20240705
CONFIG = CoreConfig(rows=8, lanes=8, max_classes=64)
T = CONFIG.group
N = CONFIG.vector_beats
WINDOW = 4
CORNERS = np.array(
    [0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 1,
     0x80000001, 0x00800000, 0x80800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800001],
    np.uint32,
)  # fmt: skip

R, B, A, M = Flag.RELU, Flag.BIAS, Flag.SIDE_ADD, Flag.SIDE_MASK
P, U, W, V = Flag.POOL, Flag.UNPOOL, Flag.UPDATE, Flag.MOMENTUM
UNBIASED = [(), (R,), (A,), (A, R), (M,), (M, R)]
BIASED = [(B,), (B, R), (A, B), (A, B, R)]
POOLED = [(P,), (P, R), (P, B), (P, B, R)]
UNPOOLED = [(U,), (U, M)]
WU = [(), (B,), (W,), (W, B), (W, V), (W, V, B)]

AccBus, AccBeat, AccSource, _, _ = define_stream(
    "Acc", signals=["data", "block_start", "diagonal", "lane", "valid", "ready"]
)
PlainBus, PlainBeat, PlainSource, PlainSink, _ = define_stream(
    "Plain", signals=["payload", "valid", "ready"]
)


async def start(dut):
    """Clock and reset; every input 0. Returns a random generator of Python's and one of numpy's."""
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    dut._log.setLevel(logging.INFO)
    dut._log.info("random seed %d", SEED)
    for name in (
        "ep_flags", "ep_is_wu", "ep_is_update", "ep_learning_rate", "ep_momentum",
        "ep_weight_decay", "ep_acc_valid", "ep_side_valid", "ep_o_ready", "loss_start",
        "loss_images", "loss_classes", "loss_gradient", "loss_scale", "loss_record",
        "loss_logits_valid", "loss_labels_valid", "loss_o_ready",
    ):  # fmt: skip
        getattr(dut, name).value = 0
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
    await reset(dut)
    return random.Random(SEED), np.random.default_rng(SEED)


async def reset(dut):
    dut.rst.value = 1
    await cycles(dut, 3)
    dut.rst.value = 0


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def to_beats(words):
    return [pack(beat) for beat in np.asarray(words, np.uint32).reshape(-1, 4)]


def random_words(rng, shape):
    """fp32 bits: mostly moderate numbers with repetitions, so that ties occur, and some corners."""
    words = bits(rng.integers(-8, 9, shape) * 0.375)
    words = np.where(rng.random(shape) < 0.5, bits(rng.normal(size=shape)), words)
    return np.where(rng.random(shape) < 0.05, rng.choice(CORNERS, shape), words)


class High:
    """Counts the cycles in which a port is high."""

    def __init__(self, dut, name):
        self.count = 0
        self._signal = getattr(dut, name)
        cocotb.start_soon(self._watch(dut))

    async def _watch(self, dut):
        while True:
            await RisingEdge(dut.clk)
            self.count += int(self._signal.value)


class Unit:
    """A block with its streams: ``inputs`` and ``o`` of the ports ``<prefix>_<stream>``."""

    def __init__(self, dut, prefix, inputs, flags):
        self.dut = dut
        self._prefix = prefix
        self.sources, self.moved = {}, {}
        for name, (bus, source, payload) in inputs.items():
            port = f"{prefix}_{name}"
            self.sources[name] = source(bus.from_prefix(dut, port), dut.clk)
            self.moved[name] = Handshakes(dut, port, payload)
        self.sink = PlainSink(PlainBus.from_prefix(dut, f"{prefix}_o"), dut.clk)
        self.moved["o"] = Handshakes(dut, f"{prefix}_o", ["payload"])
        self.high = {name: High(dut, f"{prefix}_{name}") for name in flags}

    def set(self, **controls):
        for name, value in controls.items():
            getattr(self.dut, f"{self._prefix}_{name}").value = value

    def get(self, name):
        return int(getattr(self.dut, f"{self._prefix}_{name}").value)

    def cycles_of(self, name):
        return self.moved[name].cycles

    def pause(self, rng, **active):
        """Random stalls on the streams that are named; none on the others."""
        for name, stream in {**self.sources, "o": self.sink}.items():
            stall(rng, stream, active.get(name, False))

    def clear(self):
        for moved in self.moved.values():
            moved.cycles.clear()
        for high in self.high.values():
            high.count = 0

    async def receive(self, count):
        return [int((await self.sink.recv()).payload) for _ in range(count)]

    def check_rest(self):
        """All of the input was taken and nothing more came out."""
        assert self.sink.empty()
        assert all(source.empty() for source in self.sources.values())


# -- epilogue --------------------------------------------------------------------------------------


class Job:
    """Random vectors for one descriptor, the streams they make, and what must come out."""

    def __init__(self, rng, flags, *, is_wu=False, vectors=12, block=WINDOW):
        flags = set(flags)
        is_update = W in flags
        diagonal = np.zeros(vectors, bool)
        if is_wu and B in flags:
            diagonal = np.r_[np.zeros(vectors, bool), np.ones(T, bool), np.zeros(2, bool)]
            vectors = len(diagonal)
        block_start = np.arange(vectors) % block == 0
        acc = random_words(rng, (vectors, T))
        results = vectors - diagonal.sum() + diagonal.any()
        if is_update:
            side_vectors = results * (2 if V in flags else 1)
        elif U in flags:
            side_vectors = WINDOW * vectors
        else:
            side_vectors = vectors if flags & {A, M} else 0
            if B in flags and not is_wu:
                side_vectors += block_start.sum()
        side = random_words(rng, (side_vectors, T))
        rates = {
            "learning_rate": int(bits(0.05)),
            "momentum": int(bits(0.9)),
            "weight_decay": int(bits(5e-4)),
        }
        expected = Epilogue.model(
            acc, side, flags=flags, is_wu=is_wu, is_update=is_update, **rates,
            block_start=block_start, diagonal=diagonal,
        )  # fmt: skip
        self.title = ("WU " if is_wu else "") + "+".join(flag.name for flag in sorted(flags))
        self.controls = {
            "flags": sum(1 << flag for flag in flags), "is_wu": is_wu, "is_update": is_update,
            **rates,
        }  # fmt: skip
        lane = np.cumsum(diagonal) - 1
        self.acc = [
            AccBeat(
                data=data, block_start=int(block_start[k // N]), diagonal=int(diagonal[k // N]),
                lane=int(max(lane[k // N], 0)),
            )
            for k, data in enumerate(to_beats(acc))
        ]  # fmt: skip
        self.side = [PlainBeat(payload=data) for data in to_beats(side)]
        self.expected = to_beats(expected)
        exponents = expected.reshape(-1, 4) >> 23 & 255
        self.nonfinite = int((exponents == 255).any(axis=1).sum())

        # (beats of acc, beats of o) between which nothing is on the way.
        self.rests = {(0, 0)}
        each = 4 if U in flags else 2 if {W, V} <= flags else 1
        given = 0
        for k in range(vectors):
            whole = lane[k] == T - 1 if diagonal[k] else P not in flags or k % WINDOW == WINDOW - 1
            if whole:
                given += each
                self.rests.add(((k + 1) * N, given * N))
        assert given * N == len(self.expected)


def every_mode(rng, **settings):
    for flags in UNBIASED + BIASED + POOLED + UNPOOLED:
        yield Job(rng, flags, **settings)
    for flags in WU:
        yield Job(rng, flags, is_wu=True, **settings)


class Ep(Unit):
    def __init__(self, dut):
        inputs = {
            "acc": (AccBus, AccSource, ["data", "block_start", "diagonal", "lane"]),
            "side": (PlainBus, PlainSource, ["payload"]),
        }
        super().__init__(dut, "ep", inputs, ["nonfinite"])
        self._rests, self._moved = set(), [0, 0]
        cocotb.start_soon(self._watch_idle())

    async def _watch_idle(self):
        """Notes how many beats of acc and o had moved whenever the unit said that it is idle."""
        while True:
            await RisingEdge(self.dut.clk)
            if self.get("idle"):
                self._rests.add(tuple(self._moved))
            for k, name in enumerate(("acc", "o")):
                self._moved[k] += self.get(f"{name}_valid") & self.get(f"{name}_ready")

    def clear(self):
        super().clear()
        self._rests, self._moved = set(), [0, 0]

    async def run(self, job):
        """Run one job from idle to idle; compares what comes out."""
        assert self.get("idle"), job.title
        self.set(**job.controls)
        self.clear()
        for beat in job.acc:
            self.sources["acc"].send_nowait(beat)
        for beat in job.side:
            self.sources["side"].send_nowait(beat)
        assert await self.receive(len(job.expected)) == job.expected, job.title
        # The sink hands a beat over in the cycle after the one in which it took it.
        for _ in range(4):
            await cycles(self.dut, 1)
            if self.get("idle"):
                break
        else:
            raise AssertionError(f"{job.title}: not idle after the last beat")
        self.check_rest()
        assert self.high["nonfinite"].count == job.nonfinite, job.title
        assert self._rests <= job.rests, f"{job.title}: idle with beats inside"

    def all_cycles(self):
        return tuple(self.cycles_of(name) for name in ("acc", "side", "o"))


async def start_ep(dut):
    rng, numbers = await start(dut)
    unit = Ep(dut)
    await cycles(dut, 2)
    return unit, rng, numbers


def consecutive(taken):
    return taken == list(range(taken[0], taken[0] + len(taken)))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_latency(dut):
    """A single vector, or window, in every mode: ``Epilogue.latency`` from acc to o."""
    unit, _, rng = await start_ep(dut)
    for flags in UNBIASED + BIASED:
        await unit.run(Job(rng, flags, vectors=1))
        acc, side, o = unit.all_cycles()
        assert o == [cycle + Epilogue.latency for cycle in acc], flags
        # Operands of the side stream are taken with their acc beat, biases before it.
        operands = acc if {A, M} & set(flags) else []
        bias = list(range(acc[0] - N, acc[0])) if B in flags else []
        assert side == bias + operands, flags
    for flags in POOLED:
        await unit.run(Job(rng, flags, vectors=WINDOW))
        acc, _, o = unit.all_cycles()
        assert o == [cycle + Epilogue.latency for cycle in acc[-N:]], flags
    for flags in UNPOOLED:
        await unit.run(Job(rng, flags, vectors=1))
        acc, side, o = unit.all_cycles()
        # The window is known one cycle after its last beat.
        assert acc[0] == side[-1] + 1
        assert o[:N] == [cycle + Epilogue.latency for cycle in acc], flags
    await unit.run(Job(rng, (W,), is_wu=True, vectors=1))
    acc, side, o = unit.all_cycles()
    assert acc == side and o == [cycle + Epilogue.latency for cycle in acc]
    await unit.run(Job(rng, (W, V), is_wu=True, vectors=1))
    acc, side, o = unit.all_cycles()
    # Once through half of the lanes, then through all of them.
    assert acc == side[:N] and Epilogue.latency < o[0] - acc[0] <= 2 * Epilogue.latency
    assert consecutive(o)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_a_beat_a_cycle(dut):
    """No pause in a long run: on acc, and on o where more comes out than goes in."""
    unit, _, rng = await start_ep(dut)
    vectors = 60
    for flags in UNBIASED + BIASED:
        await unit.run(Job(rng, flags, vectors=vectors, block=vectors))
        acc, _, o = unit.all_cycles()
        assert consecutive(acc), flags
        assert o == [cycle + Epilogue.latency for cycle in acc], flags
    for flags in [(), (W,)]:
        await unit.run(Job(rng, flags, is_wu=True, vectors=vectors))
        acc, _, o = unit.all_cycles()
        assert consecutive(acc) and consecutive(o), flags
    for flags in [(P,), (P, R)]:
        await unit.run(Job(rng, flags, vectors=vectors))
        assert consecutive(unit.cycles_of("acc")), flags
    for flags in UNPOOLED:
        await unit.run(Job(rng, flags, vectors=vectors // 4))
        assert consecutive(unit.cycles_of("side")) and consecutive(unit.cycles_of("o")), flags
    # The two results of each weight share one output.
    await unit.run(Job(rng, (W, V), is_wu=True, vectors=vectors))
    acc, _, o = unit.all_cycles()
    assert consecutive(o) and len(o) == 2 * len(acc)
    # T diagonal vectors go in for one that comes out.
    for flags in [(B,), (W, B)]:
        await unit.run(Job(rng, flags, is_wu=True, vectors=8))
        assert consecutive(unit.cycles_of("acc")), flags


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_bias_blocks(dut):
    """Blocks back to back: each begins with T/4 cycles for its bias, and there is no other gap."""
    unit, _, rng = await start_ep(dut)
    for flags, block in itertools.product(BIASED, (1, 2, 5)):
        blocks = 6
        await unit.run(Job(rng, flags, vectors=blocks * block, block=block))
        acc, side, o = unit.all_cycles()
        first = side[0]
        period = N + block * N
        begins = [first + k * period for k in range(blocks)]
        expected = [begin + N + k for begin in begins for k in range(block * N)]
        assert acc == expected, (flags, block)
        assert o == [cycle + Epilogue.latency for cycle in acc], (flags, block)
        biases = {begin + k for begin in begins for k in range(N)}
        assert biases <= set(side), (flags, block)
    # Pooling does not make the gaps longer.
    for block in (WINDOW, 3 * WINDOW):
        blocks = 4
        await unit.run(Job(rng, (P, B, R), vectors=blocks * block, block=block))
        acc, side, o = unit.all_cycles()
        assert acc[-1] - side[0] == blocks * (N + block * N) - 1
        assert o[-1] == acc[-1] + Epilogue.latency


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_modes_back_to_back(dut):
    """Every mode after every other in random order, flags changed as soon as the unit is idle."""
    unit, rng, numbers = await start_ep(dut)
    for vectors in (4, 8):
        jobs = list(every_mode(numbers, vectors=vectors)) * 2
        rng.shuffle(jobs)
        for job in jobs:
            await unit.run(job)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def epilogue_random_stalls(dut):
    """The bits of the model in every mode, with stalls on every choice of the three streams."""
    unit, rng, numbers = await start_ep(dut)
    for acc, side, o in itertools.product((False, True), repeat=3):
        unit.pause(rng, acc=acc, side=side, o=o)
        for job in every_mode(numbers, block=4):
            await unit.run(job)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def epilogue_full(dut):
    """An output that stands still holds acc and side back, and nothing is lost."""
    unit, _, rng = await start_ep(dut)
    for flags in [(), (A, B, R), (P,), (U, M), (W, V)]:
        job = Job(rng, flags, is_wu=W in flags, vectors=80)
        unit.sink.set_pause_generator(itertools.repeat(True))
        task = cocotb.start_soon(unit.run(job))
        await cycles(dut, 400)
        before = [len(taken) for taken in unit.all_cycles()]
        assert before[0] < len(job.acc) and before[2] == 0, job.title
        await cycles(dut, 50)
        assert [len(taken) for taken in unit.all_cycles()] == before, job.title
        unit.sink.set_pause_generator(itertools.repeat(False))
        await task


# -- loss ------------------------------------------------------------------------------------------


class Loss(Unit):
    def __init__(self, dut):
        plain = (PlainBus, PlainSource, ["payload"])
        super().__init__(
            dut, "loss", {"logits": plain, "labels": plain}, ["busy", "nonfinite", "label_error"]
        )

    async def begin(self, **controls):
        self.set(**controls, start=1)
        await cycles(self.dut, 1)
        self.set(start=0)

    async def run(self, logits, labels, *, gradient=True, record=1):
        """Run one batch; compares what comes out and returns the cycles the unit was busy."""
        logits = bits(logits)
        images, classes = logits.shape
        scale = int(bits(1 / images))
        expected, mean, correct, losses = SoftmaxLoss.model(logits, labels, scale, T)
        beats = to_beats(expected) if gradient else []
        beats += to_beats([mean, correct, images, record])
        # What is in the padding must not matter, be it the largest number of all.
        words = np.full(expected.shape, bits(np.inf))
        words[:, :classes] = logits
        filled = np.full(-(-images // 4) * 4, 0xFFFFFFFF, np.uint32)
        filled[:images] = labels
        assert not self.get("busy")
        self.clear()
        await self.begin(
            images=images, classes=classes, gradient=int(gradient), scale=scale, record=record
        )
        for name, data in (("logits", words), ("labels", filled)):
            for beat in to_beats(data):
                self.sources[name].send_nowait(PlainBeat(payload=beat))
        assert await self.receive(len(beats)) == beats
        await cycles(self.dut, 2)
        assert not self.get("busy")
        self.check_rest()
        assert self.high["label_error"].count == 0
        nonfinite = sum(not np.isfinite(np.uint32(w).view(np.float32)) for w in [*losses, mean])
        assert self.high["nonfinite"].count == nonfinite
        return self.high["busy"].count


async def start_loss(dut):
    rng, numbers = await start(dut)
    unit = Loss(dut)
    await cycles(dut, 2)
    return unit, rng, numbers


def batch(rng, images, classes):
    logits = (rng.normal(size=(images, classes)) * 3).astype(np.float32)
    return logits, rng.integers(0, classes, images)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def loss_random_stalls(dut):
    """The bits of the model with stalls on every choice of the three streams, without a reset."""
    unit, rng, numbers = await start_loss(dut)
    sizes = itertools.cycle([(5, 10), (1, 1), (2, T), (2, T + 1), (1, 33), (4, 2), (1, 64)])
    for logits, labels, o in itertools.product((False, True), repeat=3):
        unit.pause(rng, logits=logits, labels=labels, o=o)
        for gradient in (True, False):
            for size in itertools.islice(sizes, 2):
                record = int(numbers.integers(2**32))
                await unit.run(*batch(numbers, *size), gradient=gradient, record=record)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def loss_corners(dut):
    """Ties, infinities, NaNs, subnormals: the bits of the model, and ``nonfinite`` counts them."""
    unit, rng, _ = await start_loss(dut)
    inf, nan = np.inf, np.nan
    rows = [
        [1.0, 3.0, 3.0, -2.0], [-0.0, 0.0, -0.0, 0.0], [200.0, 0.0, -3e38, 3e38],
        [0.0, -86.0, -87.5, 120.0], [1.0, inf, 0.0, 2.0], [-inf, 2.0, 0.0, 1.0],
        [-inf, -inf, -inf, -inf], [1.0, 2.0, nan, 0.0], [1e-40, -1e-40, 0.0, 1e-39],
    ]  # fmt: skip
    for row in rows:
        await unit.run(np.array([row], np.float32), [rng.randrange(4)])
    await unit.run(np.array(rows, np.float32), [rng.randrange(4) for _ in rows])


async def cycles_an_image(unit, rng, classes, gradient):
    """What one more image adds to a batch; the same whatever its numbers are."""
    one, two = [
        await unit.run(*batch(rng, images, classes), gradient=gradient) for images in (1, 2)
    ]
    return two - one


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def loss_cycles(dut):
    """About 330 cycles an image and 20 a class, 16 without the gradient; 551 for 10 classes."""
    unit, _, rng = await start_loss(dut)
    # Six images need two beats of labels, but fetching one costs no cycle of its own.
    two, six = [await unit.run(*batch(rng, images, 10)) for images in (2, 6)]
    assert six - two == 4 * 551 == 4 * await cycles_an_image(unit, rng, 10, True)
    for gradient, a_class in ((True, 20), (False, 16)):
        counts = []
        for classes in (10, 32, 64):
            counts.append(await cycles_an_image(unit, rng, classes, gradient))
            unit.dut._log.info("%d classes, gradient %d: %d cycles", classes, gradient, counts[-1])
            assert abs(counts[-1] - 330 - a_class * classes) <= 0.05 * counts[-1]
        # Short chunks take a time of their own, which no step is faster than.
        assert await cycles_an_image(unit, rng, 2, gradient) < counts[0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def loss_label_error(dut):
    """A label that is no class stops the unit until a reset, after which it works again."""
    unit, rng, numbers = await start_loss(dut)
    for place, label in itertools.product((0, 2), (10, 16, 0x10000, 0xFFFFFFFF)):
        unit.clear()
        await unit.begin(images=4, classes=10, gradient=0, scale=int(bits(0.25)), record=1)
        labels = [3, 9, 0, 1]
        labels[place] = label
        unit.sources["labels"].send_nowait(PlainBeat(payload=pack(labels)))
        # Those of the images before.
        for _ in range(place * -(-10 // T) * N):
            words = rng.getrandbits(128) & ~sum(0x40 << 24 + 32 * lane for lane in range(4))
            unit.sources["logits"].send_nowait(PlainBeat(payload=words))
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
        await unit.run(*batch(numbers, 2, 10))
