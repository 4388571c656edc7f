"""All small shapes, in a few long programs: does a sum ever meet itself in the adder?

An accumulator takes several cycles for one addition. Small maps, short sweeps and two descriptors
in flight bring the next addition to the same sum as close as it can come. Operands are small
integers, so that fp32 is exact: every result must equal that of float64 arithmetic.
"""

import itertools
import random
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from comparison import integers
from pass_cases import tensor
from raw_program import Conv, Program, Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from eftrain_hdl.isa import Flag, Opcode

SEED = 20221105
SIZES = tuple(itertools.product(range(1, 6), repeat=2))


@dataclass(frozen=True)
class Shape:
    """One layer: images, blocks of n and m, rows and columns of the big grid."""

    images: int
    blocks: tuple
    size: tuple
    conv: Conv


def square_kernels():
    """``{name: shapes}``: everything with the same kernel, padding and stride on both axes."""
    programs = {}
    for kernel, stride in itertools.product((1, 2, 3), (1, 2)):
        for pad in range(kernel):
            conv = Conv((kernel,) * 2, (stride,) * 2, (pad,) * 2)
            programs[f"k{kernel}-s{stride}-p{pad}"] = [
                Shape(images, blocks, size, conv)
                for images in (1, 2)
                for blocks in itertools.product((1, 2), repeat=2)
                for size in SIZES
            ]
    return programs


def other_kernels():
    """``{name: shapes}``: the other kernels, with strides, paddings and tiles drawn at random."""
    rng, programs = random.Random(SEED), {}
    for kernel in itertools.permutations((1, 2, 3), 2):
        shapes = []
        for size in SIZES * 2:
            tile = (rng.randint(1, 2), rng.randint(1, 2), rng.randint(1, 3), rng.randint(1, 3))
            conv = Conv(
                kernel,
                (rng.randint(1, 2), rng.randint(1, 2)),
                tuple(rng.randrange(k) for k in kernel),
                rng.choice((None, tile)),
            )
            blocks = (rng.randint(1, 2), rng.randint(1, 2))
            shapes.append(Shape(rng.randint(1, 2), blocks, size, conv))
        programs[f"k{kernel[0]}x{kernel[1]}"] = shapes
    return programs


PROGRAMS = square_kernels() | other_kernels()


def check_program(device, name, program=Program):
    """FP, BP and WU of all shapes of one program."""
    p = program(device)
    maps, weights, checks = {}, {}, []

    def map_of(seed, images, blocks, size):
        """A map of two images, of which the first ``images`` are used."""
        key = (seed, blocks, size)
        if key not in maps:
            values = integers(2, blocks * p.group, *size, seed=seed)
            maps[key] = values, p.map(values)
        values, placed = maps[key]
        values = values[:images]
        return values, Tensor(placed.address, values.shape, p.group)

    for shape in PROGRAMS[name]:
        conv = shape.conv
        small = conv.small(shape.size)
        if min(small) < 1:
            continue
        n, m = shape.blocks
        x, xs = map_of(1, shape.images, n, shape.size)
        dy, dys = map_of(2, shape.images, m, small)
        if shape.blocks not in weights:
            values = integers(m * p.group, n * p.group, *conv.kernel, seed=3)
            weights[shape.blocks] = values, p.weights(values)
        w, ws = weights[shape.blocks]
        geometry = {"stride": conv.stride, "padding": conv.pad}

        y, dx, dw = p.new_map(*dy.shape), p.new_map(*x.shape), p.new_weights(*w.shape)
        db = p.vector(np.full(len(w), np.nan))
        p.layer(Opcode.CONV_FP, [], conv, stream=xs, stationary=ws, output=y)
        p.layer(Opcode.CONV_BP, [], conv, stream=dys, stationary=ws, output=dx)
        p.update([Flag.BIAS], conv, x=xs, dy=dys, output=dw, bias=db)
        tx, tw, tdy = tensor(x), tensor(w), tensor(dy)
        checks += [
            (shape, "FP", p.read_map, y, F.conv2d(tx, tw, **geometry)),
            (shape, "BP", p.read_map, dx, conv2d_input(x.shape, tw, tdy, **geometry)),
            (shape, "WU", p.read_weights, dw, conv2d_weight(tx, w.shape, tdy, **geometry)),
            (shape, "bias", partial(p.read_vector, channels=len(w)), db, tdy.sum((0, 2, 3))),
        ]
    p.run()
    for shape, what, read, place, expected in checks:
        found = torch.tensor(read(place), dtype=torch.float64)
        assert torch.equal(found, expected), f"{what} of {shape}"
