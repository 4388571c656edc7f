"""The epilogue against its model in every mode, and the model against PyTorch."""

import numpy as np
import pytest
import torch
from stall_bench import Case, from_beats, simulate, to_beats

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.epilogue import Epilogue
from eftrain_hdl.datapath.pooling import MaxPool, MaxUnpool
from eftrain_hdl.isa import Flag

SEED = 20240611
SIDES = (4, 8, 16)
CORNERS = np.array(
    [0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 1,
     0x80000001, 0x00800000, 0x80800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800001],
    np.uint32,
)  # fmt: skip
RATES = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}

R, B, A, M = Flag.RELU, Flag.BIAS, Flag.SIDE_ADD, Flag.SIDE_MASK
P, U, W, V = Flag.POOL, Flag.UNPOOL, Flag.UPDATE, Flag.MOMENTUM
POINTWISE = [(), (R,), (B,), (B, R), (A,), (A, R), (A, B), (A, B, R), (M,), (M, R)]
POOLED = [(P,), (P, R), (P, B), (P, B, R)]
UNPOOLED = [(U,), (U, M)]
WU = [(), (B,), (W,), (W, B), (W, V), (W, V, B)]


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def floats(words):
    return np.asarray(words, np.uint32).view(np.float32)


def random_words(rng, shape):
    """fp32 bits: mostly moderate numbers with repetitions, so that ties occur, and some corners."""
    words = bits(rng.integers(-8, 9, shape) * 0.375)
    words = np.where(rng.random(shape) < 0.5, bits(rng.normal(size=shape)), words)
    return np.where(rng.random(shape) < 0.05, rng.choice(CORNERS, shape), words)


