"""Layer passes: one descriptor's worth of work each, before addresses are known.

Every builder returns a ``LayerPass`` without a tile; ``search.choose`` adds it.
"""

from dataclasses import dataclass, field, replace
from math import prod

from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, Flag, Opcode

from .geometry import Geometry
from .layout import FeatureMap, Operand, WeightTensor

BACKWARD_GRID = (Opcode.CONV_BP, Opcode.PASS_BP)
"""Opcodes whose tiles are cut from the big grid."""

AHEAD = {
    "stream": Flag.AHEAD_STREAM,
    "stationary": Flag.AHEAD_STATIONARY,
    "side": Flag.AHEAD_SIDE,
}
"""Group of reads to the flag that lets them begin early."""


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

    ``layer`` names the network's layer; ``macs`` counts the dense multiply-adds of the unpadded
    layer for all pixels of its output, even those that no pooling reads and the pass leaves out (0
    for passes that no convolution needs). Ports with strides are operands named as in the ISA;
    ``bases`` maps the ISA's other address fields, without their ``_base``, to tensors, or to
    operands where they begin inside a tensor; ``scalars`` holds remaining fields.
    """

    opcode: Opcode
    layer: str
    geometry: Geometry | None = None
    out_blocks: int = 1
    in_blocks: int = 1
    flags: frozenset = frozenset()
    stream: Operand | None = None
    companion: Operand | None = None
    stationary: Operand | None = None
    output: Operand | None = None
    second: Operand | None = None
    side: Operand | None = None
    norm: Operand | None = None
    auxiliary: Operand | None = None
    bases: dict = field(default_factory=dict)
    scalars: dict = field(default_factory=dict)
    tile: Tile | None = None
    macs: int = 0

    @property
    def grid(self):
        """The iteration grid: big for input gradients, small otherwise."""
        geometry = self.geometry
        return geometry.big if self.opcode in BACKWARD_GRID else geometry.small

    @property
    def exclusive(self):
        """Whether the pass has the device to itself: all before it is done when it begins."""
        return self.opcode in (Opcode.LOSS, Opcode.NORM)

    def base(self, name):
        """The tensor of an entry of ``bases``, or None."""
        entry = self.bases.get(name)
        return getattr(entry, "tensor", entry)

    def tensors(self):
        """Names of all its tensors."""
        ports = (self.stream, self.companion, self.stationary, self.output, self.second)
        return _names([*ports, self.side, self.norm, self.auxiliary, *self.bases.values()])

    def reads(self):
        """Names of the tensors that each group of ``AHEAD`` reads."""
        groups = {
            "stream": [self.stream, self.companion, self.bases.get("stream_coefficients")],
            "stationary": [self.stationary, self.bases.get("stationary_coefficients")],
            "side": [self.side, self.norm, self.auxiliary],
        }
        if self.opcode is not Opcode.CONV_WU:
            groups["side"].append(self.bases.get("bias"))
        elif Flag.UPDATE in self.flags:
            groups["side"] += [self.output, *self.bases.values()]
        return {group: _names(entries) for group, entries in groups.items()}

    def writes(self):
        """Names of the tensors that the pass changes."""
        written = [self.output, self.second, self.bases.get("statistics")]
        if self.opcode is Opcode.CONV_WU:
            written += [self.side, self.bases.get("bias"), self.bases.get("bias_momentum")]
        return _names(written)


def _names(entries):
    """Tensor names of operands and names, None left out."""
    return {getattr(entry, "tensor", entry) for entry in entries} - {None}


@dataclass(frozen=True)
class Load:
    """How a pass reads a layer's input.

    Attributes
    ----------
    map : FeatureMap
    coefficients : str, optional
        Batch-norm on load with these records; with ``relu`` negative values then become zero.
    pair : FeatureMap, optional
        The other addend of a residual sum, formed on load.
    tee : FeatureMap, optional
        Where what was formed is written for later readers.
    """

    map: FeatureMap
    coefficients: str | None = None
    relu: bool = False
    pair: FeatureMap | None = None
    tee: FeatureMap | None = None

    def flags(self):
        present = {
            Flag.NORM_X: self.coefficients,
            Flag.X_RELU: self.relu,
            Flag.X_PAIR: self.pair,
            Flag.TEE: self.tee,
        }
        return {flag for flag, value in present.items() if value}


@dataclass(frozen=True)
class Gradient:
    """The gradient of a convolution's result, formed on load if ``coefficients`` are given.

    Then ``map`` is that of the normalised result and ``y`` the convolution's.
    """

    map: FeatureMap
    y: FeatureMap | None = None
    coefficients: str | None = None


@dataclass(frozen=True)
class Finish:
    """What the drain does with the gradient of a map, in this order.

    Attributes
    ----------
    add : FeatureMap, optional
        Another contribution.
    mask : FeatureMap, optional
        Activations; the gradient is zero where they are not positive.
    y, coefficients, statistics : FeatureMap, str, str, optional
        Sums for the batch-norm that gave the map from ``y``; ``norm_mask`` masks where the
        normalised value is not positive.
    sums : Operand, optional
        Where sums for a bias go; without ``y``.
    windows : FeatureMap, optional
        Un-pool into windows of this map.
    """

    add: FeatureMap | None = None
    mask: FeatureMap | None = None
    y: FeatureMap | None = None
    coefficients: str | None = None
    statistics: str | None = None
    norm_mask: bool = False
    sums: Operand | None = None
    windows: FeatureMap | None = None

    def ports(self, operand):
        """Fields of a LayerPass; ``operand(feature_map)`` gives the strides of the result."""
        bases, scalars = {}, {}
        if self.y:
            bases = {"bias": self.coefficients, "statistics": self.statistics}
            scalars = {"bias_block_stride": COEFFICIENT_VECTORS * self.y.vector_bytes}
        if self.sums:
            bases = {"statistics": self.sums}
        auxiliary = self.add or self.windows
        return {
            "side": operand(self.mask) if self.mask else None,
            "norm": operand(self.y) if self.y else None,
            "auxiliary": operand(auxiliary) if auxiliary else None,
            "bases": bases,
            "scalars": scalars,
        }

    def flags(self):
        present = {
            Flag.ADD: self.add,
            Flag.SIDE_MASK: self.mask,
            Flag.STATISTICS: self.y,
            Flag.NORM_MASK: self.norm_mask,
            Flag.SUMS: self.sums,
            Flag.UNPOOL: self.windows,
        }
        return {flag for flag, value in present.items() if value}


NOTHING = Finish()


@dataclass(frozen=True)
class Matrix:
    """A convolution or fully connected layer on the device: grids, blocks and parameters.

    ``flat`` layers read their input map as one vector of ``FeatureMap.flat_blocks`` blocks. The
    block stride of ``bias`` leads from the vector of one block to the next.
    """

    layer: str
    weights: WeightTensor
    bias: Operand | None
    geometry: Geometry
    flat: bool
    macs: int

    def input_operand(self, feature_map):
        return feature_map.flat_operand() if self.flat else feature_map.operand()

    @property
    def gathering(self):
        """Geometry and row step of a pass that gathers X: rows that no tap reads are left out."""
        geometry, step = self.geometry, self.geometry.stride[0]
        if step == 1 or geometry.kernel[0] != 1 or geometry.pad[0]:
            return geometry, 1
        return replace(
            geometry, big=(geometry.small[0], geometry.big[1]), stride=(1, geometry.stride[1])
        ), step

    def gathered(self, feature_map):
        """Strides for the rows of ``gathering``."""
        return self.input_operand(feature_map).every_row(self.gathering[1])

    @property
    def covers_input(self):
        """Whether a gathering pass reads every pixel of its input."""
        geometry = self.geometry
        return all(
            geometry.kernel[axis] >= geometry.stride[axis]
            and geometry.big_span(axis, 0, geometry.small[axis]) == (0, geometry.big[axis])
            for axis in (0, 1)
        )


def forward(matrix, x, y, *, relu=False, add=None, pooled=None, keep=True, norm=None):
    """CONV_FP: ``y = x (*) weights``.

    Parameters
    ----------
    x : Load
    y : FeatureMap
    relu : bool
    add : FeatureMap, optional
        Added before the ReLU.
    pooled : FeatureMap, optional
        Receives the 2x2 maxima; ``y`` has an even number of rows and columns and is written only
        with ``keep``.
    norm : tuple, optional
        ``(parameters, statistics)`` tensors of a batch-norm that follows: sums for it are written.
    """
    flags = x.flags() | ({Flag.RELU} if relu else set()) | ({Flag.ADD} if add else set())
    weights, bases, scalars = matrix.weights, {}, {}
    vector = y.vector_bytes
    if x.coefficients:
        bases["stream_coefficients"] = x.coefficients
    if norm:
        flags.add(Flag.STATISTICS)
        parameters, bases["statistics"] = norm
        if pooled:  # The sign of gamma decides between maximum and minimum.
            bases["bias"], scalars["bias_block_stride"] = parameters, PARAMETER_VECTORS * vector
    elif matrix.bias:
        flags.add(Flag.BIAS)
        bases["bias"], scalars["bias_block_stride"] = matrix.bias, matrix.bias.block_stride
    second = matrix.gathered(x.tee) if x.tee else None
    if pooled:
        flags.add(Flag.POOL)
        if keep:
            flags.add(Flag.KEEP)
            second = y.operand()
    return LayerPass(
        Opcode.CONV_FP,
        matrix.layer,
        matrix.gathering[0],
        weights.out_blocks,
        weights.in_blocks,
        frozenset(flags),
        stream=matrix.gathered(x.map),
        companion=matrix.gathered(x.pair) if x.pair else None,
        stationary=Operand(weights.name, weights.out_stride, weights.in_stride),
        output=(pooled or y).operand(),
        second=second,
        auxiliary=add.operand() if add else None,
        bases=bases,
        scalars=scalars,
        macs=matrix.macs,
    )


def input_gradient(matrix, dy, dx, finish=NOTHING):
    """CONV_BP: gradient of the layer's input, finished on the drain.

    Parameters
    ----------
    dy : Gradient
    dx : FeatureMap
    finish : Finish
    """
    weights = matrix.weights
    ports = finish.ports(matrix.input_operand)
    flags = finish.flags()
    if dy.coefficients:
        flags.add(Flag.NORM_DY)
        ports["bases"]["stream_coefficients"] = dy.coefficients
    return LayerPass(
        Opcode.CONV_BP,
        matrix.layer,
        matrix.geometry,
        weights.in_blocks,
        weights.out_blocks,
        frozenset(flags),
        stream=dy.map.operand(),
        companion=dy.y.operand() if dy.y else None,
        # The result's blocks are those of n here, so the two weight strides trade places.
        stationary=Operand(weights.name, weights.in_stride, weights.out_stride),
        output=matrix.input_operand(dx),
        macs=matrix.macs,
        **ports,
    )


def weight_gradient(matrix, x, dy, output, bias, update=None):
    """CONV_WU: the raw gradient into ``output`` and ``bias``, or an update in place.

    Parameters
    ----------
    x : Load
        Without ``pair`` and ``tee``.
    dy : Gradient
    output, bias : str
        Tensors that receive the gradients, or with ``update`` the parameters; ``bias`` may be None.
    update : tuple, optional
        ``(SGD, name of the momentum tensor, name of the bias momentum)``; names are used only when
        the optimiser has momentum.
    """
    weights = matrix.weights
    flags, bases, scalars, side = x.flags(), {}, {}, None
    if x.coefficients:
        bases["stationary_coefficients"] = x.coefficients
    if dy.coefficients:
        flags.add(Flag.NORM_DY)
        bases["stream_coefficients"] = dy.coefficients
    if bias:
        flags.add(Flag.BIAS)
        bases["bias"] = bias
    if update:
        sgd, momentum_tensor, bias_momentum_tensor = update
        update_flags, scalars = _sgd(sgd)
        flags |= update_flags
        if sgd.momentum:
            side = Operand(momentum_tensor)
            if bias:
                bases["bias_momentum"] = bias_momentum_tensor
    return LayerPass(
        Opcode.CONV_WU,
        matrix.layer,
        matrix.gathering[0],
        weights.out_blocks,
        weights.in_blocks,
        frozenset(flags),
        stream=dy.map.operand(),
        companion=dy.y.operand() if dy.y else None,
        stationary=matrix.gathered(x.map),
        output=Operand(output, weights.in_stride, weights.out_stride),
        side=side,
        bases=bases,
        scalars=scalars,
        macs=matrix.macs,
    )


def _sgd(sgd):
    """``(flags, scalars)`` of an update in place."""
    flags = {Flag.UPDATE}
    scalars = {"learning_rate": sgd.lr, "weight_decay": sgd.weight_decay}
    if sgd.momentum:
        flags.add(Flag.MOMENTUM)
        scalars["momentum"] = sgd.momentum
    return flags, scalars


def copy(layer, images, x, y, *, relu=False, add=None):
    """PASS: ``y = x + add`` without negative values if ``relu``; ``x`` is a Load."""
    return _pass(layer, Geometry.pointwise(images, y.grid), x, y, relu=relu, add=add)


def average(layer, images, x, y, kernel, relu=False):
    """PASS with a kernel: means over windows of ``kernel`` (rows, columns)."""
    return _pass(layer, _windows(images, x.map, y, kernel), x, y, 1 / prod(kernel), relu)


def pool(layer, images, x, y, relu=False):
    """PASS with POOL. An odd last row or column of ``x`` is left out by the grid."""
    geometry = Geometry.pointwise(images, tuple(2 * size for size in y.grid))
    return _pass(layer, geometry, x, y, relu=relu, pool=True)


def _pass(layer, geometry, x, y, scale=1.0, relu=False, add=None, pool=False):
    present = {Flag.RELU: relu, Flag.ADD: add, Flag.POOL: pool}
    return LayerPass(
        Opcode.PASS,
        layer,
        geometry,
        x.map.blocks,
        1,
        frozenset(x.flags() | {flag for flag, value in present.items() if value}),
        stream=x.map.operand(),
        companion=x.pair.operand() if x.pair else None,
        output=y.operand(),
        second=x.tee.operand() if x.tee else None,
        auxiliary=add.operand() if add else None,
        bases={"stream_coefficients": x.coefficients} if x.coefficients else {},
        scalars={"scale": scale},
    )


def finish_gradient(layer, images, dy, dx, finish):
    """PASS that finishes a gradient which no other pass could finish on its drain.

    ``dx`` may be ``dy`` itself unless ``finish`` un-pools: every vector is read before it is
    written. Un-pooling does not write an odd last row or column of ``dx``: its owner keeps them
    zero.
    """
    return _pass_back(Opcode.PASS, layer, Geometry.pointwise(images, dy.grid), dy, dx, 1.0, finish)


def spread(layer, images, dy, dx, kernel, finish=NOTHING):
    """PASS_BP: input gradient of ``average``."""
    geometry = _windows(images, dx if not finish.windows else _halved(dx), dy, kernel)
    return _pass_back(Opcode.PASS_BP, layer, geometry, dy, dx, 1 / prod(kernel), finish)


def _pass_back(opcode, layer, geometry, dy, dx, scale, finish):
    ports = finish.ports(FeatureMap.operand)
    ports["scalars"]["scale"] = scale
    return LayerPass(
        opcode,
        layer,
        geometry,
        dy.blocks,
        1,
        frozenset(finish.flags()),
        stream=dy.operand(),
        output=dx.operand(),
        **ports,
    )


def _halved(feature_map):
    channels, rows, cols = feature_map.shape
    return FeatureMap(feature_map.name, (channels, rows // 2, cols // 2), feature_map.group)


def _windows(images, big, small, kernel):
    # A single window has no next one, and its stride may be larger than the device takes.
    stride = tuple(
        1 if count == 1 else size for size, count in zip(kernel, small.grid, strict=True)
    )
    return Geometry(images=images, big=big.grid, small=small.grid, kernel=kernel, stride=stride)


def loss(images, classes, logits, labels, record, gradient=None):
    """LOSS: one result record at ``record``; the mean gradient of the logits if asked for."""
    return LayerPass(
        Opcode.LOSS,
        "loss",
        flags=frozenset({Flag.GRADIENT} if gradient else ()),
        stream=Operand(logits.name),
        output=Operand(gradient.name) if gradient else None,
        side=Operand(labels),
        bases={"bias": record},
        scalars={"images": images, "classes": classes, "scale": 1.0 / images},
    )


def normalise(norm, images, pair=None, frozen=False):
    """NORM, forward: coefficients with which readers of the map normalise it.

    Parameters
    ----------
    norm : stages.Norm
    images : int
    pair : str, optional
        Coefficient records of the other addend of a residual sum.
    frozen : bool
        Use the running statistics.
    """
    present = {Flag.X_PAIR: pair, Flag.FROZEN: frozen}
    scalars = {"epsilon": norm.layer.eps}
    if not frozen:
        pixels = norm.pixels(images)
        scalars |= {
            "scale": 1 / pixels,
            "unbias": pixels / (pixels - 1),
            "statistics_momentum": norm.layer.momentum,
        }
    bases = {"parameters": norm.parameters, "coefficients": norm.coefficients}
    bases |= {} if frozen else {"statistics": norm.statistics}
    bases |= {"pair": pair} if pair else {}
    flags = frozenset(flag for flag, value in present.items() if value)
    return LayerPass(
        Opcode.NORM, norm.owner, None, norm.blocks, flags=flags, bases=bases, scalars=scalars
    )


def normalise_gradient(norm, images, sgd):
    """NORM, backward: the coefficients of ``Gradient``; updates scale and offset if trained."""
    bases = {
        "statistics": norm.statistics,
        "parameters": norm.parameters,
        "coefficients": norm.gradient_coefficients,
    }
    sgd = sgd if norm.trained else None
    return _normalise_back(norm.owner, norm.blocks, bases, sgd, scale=1 / norm.pixels(images))


def update_biases(blocks, parameters, sums, scratch, sgd):
    """NORM, backward, that updates biases as the offsets of batch-norms whose scale is zero.

    Parameters
    ----------
    blocks : int
        Channel blocks of all biases together.
    parameters, sums : str
        Parameter and statistics records.
    scratch : str
        Receives coefficients, which are all zero.
    sgd : SGD
    """
    bases = {"statistics": sums, "parameters": parameters, "coefficients": scratch}
    return _normalise_back(parameters, blocks, bases, sgd)


def _normalise_back(layer, blocks, bases, sgd, **scalars):
    flags, update = _sgd(sgd) if sgd else (set(), {})
    return LayerPass(
        Opcode.NORM,
        layer,
        None,
        blocks,
        flags=frozenset(flags | {Flag.GRADIENT}),
        bases=bases,
        scalars=scalars | update,
    )


def linear_map(name, features, group):
    """The map of a vector: 1x1 pictures."""
    return FeatureMap(name, (features, 1, 1), group)
