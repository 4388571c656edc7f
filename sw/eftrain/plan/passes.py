"""Layer passes: one descriptor's worth of work each, before addresses are known.

Every builder returns a ``LayerPass`` without a tile; ``tiling.choose`` adds it.
"""

from dataclasses import dataclass, field

from eftrain_hdl.isa import Flag, Opcode

from .geometry import Geometry
from .layout import FeatureMap, Operand, WeightTensor


@dataclass(frozen=True)
class Tile:
    """Tile shape: out blocks x images x rows x columns of the iteration grid."""

    out_blocks: int
    images: int
    rows: int
    cols: int


@dataclass(frozen=True)
class LayerPass:
    """One descriptor before addresses: what runs on which tensors.

    ``layer`` names the network's layer for messages, ``macs`` counts the dense multiply-adds of the
    unpadded layer (0 for passes that no convolution needs), ``scalars`` holds remaining ISA fields.
    """

    opcode: Opcode
    layer: str
    geometry: Geometry | None = None
    out_blocks: int = 1
    in_blocks: int = 1
    flags: frozenset = frozenset()
    stream: Operand | None = None
    stationary: Operand | None = None
    output: Operand | None = None
    side: Operand | None = None
    bias: str | None = None
    bias_momentum: str | None = None
    scalars: dict = field(default_factory=dict)
    tile: Tile | None = None
    macs: int = 0

    @property
    def grid(self):
        """The iteration grid: big for the input gradient, small otherwise."""
        geometry = self.geometry
        return geometry.big if self.opcode is Opcode.CONV_BP else geometry.small


@dataclass(frozen=True)
class Matrix:
    """A convolution or fully connected layer on the device: grids, blocks and parameters.

    ``flat`` layers read their input map as one vector of ``FeatureMap.flat_blocks`` blocks.
    """

    layer: str
    weights: WeightTensor
    bias: str | None
    geometry: Geometry
    flat: bool
    macs: int

    def input_operand(self, feature_map):
        return feature_map.flat_operand() if self.flat else feature_map.operand()


def forward(matrix, x, y, relu=False, pool=False):
    """CONV_FP: ``y = x (*) weights + bias``, negative values dropped if ``relu``.

    With ``pool`` only the 2x2 maxima are written: ``y`` has half the rows and columns, and the
    convolution's output must have an even number of both.
    """
    flags = {Flag.BIAS} if matrix.bias else set()
    flags |= {Flag.RELU} if relu else set()
    flags |= {Flag.POOL} if pool else set()
    weights = matrix.weights
    return LayerPass(
        Opcode.CONV_FP,
        matrix.layer,
        matrix.geometry,
        weights.out_blocks,
        weights.in_blocks,
        frozenset(flags),
        stream=matrix.input_operand(x),
        stationary=Operand(weights.name, weights.out_stride, weights.in_stride),
        output=y.operand(),
        bias=matrix.bias,
        macs=matrix.macs,
    )


def input_gradient(matrix, dy, dx, mask=None):
    """CONV_BP: gradient of the layer's input; zero where the map ``mask`` is not positive."""
    weights = matrix.weights
    return LayerPass(
        Opcode.CONV_BP,
        matrix.layer,
        matrix.geometry,
        weights.in_blocks,
        weights.out_blocks,
        frozenset({Flag.SIDE_MASK} if mask else ()),
        stream=dy.operand(),
        # The result's blocks are those of n here, so the two weight strides trade places.
        stationary=Operand(weights.name, weights.in_stride, weights.out_stride),
        output=matrix.input_operand(dx),
        side=matrix.input_operand(mask) if mask else None,
        macs=matrix.macs,
    )


def weight_gradient(matrix, x, dy, output, bias, update=None):
    """CONV_WU: the raw gradient into ``output`` and ``bias``, or an update in place.

    Parameters
    ----------
    output, bias : str
        Tensors that receive the gradients, or with ``update`` the parameters; ``bias`` may be None.
    update : tuple, optional
        ``(SGD, name of the momentum tensor, name of the bias momentum)``; names are used only when
        the optimiser has momentum.
    """
    weights = matrix.weights
    flags, scalars, side, bias_momentum = set(), {}, None, None
    if bias:
        flags.add(Flag.BIAS)
    if update:
        sgd, momentum_tensor, bias_momentum_tensor = update
        flags.add(Flag.UPDATE)
        scalars = {"learning_rate": sgd.lr, "weight_decay": sgd.weight_decay}
        if sgd.momentum:
            flags.add(Flag.MOMENTUM)
            scalars["momentum"] = sgd.momentum
            side = Operand(momentum_tensor)
            bias_momentum = bias_momentum_tensor if bias else None
    return LayerPass(
        Opcode.CONV_WU,
        matrix.layer,
        matrix.geometry,
        weights.out_blocks,
        weights.in_blocks,
        frozenset(flags),
        stream=dy.operand(),
        stationary=matrix.input_operand(x),
        output=Operand(output, weights.in_stride, weights.out_stride),
        side=side,
        bias=bias,
        bias_momentum=bias_momentum,
        scalars=scalars,
        macs=matrix.macs,
    )


def _pass(layer, images, grid, source, result, flags, side=None):
    return LayerPass(
        Opcode.PASS,
        layer,
        Geometry.pointwise(images, grid),
        source.blocks,
        1,
        frozenset(flags),
        stream=source.operand(),
        output=result.operand(),
        side=side.operand() if side else None,
        scalars={"scale": 1.0},
    )


def rectify(layer, images, x, y):
    """PASS with RELU, for a ReLU that no convolution or pooling carries."""
    return _pass(layer, images, x.grid, x, y, {Flag.RELU})


def mask(layer, images, dy, dx, activation):
    """PASS with SIDE_MASK: ReLU backward on a gradient that no convolution produced."""
    return _pass(layer, images, dy.grid, dy, dx, {Flag.SIDE_MASK}, activation)


def pool(layer, images, x, y, relu=False):
    """PASS with POOL. An odd last row or column of ``x`` is left out by the grid."""
    grid = tuple(2 * size for size in y.grid)
    return _pass(layer, images, grid, x, y, {Flag.POOL, *({Flag.RELU} if relu else ())})


def unpool(layer, images, dy, dx, activation, masked=False):
    """PASS with UNPOOL into ``dx``; with ``masked`` also the backward of a ReLU before the pool.

    Does not write an odd last row or column of ``dx``: its owner keeps them zero.
    """
    flags = {Flag.UNPOOL, *({Flag.SIDE_MASK} if masked else ())}
    return _pass(layer, images, dy.grid, dy, dx, flags, activation)


def loss(images, classes, logits, labels, record, gradient=None):
    """LOSS: one result record at ``record``; the mean gradient of the logits if asked for."""
    return LayerPass(
        Opcode.LOSS,
        "loss",
        flags=frozenset({Flag.GRADIENT} if gradient else ()),
        stream=Operand(logits.name),
        output=Operand(gradient.name) if gradient else None,
        side=Operand(labels),
        bias=record,
        scalars={"images": images, "classes": classes, "scale": 1.0 / images},
    )


def linear_map(name, features, group):
    """The map of a vector: 1x1 pictures."""
    return FeatureMap(name, (features, 1, 1), group)
