"""From a graph to ordered layer passes: forward, loss, backward with the update.

A *stage* is a group of layers that one forward descriptor computes: a convolution or fully
connected layer, or a pooling, each with the ReLU that follows it. ``Flatten`` is only a view.
"""

from dataclasses import dataclass
from math import prod

from ..errors import UserError
from ..graph import Conv2d, Flatten, Linear, MaxPool2d, ReLU, layer_name
from . import passes
from .geometry import Geometry
from .layout import FeatureMap, WeightTensor
from .tiling import choose

INPUT, LABELS, RECORDS, LOGITS = "input", "labels", "records", "logits"
"""Tensors that a program replaces section by section; every other name is one region."""

MAX_BLOCKS = (1 << 16) - 1
"""Channel blocks a descriptor can say."""

MOMENTUM = "momentum."
GRADIENT = "gradient."


@dataclass(frozen=True)
class Stage:
    """One forward descriptor: input and output maps, and whether a ReLU follows.

    ``layer`` is the network's layer it is named after, ``index`` its number.
    """

    index: int
    layer: object
    x: FeatureMap
    y: FeatureMap
    relu: bool

    @property
    def name(self):
        return layer_name(self.index, self.layer)

    @property
    def trainable(self):
        return isinstance(self.layer, (Conv2d, Linear))

    @property
    def weight(self):
        return f"{self.index}.weight"

    @property
    def bias(self):
        return f"{self.index}.bias" if self.layer.bias else None

    def weight_tensor(self):
        layer, group = self.layer, self.x.group
        flat = isinstance(layer, Linear)
        return WeightTensor(
            self.weight,
            self.y.blocks,
            self.x.flat_blocks if flat else self.x.blocks,
            1 if flat else prod(layer.kernel_size),
            group,
        )

    def matrix(self, images):
        """The stage's convolution for a batch of ``images``."""
        layer, flat = self.layer, isinstance(self.layer, Linear)
        if flat:
            geometry = Geometry.pointwise(images, (1, 1))
        else:
            geometry = Geometry(
                images=images,
                big=self.x.grid,
                small=self.y.grid,
                kernel=layer.kernel_size,
                stride=layer.stride,
                pad=layer.padding,
            )
        macs = images * prod(geometry.small) * prod(layer.weight_shape)
        return passes.Matrix(self.name, self.weight_tensor(), self.bias, geometry, flat, macs)


def lower(graph, group):
    """Group the graph's layers into stages.

    Returns
    -------
    list of Stage
        In forward order. The first stage's input is the tensor ``INPUT``.
    """

    def as_map(name, shape):
        return FeatureMap(name, shape if len(shape) == 3 else (*shape, 1, 1), group)

    stages = []
    x = as_map(INPUT, graph.input_shape)
    for index, layer in enumerate(graph.layers):
        if isinstance(layer, Flatten):
            continue  # The consumer reads the same bytes; see FeatureMap.flat_operand.
        if isinstance(layer, ReLU) and stages:
            last = stages[-1]
            stages[-1] = Stage(last.index, last.layer, last.x, last.y, True)
            continue
        shape = x.shape if isinstance(layer, ReLU) else graph.shapes[index + 1]
        y = as_map(f"activation.{index}", shape)
        stages.append(Stage(index, layer, x, y, isinstance(layer, ReLU)))
        x = y
    _check_scores(stages[-1], graph)
    for stage in stages:
        _check_blocks(stage)
    return stages


def _pools_on_drain(stage, following):
    """Whether ``following`` is a pooling that the convolution ``stage`` can do as it drains."""
    even = not any(size % 2 for size in stage.y.grid)
    return stage.trainable and isinstance(following.layer, MaxPool2d) and even


def _check_scores(stage, graph):
    # LOSS reads the scores as vectors of classes, which a flattened map larger than 1x1 is not.
    if stage.y.shape != (graph.classes, 1, 1):
        raise UserError(
            f"{stage.name} gives pictures {stage.y.shape} as class scores; add a Linear layer "
            "after the Flatten."
        )


def _check_blocks(stage):
    blocks = stage.y.blocks
    if stage.trainable:
        blocks = max(blocks, stage.weight_tensor().in_blocks)
    if blocks > MAX_BLOCKS:
        raise UserError(
            f"{stage.name} has {blocks} channel blocks of {stage.x.group}; a descriptor holds "
            f"{MAX_BLOCKS}, so pool before it or use a larger array."
        )


