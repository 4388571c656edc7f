"""NORM of the vector unit: the unit against its model, the model against float64 and PyTorch."""

import numpy as np
import pytest
import torch
from stall_bench import Case, simulate, to_beats

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.norm import SEGMENTS, Norm
from eftrain_hdl.datapath.norm_program import NormProgram
from eftrain_hdl.datapath.vector_control import TURNAROUND
from eftrain_hdl.datapath.vector_program import Operand
from eftrain_hdl.datapath.vector_unit import VectorUnit
from eftrain_hdl.isa import PARTIAL_BEATS, Flag

SEED = 20250310
GROUPS = (4, 8, 16, 32)
SET_WORDS = PARTIAL_BEATS * 4
GAMMA, BETA, RUNNING_MEAN, RUNNING_VARIANCE, V_GAMMA, V_BETA, MEAN, RSTD = range(8)
TRAINING = [
    {Flag.GRADIENT},
    {Flag.GRADIENT, Flag.UPDATE},
    {Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM},
]
MODES = [set(), {Flag.X_PAIR}, {Flag.FROZEN}, {Flag.FROZEN, Flag.X_PAIR}, *TRAINING]
INF, NAN = float("inf"), float("nan")
RSQRT_CORNERS = [2.0**-125, 1e-30, 1e-5, 1.0, np.nextafter(np.float32(1), np.float32(2)), 3.4e38]


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def floats(words):
    return np.asarray(words, np.uint32).view(np.float32)


def name_of(flags):
    return " ".join(sorted(flag.name for flag in flags)) or "forward"


def statistics_record(group, first, second, shift):
    """The record of values ``first`` and ``second`` of shape (pixels, T): their partial sums."""
    partials = SET_WORDS // group
    sums = [
        np.stack([values[k::partials].sum(axis=0) for k in range(partials)])
        for values in (first.astype(np.float64), second.astype(np.float64))
    ]
    return bits(np.concatenate([shift, *(np.ravel(s) for s in sums)]))


def forward_statistics(y):
    """The record of a convolution's result, of shape (pixels, T) in fp32."""
    distance = (y - y[0]).astype(np.float64)
    return statistics_record(y.shape[1], distance, distance**2, y[0])


def numbers(pixels, **values):
    """The descriptor's numbers, by field name."""
    values = {
        "scale": 1 / pixels,
        "unbias": pixels / max(pixels - 1, 1),
        "epsilon": 1e-5,
        "statistics_momentum": 0.1,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 1e-3,
    } | values
    return {name: int(bits(value)) for name, value in values.items()}


def random_parameters(rng, group):
    """Parameters of one block, as float32 of shape (8, T)."""
    values = rng.normal(size=(8, group)).astype(np.float32)
    values[RUNNING_VARIANCE] = rng.uniform(0.1, 3, group)
    values[RSTD] = rng.uniform(0.1, 3, group)
    return values


def assert_close(words, reference, scale=None, rtol=1e-5):
    """Relative to ``scale``, the size of the terms that are added, where they may cancel."""
    error = np.abs(floats(words) - reference)
    allowed = rtol * np.abs(reference if scale is None else scale) + 1e-37
    assert (error <= allowed).all(), (error / allowed).max()


# -- the model against PyTorch ---------------------------------------------------------------------


