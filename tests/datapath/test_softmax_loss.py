"""LOSS of the vector unit against its model, and the model against PyTorch in float64."""

import random

import numpy as np
import pytest
import torch
from amaranth.sim import Simulator
from stall_bench import Case, simulate, to_beats

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.softmax_loss import SoftmaxLoss
from eftrain_hdl.datapath.softmax_program import (
    INVERSE,
    NEGATIVE_MAXIMUM,
    PROGRAM,
    REGISTERS,
    SUM,
    machine,
)
from eftrain_hdl.datapath.vector_control import TURNAROUND
from eftrain_hdl.datapath.vector_program import CHUNK, Segment
from eftrain_hdl.datapath.vector_unit import VectorUnit
from eftrain_hdl.isa import Flag

SEED = 20240612
INF, NAN = float("inf"), float("nan")


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def floats(words):
    return np.asarray(words, np.uint32).view(np.float32)


def config(group):
    return CoreConfig(rows=group, lanes=group, max_classes=64)


class Batch:
    """Logits and labels, the streams they make, and what must come out."""

    def __init__(self, group, logits, labels, *, gradient=True, stalls=0.0, record=1):
        logits = bits(logits)
        images, classes = logits.shape
        padded = -(-classes // group) * group
        scale = int(bits(1 / images))
        expected, mean, correct, losses = SoftmaxLoss.model(logits, labels, scale, group)
        self.expected = to_beats(expected) if gradient else []
        self.expected += to_beats([mean, correct, images, record])
        self.nonfinite = sum(not np.isfinite(floats(word)) for word in [*losses, mean])
        # What is in the padding must not matter, be it the largest number of all.
        words = np.full((images, padded), bits(INF))
        words[:, :classes] = logits
        filled = np.full(-(-images // 4) * 4, 0xFFFFFFFF, np.uint32)
        filled[:images] = labels
        self.case = Case(
            {"images": images, "classes": classes, "flags": gradient << Flag.GRADIENT,
             "scale": scale, "record": record},
            {"logits": to_beats(words), "side": to_beats(filled)},
            len(self.expected),
            stalls,
            pulse="start_loss",
            done="~busy",
        )  # fmt: skip

    def check(self):
        assert self.case.output == self.expected
        assert self.case.seen == {"nonfinite": self.nonfinite, "label_error": 0}


def run(group, batches):
    dut = VectorUnit(config(group))
    simulate(dut, [batch.case for batch in batches], seed=SEED, watch=("nonfinite", "label_error"))
    for batch in batches:
        batch.check()


@pytest.mark.parametrize("group", (4, 8, 16))
def test_batches_against_model(group):
    """One class, a vector of them, one more, more than a chunk; one to six images."""
    rng = np.random.default_rng(SEED + group)
    batches = []
    for index, (images, classes) in enumerate(
        [(6, 10), (1, 1), (2, group), (2, group + 1), (1, CHUNK + 1), (1, 2 * CHUNK), (1, 64)]
    ):
        batches.append(
            Batch(
                group,
                rng.normal(size=(images, classes)) * 3,
                rng.integers(0, classes, images),
                gradient=index % 3 != 2,
                stalls=0.5 * (index % 2),
                record=int(rng.integers(2**32)),
            )
        )
    run(group, batches)


CORNERS = {
    "ties": [1.0, 3.0, 3.0, -2.0],
    "zeros of both signs": [-0.0, 0.0, -0.0, 0.0],
    "far apart": [200.0, 0.0, -3e38, 3e38],
    "label far below": [0.0, -86.0, -87.5, 120.0],
    "infinity": [1.0, INF, 0.0, 2.0],
    "minus infinity": [-INF, 2.0, 0.0, 1.0],
    "only minus infinity": [-INF, -INF, -INF, -INF],
    "not a number": [1.0, 2.0, NAN, 0.0],
    "subnormal": [1e-40, -1e-40, 0.0, 1e-39],
}


def test_corners_against_model():
    run(4, [Batch(4, [row], [0]) for row in CORNERS.values()])


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("label", range(4))
def test_corners_follow_pytorch(name, label):
    row = np.array([CORNERS[name]], np.float32)
    gradient, mean, correct, _ = SoftmaxLoss.model(bits(row), [label], int(bits(1.0)), 4)
    x = torch.from_numpy(row.astype(np.float64)).requires_grad_()
    loss = torch.nn.functional.cross_entropy(x, torch.tensor([label]))
    loss.backward()
    with np.errstate(over="ignore"):
        reference = float(np.float32(loss.item()))
    if np.isfinite(reference):
        assert float(floats(mean)) == pytest.approx(reference, rel=3e-7, abs=1e-7)
    else:
        assert not np.isfinite(floats(mean))
    if not np.isnan(x.grad.numpy()).any():
        np.testing.assert_allclose(floats(gradient), x.grad.numpy(), rtol=0, atol=2e-7)
    assert correct == (torch.from_numpy(row).argmax().item() == label)


@pytest.mark.parametrize("classes, spread", [(2, 1), (10, 3), (10, 30), (100, 5), (1000, 2)])
def test_batch_follows_pytorch(classes, spread):
    """Worst seen: 9e-8 relative or 6e-7 absolute for a loss, 1.3e-7 for e/S."""
    rng = np.random.default_rng(SEED)
    images = 40 if classes < 1000 else 4
    logits = (rng.normal(size=(images, classes)) * spread).astype(np.float32)
    labels = rng.integers(0, classes, images)
    gradient, mean, correct, losses = SoftmaxLoss.model(
        bits(logits), labels, int(bits(1 / images)), 8
    )
    x = torch.from_numpy(logits.astype(np.float64)).requires_grad_()
    reference = torch.nn.functional.cross_entropy(x, torch.from_numpy(labels), reduction="none")
    reference.mean().backward()
    np.testing.assert_allclose(floats(losses), reference.detach().numpy(), rtol=3e-7, atol=2e-6)
    np.testing.assert_allclose(
        floats(gradient)[:, :classes] * images, x.grad.numpy() * images, rtol=0, atol=5e-7
    )
    assert not gradient[:, classes:].any()
    assert float(floats(mean)) == pytest.approx(reference.mean().item(), rel=1e-6)
    assert correct == (logits.argmax(axis=1) == labels).sum()


def test_exponential_is_accurate():
    rng = np.random.default_rng(SEED)
    x = -np.concatenate([rng.uniform(0, 87.3, 2048), rng.uniform(0, 1, 2048)]).astype(np.float32)
    unit = machine(len(x))
    unit.registers[NEGATIVE_MAXIMUM.address] = 0
    unit.classes[:] = bits(x)
    unit.run_chunks(Segment.EXPONENTIALS)
    np.testing.assert_allclose(
        floats(unit.classes), np.exp(x.astype(np.float64)), rtol=2e-7, atol=0
    )
    # Below 2**-126 there is nothing, however far below.
    unit.classes[:CHUNK] = bits(-np.geomspace(87.4, 3e38, CHUNK))
    unit.run(Segment.EXPONENTIALS)
    assert not unit.classes[:CHUNK].any()


def test_logarithm_and_reciprocal_are_accurate():
    rng = np.random.default_rng(SEED)
    sums = np.concatenate(
        [rng.uniform(1, 2, 50), 2 ** rng.uniform(0, 15, 50), 1 + 2 ** -rng.uniform(0, 23, 50)]
    ).astype(np.float32)
    for value in sums:
        unit = machine(1)
        unit.registers[SUM.address] = bits(value)
        unit.run(Segment.LOSS)
        exact = np.float64(value)
        assert floats(unit.reports[0]) == pytest.approx(np.log(exact), rel=3e-7, abs=0)
        inverse = floats(unit.registers[INVERSE.address])
        assert inverse == pytest.approx(1 / exact, rel=2e-7, abs=0)


def test_no_step_reads_what_is_not_written_yet():
    """The model runs whole steps at once: right only if no slot reads what comes too late."""
    length_of_chunk = {1, 5, CHUNK - 1, CHUNK}
    for steps in PROGRAM.values():
        for elements in length_of_chunk:
            ready, now = {}, 0
            for step in steps:
                length = elements if step.length is None else step.length
                for slot in range(length):
                    for operand in (step.a, step.b, step.c):
                        key = (operand.classes, operand.address + operand.vector * slot)
                        assert ready.get(key, 0) <= now + slot, (step, slot)
                    target = step.target
                    key = (target.classes, target.address + target.vector * slot)
                    ready[key] = now + slot + TURNAROUND
                if step.drain:
                    now += length + TURNAROUND - 1
                else:
                    now += max(length, TURNAROUND)


def test_vectors_are_aligned_to_their_slots():
    """Addresses are made by or-ing the slot in."""
    for steps in PROGRAM.values():
        for step in steps:
            for operand in (step.target, step.a, step.b, step.c):
                length = step.length or CHUNK
                assert operand.address < REGISTERS
                assert not operand.vector or operand.address & (length - 1) == 0


def test_ten_classes_take_less_than_600_cycles_an_image():
    rng = np.random.default_rng(SEED)
    some, more = (
        Batch(8, rng.normal(size=(images, 10)), rng.integers(0, 10, images)) for images in (1, 3)
    )
    run(8, [some, more])
    cycles = (more.case.cycles - some.case.cycles) / 2
    print(f"{cycles} cycles an image of 10 classes")
    assert cycles < 600


@pytest.mark.parametrize("label", (10, 16, 0x10000, 0xFFFFFFFF))
def test_label_out_of_range_stops_the_unit(label):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    dut = VectorUnit(config(8))

    async def bench(ctx):
        for name, value in {
            "images": 4,
            "classes": 10,
            "flags": 1 << Flag.GRADIENT,
            "start_loss": 1,
        }.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        ctx.set(dut.start_loss, 0)
        ctx.set(dut.side.payload, to_beats([3, label, 0, 0])[0])
        ctx.set(dut.side.valid, 1)
        ctx.set(dut.logits.payload, rng.getrandbits(128) & ~(0x40 << 24))
        ctx.set(dut.logits.valid, 1)
        ctx.set(dut.o.ready, 1)
        await ctx.tick().until(dut.label_error)
        for _ in range(50):
            assert ctx.get(dut.label_error) and ctx.get(dut.busy)
            assert not ctx.get(dut.o.valid) and not ctx.get(dut.logits.ready)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