class Schedule:
    """The passes of one network on one device.

    Parameters
    ----------
    graph : Graph
    config : CoreConfig
    optimizer : SGD, optional
        Needed by ``training_step``.
    """

    def __init__(self, graph, config, optimizer=None):
        self.graph = graph
        self.config = config
        self.optimizer = optimizer
        self.stages = lower(graph, config.group)
        # Below the first trainable stage nothing needs a gradient.
        self._first = next(i for i, stage in enumerate(self.stages) if stage.trainable)
        if graph.classes > config.max_classes:
            raise UserError(
                f"The network has {graph.classes} classes; the device's loss unit holds "
                f"{config.max_classes}."
            )

    @property
    def input_map(self):
        return self.stages[0].x

    @property
    def logits_map(self):
        return self.stages[-1].y

    def forward(self, images, keep=False, output=None):
        """Passes from ``INPUT`` to the logits.

        Parameters
        ----------
        images : int
        keep : bool
            Write every map, as the backward pass needs them. Otherwise a convolution pools its
            output on the way out where it can.
        output : str, optional
            Another name for the tensor of the logits.
        """
        result, stages = [], list(self.stages)
        while stages:
            stage = stages.pop(0)
            y, relu = stage.y, stage.relu
            pooled = not keep and stages and _pools_on_drain(stage, stages[0])
            if pooled:
                # The maximum and the ReLU commute, so the descriptor's order does not matter.
                after = stages.pop(0)
                y, relu = after.y, relu or after.relu
            if output and not stages:
                y = FeatureMap(output, y.shape, y.group)
            if stage.trainable:
                step = passes.forward(stage.matrix(images), stage.x, y, relu, pooled)
            elif isinstance(stage.layer, MaxPool2d):
                step = passes.pool(stage.name, images, stage.x, y, relu)
            else:
                step = passes.rectify(stage.name, images, stage.x, y)
            result.append(self._choose(step))
        return result

    def evaluation_step(self, images):
        """Forward and LOSS without gradient."""
        return [*self.forward(images), self._loss(images, None)]

    def training_step(self, images):
        """Forward, LOSS, and for each layer from the last: input gradient, then update.

        The input gradient comes first because it needs the weights the forward pass used.
        """
        first, last = self._first, self.stages[-1]
        gradient = self._gradient(last.y)
        raw = self._unmasked_gradient() or gradient
        result = [*self.forward(images, keep=True), self._loss(images, raw)]
        if last.relu:
            result.append(self._choose(passes.mask("loss", images, raw, gradient, last.y)))
        for position in range(len(self.stages) - 1, first - 1, -1):
            stage, dy = self.stages[position], gradient
            if position > first:
                gradient = self._gradient(stage.x)
                masked = self.stages[position - 1].relu
                result.append(
                    self._choose(self._input_gradient(stage, images, dy, gradient, masked))
                )
            if stage.trainable:
                update = (self.optimizer, MOMENTUM + stage.weight, MOMENTUM + f"{stage.index}.bias")
                result.append(
                    self._choose(
                        passes.weight_gradient(
                            stage.matrix(images), stage.x, dy, stage.weight, stage.bias, update
                        )
                    )
                )
        return result

    def tensors(self, images, training):
        """Regions the passes use for batches up to ``images``: ``{name: bytes}``.

        Without the tensors a section brings along (``INPUT``, ``LABELS``, ``RECORDS``, ``LOGITS``).
        """
        sizes = {}
        momentum = training and self.optimizer.momentum
        for stage in self.stages:
            sizes[stage.y.name] = images * stage.y.image_bytes
            if stage.trainable:
                bias_bytes = stage.y.blocks * stage.y.vector_bytes
                for prefix in ("", MOMENTUM) if momentum else ("",):
                    sizes[prefix + stage.weight] = stage.weight_tensor().nbytes
                    if stage.bias:
                        sizes[prefix + stage.bias] = bias_bytes
        if training:
            gradients = [self._gradient(stage.y) for stage in self.stages[self._first :]]
            raw = self._unmasked_gradient()
            for gradient in [*gradients, *([raw] if raw else [])]:
                sizes[gradient.name] = images * gradient.image_bytes
        return sizes

    def zeroed(self):
        """Gradients that un-pooling covers only in part; they must start as zeros."""
        return [
            self._gradient(stage.x).name
            for stage in self.stages[self._first :]
            if isinstance(stage.layer, MaxPool2d) and any(size % 2 for size in stage.x.grid)
        ]

    def _choose(self, layer_pass):
        return choose(layer_pass, self.config)

    def _gradient(self, feature_map):
        return FeatureMap(GRADIENT + feature_map.name, feature_map.shape, feature_map.group)

    def _unmasked_gradient(self):
        """What LOSS writes if a ReLU follows the scores; None if it is their gradient already."""
        y = self.logits_map
        return FeatureMap(GRADIENT + "loss", y.shape, y.group) if self.stages[-1].relu else None

    def _loss(self, images, gradient):
        return passes.loss(images, self.graph.classes, self.logits_map, LABELS, RECORDS, gradient)

    def _input_gradient(self, stage, images, dy, dx, masked):
        if isinstance(stage.layer, MaxPool2d):
            return passes.unpool(stage.name, images, dy, dx, stage.x, masked)
        return passes.input_gradient(stage.matrix(images), dy, dx, stage.x if masked else None)