DATA = {
    # name: (mean, standard deviation)
    "usual": (0.3, 1.0),
    "far from zero": (1000.0, 1.0),
    "very far from zero": (-3e5, 0.5),
    "tiny": (0.0, 1e-6),
    "tiny beside the mean": (1.0, 1e-5),
    "constant": (5.0, 0.0),
    "huge": (0.0, 1e15),
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("pair", (False, True))
@pytest.mark.parametrize("name", DATA)
def test_forward_follows_pytorch(group, pair, name):
    rng = np.random.default_rng(SEED)
    mean, deviation = DATA[name]
    pixels = 200
    y = (rng.normal(size=(pixels, group)) * deviation + mean).astype(np.float32)
    parameters = random_parameters(rng, group)
    parameters[GAMMA, 0] = 0
    joined = rng.normal(size=(4, group)).astype(np.float32) if pair else None
    written, coefficients = Norm.model(
        group,
        {Flag.X_PAIR} if pair else set(),
        numbers(pixels),
        forward_statistics(y),
        bits(parameters),
        bits(joined) if pair else None,
    )

    running_mean, running_variance = (
        torch.from_numpy(parameters[k].astype(np.float64)) for k in (RUNNING_MEAN, RUNNING_VARIANCE)
    )
    x = torch.from_numpy(y.astype(np.float64))
    gamma, beta = (torch.from_numpy(parameters[k].astype(np.float64)) for k in (GAMMA, BETA))
    reference = torch.nn.functional.batch_norm(
        x, running_mean, running_variance, gamma, beta, training=True, momentum=0.1, eps=1e-5
    ).numpy()

    exact_mean = x.mean(dim=0).numpy()
    exact_rstd = 1 / np.sqrt(x.var(dim=0, correction=0).numpy() + np.float64(np.float32(1e-5)))
    assert_close(written[MEAN], exact_mean, np.abs(exact_mean) + deviation, rtol=2e-7)
    assert_close(written[RSTD], exact_rstd, rtol=1e-6)
    assert_close(
        written[RUNNING_MEAN],
        running_mean.numpy(),
        np.abs(parameters[RUNNING_MEAN]) + np.abs(exact_mean) + deviation,
    )
    assert_close(written[RUNNING_VARIANCE], running_variance.numpy())
    for kept in (GAMMA, BETA, V_GAMMA, V_BETA):
        assert (written[kept] == bits(parameters[kept])).all()

    k0, k1, k2, k3 = floats(coefficients).astype(np.float64)
    assert (coefficients[3] == written[MEAN]).all()
    if pair:
        assert (coefficients[1] == bits(joined[0])).all()
        reference = reference + joined[2]
    else:
        assert (k1 == 1).all()
    # Both terms are rounded to fp32, however far from zero they are.
    size = np.abs(k0 * k3) + np.abs(k2) + np.abs(reference) + np.abs(parameters[BETA])
    np.testing.assert_array_less(np.abs(k0 * y + k2 - reference), 1e-5 * size + 1e-9)
    if name in ("usual", "tiny", "huge"):
        np.testing.assert_allclose(k0 * y + k2, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", (False, True))
def test_frozen_follows_pytorch(pair):
    rng = np.random.default_rng(SEED)
    group = 8
    parameters = random_parameters(rng, group)
    joined = rng.normal(size=(4, group)).astype(np.float32) if pair else None
    flags = {Flag.FROZEN} | ({Flag.X_PAIR} if pair else set())
    _, coefficients = Norm.model(
        group, flags, numbers(1), None, bits(parameters), bits(joined) if pair else None
    )
    y = rng.normal(size=(20, group))
    wide = torch.from_numpy(parameters.astype(np.float64))
    reference = torch.nn.functional.batch_norm(
        torch.from_numpy(y), wide[RUNNING_MEAN], wide[RUNNING_VARIANCE], wide[GAMMA], wide[BETA],
        training=False, eps=1e-5,
    ).numpy()  # fmt: skip
    k0, k1, k2, k3 = floats(coefficients).astype(np.float64)
    np.testing.assert_allclose(
        k0 * y + k2, reference + (joined[2] if pair else 0), rtol=1e-5, atol=1e-6
    )
    assert (k1 == (joined[0] if pair else 1)).all()
    assert (k3 == parameters[RUNNING_MEAN]).all()


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("flags", TRAINING, ids=name_of)
@pytest.mark.parametrize("name", ("usual", "far from zero", "tiny"))
def test_backward_follows_pytorch(group, flags, name):
    """Three steps, so that the momentum of one counts in the next."""
    rng = np.random.default_rng(SEED)
    mean, deviation = DATA[name]
    pixels = 200
    words = bits(random_parameters(rng, group))
    words[GAMMA, 0] = 0
    words[V_GAMMA : V_BETA + 1] = 0
    gamma, beta = (torch.zeros(group, dtype=torch.float64, requires_grad=True) for _ in range(2))
    momentum = 0.9 * (Flag.MOMENTUM in flags)
    optimizer = torch.optim.SGD([gamma, beta], lr=0.05, momentum=momentum, weight_decay=1e-3)
    for step in range(3):
        # Both begin with the same numbers, so that what a step rounds is all that they differ in.
        for place, parameter in ((GAMMA, gamma), (BETA, beta)):
            parameter.data.copy_(torch.from_numpy(floats(words[place])))
            if step and momentum:
                velocity = torch.from_numpy(floats(words[place + V_GAMMA]))
                optimizer.state[parameter]["momentum_buffer"].copy_(velocity)
        y = (rng.normal(size=(pixels, group)) * deviation + mean).astype(np.float32)
        z = (rng.normal(size=(pixels, group)) + 0.1).astype(np.float32)
        words, _ = Norm.model(group, set(), numbers(pixels), forward_statistics(y), words)
        batch_mean = floats(words[MEAN])
        record = statistics_record(
            group, z, z.astype(np.float64) * (y - batch_mean), np.zeros(group)
        )
        before = words
        words, coefficients = Norm.model(group, flags, numbers(pixels), record, words)

        x = torch.from_numpy(y.astype(np.float64)).requires_grad_()
        out = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5)
        optimizer.zero_grad()
        out.backward(torch.from_numpy(z.astype(np.float64)))
        k0, k1, k2, k3 = floats(coefficients).astype(np.float64)
        assert (coefficients[3] == words[MEAN]).all()
        size = np.abs(k0) * (1 + np.abs(z)) + np.abs(k1) * (np.abs(y) + np.abs(batch_mean)) + 1e-9
        error = np.abs(k0 * z + (k1 * y + k2) - x.grad.numpy())
        # The mean is rounded to fp32, before anything is summed with it.
        off_centre = np.spacing(np.abs(batch_mean)) * floats(words[RSTD])
        np.testing.assert_array_less(error, 1e-5 * size + np.abs(k0) * off_centre)
        if Flag.UPDATE in flags:
            sums = [np.abs(p.grad.numpy()) for p in (gamma, beta)]
            scale = 1 + sums[0] + sums[1] * off_centre / 1e-5, 1 + sums[1]
            optimizer.step()
            assert_close(words[GAMMA], gamma.detach().numpy(), scale[0])
            assert_close(words[BETA], beta.detach().numpy(), scale[1])
        else:
            assert (words == before).all()
        if Flag.MOMENTUM in flags:
            velocities = [optimizer.state[p]["momentum_buffer"].numpy() for p in (gamma, beta)]
            assert_close(words[V_GAMMA], velocities[0], scale[0])
            assert_close(words[V_BETA], velocities[1], scale[1])
        else:
            assert not words[V_GAMMA : V_BETA + 1].any()
        assert (words[RUNNING_MEAN : RUNNING_VARIANCE + 1] == before[2:4]).all()
        assert (words[MEAN:] == before[MEAN:]).all()


def test_one_pixel():
    """Nothing to normalise: variance 0, whatever the host takes for N/(N-1)."""
    y = np.array([[3.0, -2.0, 0.0, 1e9]], np.float32)
    parameters = random_parameters(np.random.default_rng(SEED), 4)
    words, coefficients = Norm.model(4, set(), numbers(1), forward_statistics(y), bits(parameters))
    assert (floats(words[MEAN]) == y[0]).all()
    assert floats(words[RSTD]) == pytest.approx(np.full(4, 1e-5**-0.5), rel=1e-6)
    assert floats(words[RUNNING_VARIANCE]) == pytest.approx(
        0.9 * parameters[RUNNING_VARIANCE], rel=1e-6
    )
    assert np.isfinite(floats(coefficients)).all()


def test_variance_is_never_negative():
    """Sums whose rounding errors would make it so."""
    record = statistics_record(4, np.full((8, 4), 3.0), np.full((8, 4), 8.9999), np.zeros(4))
    words, _ = Norm.model(4, set(), numbers(8), record, bits(np.ones((8, 4))))
    assert floats(words[RSTD]) == pytest.approx(np.full(4, 1e-5**-0.5), rel=1e-6)


def test_rsqrt_is_accurate():
    """To 2 ulp at most."""
    rng = np.random.default_rng(SEED)
    values = np.concatenate(
        [RSQRT_CORNERS, 2 ** rng.uniform(-120, 120, 500), rng.uniform(1, 4, 2000)]
    )
    values = np.resize(values.astype(np.float32), (-(-len(values) // 32), 32))
    worst = 0.0
    for row in values:
        parameters = np.zeros((8, 32), np.float32)
        parameters[GAMMA], parameters[RUNNING_VARIANCE] = 1, row
        _, coefficients = Norm.model(32, {Flag.FROZEN}, {}, None, bits(parameters))
        exact = 1 / np.sqrt(row.astype(np.float64))
        ulp = np.spacing(exact.astype(np.float32)).astype(np.float64)
        worst = max(worst, (np.abs(floats(coefficients[0]) - exact) / ulp).max())
    print(f"{worst} ulp")
    assert worst <= 2


# -- the program -----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_no_step_reads_what_is_not_written_yet(group):
    """The model runs whole steps at once: right only if no slot reads what comes too late."""
    for steps in NormProgram(group).segments.values():
        ready, now = {}, 0
        for step in steps:
            for slot in range(step.length):
                for operand in (step.a, step.b, step.c):
                    key = operand.address + operand.vector * slot
                    assert ready.get(key, 0) <= now + slot, (step, slot)
                key = step.target.address + step.target.vector * slot
                ready[key] = now + slot + TURNAROUND
            now += max(step.length, TURNAROUND)


@pytest.mark.parametrize("group", GROUPS)
def test_vectors_are_aligned_and_apart(group):
    program = NormProgram(group)
    taken = {operand.address for operand in program.scalars.values()}
    taken |= set(range(program.constants.first, program.constants.end))
    assert program.shift not in taken and program.shift > max(taken)
    for steps in program.segments.values():
        for step in steps:
            for operand in (step.target, step.a, step.b, step.c):
                assert isinstance(operand, Operand)
                if operand.vector:
                    assert operand.address & (step.length - 1) == 0
                    assert operand.address > max(taken)
                    assert operand.address + step.length <= program.registers
                else:
                    assert operand.address in taken


# -- the unit against the model --------------------------------------------------------------------


class Job:
    """Records of some channel blocks, the streams they make, and what must come out."""

    def __init__(self, group, flags, rng, *, blocks=2, stalls=0.0, spoil=None):
        values = numbers(int(rng.integers(1, 100)))
        sources, expected = [], []
        for _ in range(blocks):
            record = bits(rng.normal(size=group + 2 * SET_WORDS) * 10)
            parameters = bits(random_parameters(rng, group))
            pair = bits(rng.normal(size=(4, group))) if Flag.X_PAIR in flags else None
            if spoil is not None:
                record[rng.integers(0, record.size, 8)] = bits(spoil)
                parameters[:, rng.integers(0, group)] = bits(spoil)
            frozen = Flag.FROZEN in flags
            pieces = ([] if frozen else [record]) + [parameters]
            pieces += [pair] if pair is not None else []
            sources += [np.ravel(piece) for piece in pieces]
            written, coefficients = Norm.model(
                group, flags, values, None if frozen else record, parameters, pair
            )
            expected += ([] if frozen else [np.ravel(written)]) + [np.ravel(coefficients)]
        words = np.concatenate(expected)
        self.expected = to_beats(words)
        self.nonfinite = int((~np.isfinite(floats(words))).sum())
        self.case = Case(
            {"flags": sum(1 << flag for flag in flags), "out_blocks": blocks, **values},
            {"side": to_beats(np.concatenate(sources))},
            len(self.expected),
            stalls,
            pulse="start_norm",
            done="~busy",
        )

    def check(self):
        assert self.case.output == self.expected
        assert self.case.seen == {"nonfinite": self.nonfinite}


def run(group, jobs):
    dut = VectorUnit(CoreConfig(rows=group, lanes=group, max_classes=64))
    simulate(dut, [job.case for job in jobs], seed=SEED, watch=("nonfinite",))
    for job in jobs:
        job.check()


@pytest.mark.parametrize("group", GROUPS)
def test_blocks_against_model(group):
    """Every mode, without and with stalls, one after another on the same unit."""
    rng = np.random.default_rng(SEED + group)
    run(
        group,
        [
            Job(group, flags, rng, blocks=1 + index % 2, stalls=0.4 * (index % 3 == 1))
            for index, flags in enumerate(MODES)
        ],
    )


@pytest.mark.parametrize("spoil", (INF, -INF, NAN, 0.0, 3e38, -3e38))
def test_corners_against_model(spoil):
    rng = np.random.default_rng(SEED)
    run(4, [Job(4, flags, rng, spoil=spoil) for flags in MODES])


@pytest.mark.parametrize("flags", MODES, ids=name_of)
def test_a_block_of_sixteen_takes_less_than_1000_cycles(flags):
    rng = np.random.default_rng(SEED)
    one, three = (Job(16, flags, rng, blocks=blocks) for blocks in (1, 3))
    run(16, [one, three])
    cycles = (three.case.cycles - one.case.cycles) / 2
    print(f"{cycles} cycles a block of 16 channels, {name_of(flags)}")
    assert cycles < 1000


def test_every_segment_runs_in_some_mode():
    for needed, not_with in SEGMENTS.values():
        assert any(flags.issuperset(needed) and flags.isdisjoint(not_with) for flags in MODES)
