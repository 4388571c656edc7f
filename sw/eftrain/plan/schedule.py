"""From a graph to ordered layer passes: forward, loss, backward with the update.

A *stage* is a group of layers that one forward descriptor computes: a convolution or fully connected
layer, or a pooling, each with the ReLU that follows it. ``Flatten`` is only a view.
"""

from dataclasses import dataclass
from math import prod

from eftrain_hdl.isa import Opcode

from ..errors import UserError
from ..graph import Conv2d, Flatten, Linear, MaxPool2d, ReLU, layer_name
from . import passes
from .geometry import Geometry
from .layout import FeatureMap, WeightTensor
from .tiling import choose

INPUT, LABELS, RECORDS, LOGITS = "input", "labels", "records", "logits"
"""Tensors that a program replaces section by section; every other name is one region."""

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
            self.weight, self.y.blocks, self.x.flat_blocks if flat else self.x.blocks,
            1 if flat else prod(layer.kernel_size), group,
        )

    def matrix(self, images):
        """The stage's convolution for a batch of ``images``."""
        layer, flat = self.layer, isinstance(self.layer, Linear)
        if flat:
            geometry = Geometry.pointwise(images, (1, 1))
        else:
            geometry = Geometry(
                images=images, big=self.x.grid, small=self.y.grid, kernel=layer.kernel_size,
                stride=layer.stride, pad=layer.padding,
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
    return stages


def _check_scores(stage, graph):
    # LOSS reads the scores as vectors of classes, which a flattened map larger than 1x1 is not.
    if stage.y.shape != (graph.classes, 1, 1):
        raise UserError(
            f"{stage.name} gives pictures {stage.y.shape} as class scores; add a Linear layer "
            "after the Flatten."
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

    def forward(self, images, output=None):
        """Passes from ``INPUT`` to the logits; ``output`` renames the tensor of the logits."""
        result = []
        for stage in self.stages:
            y = stage.y
            if output and stage is self.stages[-1]:
                y = FeatureMap(output, y.shape, y.group)
            if stage.trainable:
                layer_pass = passes.forward(stage.matrix(images), stage.x, y, stage.relu)
            elif isinstance(stage.layer, MaxPool2d):
                layer_pass = passes.pool(stage.name, images, stage.x, y, stage.relu)
            else:
                layer_pass = passes.rectify(stage.name, images, stage.x, y)
            result.append(choose(layer_pass, self.config))
        return result

    def evaluation_step(self, images):
        """Forward and LOSS without gradient."""
        return [*self.forward(images), self._loss(images, None)]

    def training_step(self, images):
        """Forward, LOSS, and for each layer from the last: input gradient, then update.

        The input gradient comes first because it needs the weights the forward pass used.
        """
        trainable = [i for i, stage in enumerate(self.stages) if stage.trainable]
        last = self.stages[-1]
        gradient = self._gradient(last.y)
        raw = FeatureMap(GRADIENT + "loss", last.y.shape, last.y.group) if last.relu else gradient
        result = [*self.forward(images), self._loss(images, raw)]
        if last.relu:
            result.append(self._choose(passes.mask("loss", images, raw, gradient, last.y)))
        for position in range(len(self.stages) - 1, trainable[0] - 1, -1):
            stage, dy = self.stages[position], gradient
            if position > trainable[0]:
                gradient = self._gradient(stage.x)
                masked = self.stages[position - 1].relu
                result.append(self._choose(
                    self._input_gradient(stage, images, dy, gradient, masked)
                ))
            if stage.trainable:
                update = (self.optimizer, MOMENTUM + stage.weight, MOMENTUM + f"{stage.index}.bias")
                result.append(self._choose(passes.weight_gradient(
                    stage.matrix(images), stage.x, dy, stage.weight, stage.bias, update
                )))
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
            maps = {stage.y.name: stage.y for stage in self.stages}
            for step in self.training_step(images):
                if step.opcode is not Opcode.CONV_WU and step.output:
                    name = step.output.tensor
                    if name.startswith(GRADIENT):
                        source = maps.get(name.removeprefix(GRADIENT), self.logits_map)
                        sizes[name] = images * source.image_bytes
        return sizes

    def zeroed(self):
        """Gradients that un-pooling covers only in part; they must start as zeros."""
        return [
            GRADIENT + stage.x.name for stage in self.stages
            if isinstance(stage.layer, MaxPool2d) and any(size % 2 for size in stage.x.grid)
        ]

    def _choose(self, layer_pass):
        return choose(layer_pass, self.config)

    def _gradient(self, feature_map):
        return FeatureMap(GRADIENT + feature_map.name, feature_map.shape, feature_map.group)

    def _loss(self, images, gradient):
        return passes.loss(
            images, self.graph.classes, self.logits_map, LABELS, RECORDS, gradient
        )

    def _input_gradient(self, stage, images, dy, dx, masked):
        if isinstance(stage.layer, MaxPool2d):
            return passes.unpool(stage.name, images, dy, dx, stage.x, masked)
        return passes.input_gradient(stage.matrix(images), dy, dx, stage.x if masked else None)
