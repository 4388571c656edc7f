"""Programs written descriptor by descriptor, without planner: tensors, layer passes, NORM, run.

Every tensor is a numpy array of the usual shape on the outside (``[B, C, H, W]``, ``[M, N, Kr,
Kc]``) and lies in the device's memory as architecture.md says. The same program runs on every
``Device``.
"""

from dataclasses import dataclass

import numpy as np
from drain_interpreter import record_bytes, split_record
from interpreter_checks import BLOCK_BY_BLOCK, ON_BIG_GRID

from eftrain.driver import Driver
from eftrain.pack import tensors
from eftrain_hdl import isa
from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, Flag, Opcode

GUARD = 256
"""Bytes of NaN around every tensor."""


@dataclass(frozen=True)
class Tensor:
    """Where a map ``(B, C, H, W)`` or a weight ``(M, N, Kr, Kc)`` lies."""

    address: int
    shape: tuple
    group: int

    def blocks(self, axis=1):
        return -(-self.shape[axis] // self.group)

    @property
    def vector(self):
        return 4 * self.group

    def strides(self, port):
        """The descriptor's fields of one port for a map."""
        row = self.shape[3] * self.vector
        block = self.shape[2] * row
        return {
            f"{port}_image_stride": self.blocks() * block,
            f"{port}_block_stride": block,
            f"{port}_row_stride": row,
        }


@dataclass(frozen=True)
class Conv:
    """Geometry of a layer; pairs are (rows, columns). ``tile`` is (out blocks, images, rows, cols)
    on the iteration grid, or None: the whole layer."""

    kernel: tuple = (3, 3)
    stride: tuple = (1, 1)
    pad: tuple = (1, 1)
    tile: tuple | None = None

    def small(self, big):
        return tuple(
            (n + 2 * q - k) // s + 1
            for n, k, s, q in zip(big, self.kernel, self.stride, self.pad, strict=True)
        )


ONE = Conv((1, 1), (1, 1), (0, 0))
"""A kernel of one pixel."""


class Program:
    """A program under construction, and the memory it works on.

    Methods that make tensors write to the device at once, so a program may be run, extended and run
    again; ``run`` starts with what was added since the last one.
    """

    def __init__(self, device):
        self.device, self.driver = device, Driver(device)
        self.config = self.driver.config
        self.group = self.config.group
        self.top = device.memory_base
        self.code = []

    # -- tensors -----------------------------------------------------------------------------------

    def put(self, data):
        """Bytes between guards; their address."""
        address = self.top + GUARD
        size = -(-len(data) // GUARD) * GUARD
        guard = np.full(GUARD // 4, np.nan, "<f4").tobytes()
        self.device.write_memory(self.top, guard + bytes(data) + bytes(size - len(data)) + guard)
        self.top = address + size
        return address

    def space(self, nbytes):
        return self.put(np.full(nbytes // 4, np.nan, "<f4").tobytes())

    def map(self, values):
        data = tensors.pack_map(np.asarray(values, np.float32), self.group).tobytes()
        return Tensor(self.put(data), np.shape(values), self.group)

    def new_map(self, *shape, zero=False):
        tensor = Tensor(0, shape, self.group)
        size = shape[0] * tensor.blocks() * shape[2] * shape[3] * tensor.vector
        address = self.put(bytes(size)) if zero else self.space(size)
        return Tensor(address, shape, self.group)

    def weights(self, values):
        data = tensors.pack_weights(np.asarray(values, np.float32), self.group).tobytes()
        return Tensor(self.put(data), np.shape(values), self.group)

    def new_weights(self, *shape):
        return self.weights(np.full(shape, np.nan))

    def vector(self, values):
        """``[C]``, zero-filled to whole blocks; its address."""
        data = tensors.pack_bias(np.asarray(values, np.float32), self.group)
        return self.put(data.tobytes())

    def records(self, *rows, count):
        """One record of ``count`` vectors a block; ``rows`` are its first vectors, ``[C]`` each."""
        blocks = -(-len(rows[0]) // self.group)
        data = np.zeros((blocks, count, self.group), np.float32)
        for index, row in enumerate(rows):
            data[:, index] = tensors.pack_bias(np.asarray(row, np.float32), self.group)
        return self.put(data.tobytes())

    def parameters(self, *rows):
        """Batch-norm parameter records from their first vectors, at least gamma and beta; running
        statistics as in a new layer unless given."""
        fresh = (*rows[:2], np.zeros_like(rows[0]), np.ones_like(rows[0]))
        return self.records(*rows, *fresh[len(rows) :], count=PARAMETER_VECTORS)

    def coefficients(self, k0, k1, k2, mean):
        return self.records(k0, k1, k2, mean, count=COEFFICIENT_VECTORS)

    def new_coefficients(self, channels):
        return self.space(self._blocks(channels) * COEFFICIENT_VECTORS * 4 * self.group)

    def new_statistics(self, channels):
        return self.space(self._blocks(channels) * record_bytes(self.config))

    def _blocks(self, channels):
        return -(-channels // self.group)

    # -- reading back ------------------------------------------------------------------------------

    def read_map(self, tensor):
        b, c, h, w = tensor.shape
        size = b * tensor.blocks() * h * w * tensor.vector
        return tensors.unpack_map(self.driver.read(tensor.address, size), b, (c, h, w), self.group)

    def read_weights(self, tensor):
        m, n, rows, cols = tensor.shape
        size = tensor.blocks(0) * tensor.blocks(1) * rows * cols * self.group * tensor.vector
        data = self.driver.read(tensor.address, size)
        return tensors.unpack_weights(data, tensor.shape, self.group)

    def read_vector(self, address, channels):
        return tensors.unpack_bias(self.driver.read(address, 4 * channels), channels)

    def read_records(self, address, channels, count):
        """``[count, channels]``."""
        blocks = self._blocks(channels)
        words = self.device.read_array(address, (blocks, count, self.group))
        return words.transpose(1, 0, 2).reshape(count, -1)[:, :channels]

    def read_statistics(self, address, channels):
        """``(shift, sum 1, sum 2)``, ``[channels]`` each, partial sums added."""
        size = record_bytes(self.config) // 4
        words = self.device.read_array(address, (self._blocks(channels), size))
        parts = zip(*(split_record(self.config, record) for record in words), strict=True)
        return tuple(np.concatenate(part)[:channels] for part in parts)

    # -- descriptors -------------------------------------------------------------------------------

    def layer(self, opcode, flags=(), conv=ONE, *, stream, output=None, **others):
        """One FP, BP, PASS or PASS_BP descriptor.

        Parameters
        ----------
        stream, output, side, norm, companion, second, auxiliary : Tensor
            ``norm`` and ``companion`` must have the shapes of side and stream.
        stationary : Tensor
            Weights.
        bias, stream_coefficients, statistics : int
            Addresses. ``bias`` is a vector a block in FP, else a coefficient record.
        bias_vectors : int
            Distance of the bias vectors of two blocks, if it is another one.
        scale : float
        grid : tuple
            The iteration grid, where the output does not determine it.
        """
        flags, fields = set(flags), {}
        backward, by_block = opcode in ON_BIG_GRID, opcode in BLOCK_BY_BLOCK
        grid = [2 * n if Flag.POOL in flags else n for n in output.shape[2:]]
        grid = [n // 2 if Flag.UNPOOL in flags else n for n in grid]
        grid = others.pop("grid", grid)
        big, small = (grid, stream.shape[2:]) if backward else (stream.shape[2:], grid)
        out_blocks = output.blocks()
        tile = conv.tile or (out_blocks, stream.shape[0], *grid)
        tile = [min(t, n) for t, n in zip(tile, (out_blocks, stream.shape[0], *grid), strict=True)]
        fields |= self._geometry(conv, big, small, stream.shape[0], tile)
        fields |= {
            "out_blocks": out_blocks, "tile_out_blocks": 1 if by_block else tile[0],
            "in_blocks": 1 if by_block else stream.blocks(),
            "scale": others.pop("scale", 1.0 if by_block else 0.0),
        }  # fmt: skip
        if not by_block:
            weights = others.pop("stationary")
            block = weights.shape[2] * weights.shape[3] * self.group * weights.vector
            m_stride = weights.blocks(1) * block
            fields |= {
                "stationary_base": weights.address,
                "stationary_image_stride": block if backward else m_stride,
                "stationary_block_stride": m_stride if backward else block,
            }
        vectors = others.pop("bias_vectors", 1 if opcode is Opcode.CONV_FP else COEFFICIENT_VECTORS)
        fields["bias_block_stride"] = vectors * 4 * self.group
        for port, where in ({"stream": stream, "output": output} | others).items():
            fields[f"{port}_base"] = where.address if isinstance(where, Tensor) else where
            if isinstance(where, Tensor) and port not in ("companion", "norm"):
                if port != "second" or Flag.KEEP in flags:
                    fields |= where.strides(port)
            if port == "norm" and "side" not in others:
                fields |= where.strides("side")
        self.add(isa.encode(opcode, flags, **fields))

    def update(self, flags=(), conv=ONE, *, x, dy, output, velocity=None, bias=0, **others):
        """CONV_WU: ``output`` is the gradient, or with UPDATE the weights; ``bias`` and
        ``bias_velocity`` are addresses; further fields as in the descriptor."""
        small = dy.shape[2:]
        tile = conv.tile or (dy.blocks(), x.shape[0], *small)
        tile = [min(t, n) for t, n in zip(tile, (dy.blocks(), x.shape[0], *small), strict=True)]
        block = output.shape[2] * output.shape[3] * self.group * output.vector
        fields = self._geometry(conv, x.shape[2:], small, x.shape[0], tile) | {
            "out_blocks": dy.blocks(), "tile_out_blocks": tile[0], "in_blocks": x.blocks(),
            "stream_base": dy.address, **dy.strides("stream"),
            "stationary_base": x.address, **x.strides("stationary"),
            "output_base": output.address, "output_image_stride": block,
            "output_block_stride": output.blocks(1) * block, "bias_base": bias,
            "side_base": velocity.address if velocity else 0,
            "bias_momentum_base": others.pop("bias_velocity", 0),
        }  # fmt: skip
        for name in ("stream_coefficients", "stationary_coefficients", "companion"):
            where = others.pop(name, 0)
            fields[f"{name}_base"] = where.address if isinstance(where, Tensor) else where
        self.add(isa.encode(Opcode.CONV_WU, flags, **fields, **others))

    def norm(self, flags=(), *, channels, statistics=0, parameters, coefficients, pixels=1, **more):
        """NORM over ``pixels`` values a channel; ``pair`` is an address."""
        more.setdefault("unbias", pixels / max(pixels - 1, 1))
        more["pair_base"] = more.pop("pair", 0)
        self.add(
            isa.encode(
                Opcode.NORM, flags, out_blocks=self._blocks(channels), statistics_base=statistics,
                parameters_base=parameters, coefficients_base=coefficients, scale=1 / pixels,
                **more,
            )
        )  # fmt: skip

    def add(self, descriptor):
        self.code.append(descriptor)

    @staticmethod
    def _geometry(conv, big, small, images, tile):
        fields = {"images": images, "tile_images": tile[1]}
        for name, (rows, cols) in {
            "kernel": conv.kernel, "stride": conv.stride, "pad": conv.pad, "big": big,
            "small": small, "tile": tile[2:],
        }.items():  # fmt: skip
            fields |= {f"{name}_rows": rows, f"{name}_cols": cols}
        return fields

    def run(self):
        """Run the descriptors added so far; returns the driver's ``Outcome``."""
        code = self.arranged([*self.code, isa.encode(Opcode.END)])
        self.code = []
        address = self.put(b"".join(code))
        window = (self.device.memory_base, self.top + GUARD)
        return self.driver.run(address, len(code), window)

    def arranged(self, code):
        """The program as it is run; here, as it was written."""
        return code