class Job:
    """Random vectors for one descriptor, the streams they make, and what must come out."""

    def __init__(self, rng, group, flags, *, is_wu=False, vectors=12, stalls=0.0, block=None):
        flags = set(flags)
        is_update = W in flags
        block = block or (4 if P in flags else 3)
        diagonal = np.zeros(vectors, bool)
        if is_wu and B in flags:
            diagonal = np.r_[np.zeros(3, bool), np.ones(group, bool), np.zeros(2, bool)]
            vectors = len(diagonal)
        block_start = np.arange(vectors) % block == 0
        acc = random_words(rng, (vectors, group))
        results = vectors - diagonal.sum() + diagonal.any()
        if is_update:
            side_vectors = results * (2 if V in flags else 1)
        elif U in flags:
            side_vectors = 4 * vectors
        else:
            side_vectors = vectors if flags & {A, M} else 0
            if B in flags and not is_wu:
                side_vectors += block_start.sum()
        side = random_words(rng, (side_vectors, group))
        rates = {name: int(bits(value)) for name, value in RATES.items()}
        self.expected = Epilogue.model(
            acc, side, flags=flags, is_wu=is_wu, is_update=is_update, **rates,
            block_start=block_start, diagonal=diagonal,
        )  # fmt: skip
        beats = group // 4
        lane = np.cumsum(diagonal) - 1
        self.case = Case(
            {"flags": sum(1 << flag for flag in flags), "is_wu": is_wu, "is_update": is_update,
             **rates},
            {
                "acc": [
                    {"data": beat, "block_start": int(block_start[k // beats]),
                     "diagonal": int(diagonal[k // beats]), "lane": int(max(lane[k // beats], 0))}
                    for k, beat in enumerate(to_beats(acc))
                ],
                "side": to_beats(side),
            },
            self.expected.size // 4,
            stalls,
            done="idle",
        )  # fmt: skip
        self.group = group
        self.title = ("WU " if is_wu else "") + "+".join(flag.name for flag in sorted(flags))

    def check(self):
        output = from_beats(self.case.output, self.group)
        np.testing.assert_array_equal(output, self.expected, err_msg=self.title)
        beats = self.expected.reshape(-1, 4)
        nonfinite = ((beats >> 23 & 255) == 255).any(axis=1).sum()
        assert self.case.seen["nonfinite"] == nonfinite, self.title


def every_mode(rng, group, **settings):
    for flags in POINTWISE + POOLED + UNPOOLED:
        yield Job(rng, group, flags, **settings)
    for flags in WU:
        yield Job(rng, group, flags, is_wu=True, **settings)


@pytest.mark.parametrize("group", SIDES)
def test_every_mode_against_model(group):
    rng = np.random.default_rng(SEED + group)
    jobs = list(every_mode(rng, group, stalls=0.3, vectors=8))
    # Blocks of a single vector, as a fully connected layer with one image has them.
    jobs.append(Job(rng, group, (A, B), block=1, stalls=0.2))
    dut = Epilogue(CoreConfig(rows=group, lanes=group))
    simulate(dut, [job.case for job in jobs], seed=SEED, watch=("nonfinite",))
    for job in jobs:
        job.check()


@pytest.mark.parametrize("group", SIDES)
def test_a_beat_a_cycle(group):
    rng = np.random.default_rng(SEED)
    beats = group // 4
    vectors = 96 // beats
    dut = Epilogue(CoreConfig(rows=group, lanes=group))
    plain = [
        Job(rng, group, flags, vectors=vectors, block=vectors)
        for flags in ((), (R,), (M,), (A,), (A, B, R))
    ]
    jobs = {
        "plain": plain,
        "update": [Job(rng, group, (W,), is_wu=True, vectors=vectors)],
        "pool": [Job(rng, group, (P, B, R), vectors=vectors, block=vectors)],
        "unpool": [Job(rng, group, (U, M), vectors=vectors // 4)],
        "momentum": [Job(rng, group, (W, V), is_wu=True, vectors=vectors // 2)],
    }
    simulate(dut, [j.case for some in jobs.values() for j in some], seed=SEED, watch=["nonfinite"])
    for mode, some in jobs.items():
        for job in some:
            job.check()
            # A beat on the slower of both ends in every cycle, plus the way through.
            moved = max(job.case.beats, len(job.case.sources["acc"]))
            once = Epilogue.latency + 1
            if mode == "unpool":
                once += 4 * beats
            elif mode == "momentum":
                once += Epilogue.latency + 2 * beats
            elif job.case.controls["flags"] >> B & 1:
                once += beats
            assert job.case.cycles <= moved + once, (job.title, job.case.cycles, moved)


def test_pooling_follows_pytorch():
    rng = np.random.default_rng(SEED)
    windows = random_words(rng, (200, 4, 8))
    x = torch.from_numpy(floats(windows).copy())
    x.requires_grad_()
    # Window k as row k of a picture of 2 x 2 windows: (windows * T, 1, 2, 2).
    picture = x.permute(0, 2, 1).reshape(-1, 1, 2, 2)
    y = torch.nn.functional.max_pool2d(picture, 2)
    pooled = MaxPool.model(windows.reshape(-1, 8))
    np.testing.assert_array_equal(floats(pooled).ravel(), y.detach().numpy().ravel())

    upstream = rng.normal(size=(200, 8)).astype(np.float32)
    y.backward(torch.from_numpy(upstream.reshape(-1, 1, 1, 1)))
    routed = floats(MaxUnpool.model(bits(upstream), windows.reshape(-1, 8))).reshape(200, 4, 8)
    # Of several NaNs PyTorch takes the last and we the first: leave these windows out.
    clear = (np.isnan(floats(windows)).sum(axis=1) < 2)[:, None]
    reference = x.grad.numpy()
    np.testing.assert_array_equal(np.where(clear, routed, 0), np.where(clear, reference, 0))


def test_unpooling_with_mask_is_the_backward_of_relu_and_pooling():
    rng = np.random.default_rng(SEED)
    before = torch.from_numpy(rng.integers(-4, 3, (100, 4, 4)).astype(np.float32))
    before.requires_grad_()
    activation = torch.relu(before)
    y = activation.max(dim=1).values
    picture = activation.permute(0, 2, 1).reshape(-1, 1, 2, 2)
    upstream = torch.from_numpy(rng.normal(size=(100, 4)).astype(np.float32))
    pooled = torch.nn.functional.max_pool2d(picture, 2).reshape(100, 4)
    assert torch.equal(pooled, y)
    pooled.backward(upstream)
    side = bits(activation.detach().numpy()).reshape(-1, 4)
    ours = floats(MaxUnpool.model(bits(upstream.numpy()), side, masked=True)).reshape(100, 4, 4)
    np.testing.assert_array_equal(ours, before.grad.numpy())


@pytest.mark.parametrize("momentum", (0.0, 0.9))
def test_sgd_follows_pytorch(momentum):
    """Three steps against float64: each step rounds a handful of times, 2**-24 relative each."""
    rng = np.random.default_rng(SEED)
    shape = (64, 8)
    weights = rng.normal(size=shape).astype(np.float32)
    velocity = np.zeros(shape, np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(weights.astype(np.float64)))
    rates = {name: np.float32(value) for name, value in RATES.items()} | {
        "momentum": np.float32(momentum)
    }
    optimiser = torch.optim.SGD(
        [parameter], lr=float(rates["learning_rate"]), momentum=float(rates["momentum"]),
        weight_decay=float(rates["weight_decay"]),
    )  # fmt: skip
    flags = [W, V] if momentum else [W]
    for _ in range(3):
        gradient = rng.normal(size=shape).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient.astype(np.float64))
        optimiser.step()
        side = np.stack([weights, velocity], axis=1) if momentum else weights
        result = Epilogue.model(
            bits(gradient), bits(side).reshape(-1, 8), flags=flags, is_wu=True, is_update=True,
            **{name: int(bits(value)) for name, value in rates.items()},
        )  # fmt: skip
        if momentum:
            weights, velocity = floats(result).reshape(64, 2, 8).swapaxes(0, 1)
        else:
            weights = floats(result)
        reference = parameter.detach().numpy()
        np.testing.assert_allclose(weights, reference, rtol=0, atol=1e-6)


def test_bias_residual_relu_follow_pytorch():
    rng = np.random.default_rng(SEED)
    acc, residual = rng.normal(size=(2, 10, 8)).astype(np.float32)
    bias = rng.normal(size=(2, 8)).astype(np.float32)
    side = np.concatenate([bias[:1], residual[:5], bias[1:], residual[5:]])
    result = Epilogue.model(
        bits(acc), bits(side), flags=(A, B, R), block_start=[k % 5 == 0 for k in range(10)]
    )
    expected = torch.relu(
        torch.from_numpy(acc) + torch.from_numpy(bias.repeat(5, axis=0))
        + torch.from_numpy(residual)
    )  # fmt: skip
    np.testing.assert_array_equal(floats(result), expected.numpy())
