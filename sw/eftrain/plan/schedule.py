"""From a graph to ordered layer passes with tiles: forward, loss, backward with the update."""

from ..errors import UserError
from ..graph import MaxPool2d
from . import passes
from .backward import (
    BIAS_COEFFICIENTS,
    BIAS_SUMS,
    MOMENTUM,
    Backward,
    bias_blocks,
    full_gradient,
    raw_gradient,
    record_biases,
    unpooled_gradient,
)
from .forward import Forward, frozen_norms
from .layout import coefficient_bytes, parameter_bytes, statistics_bytes
from .lowering import INPUT, lower
from .search import choose
from .stages import BIASES
from .support import untrainable

__all__ = ["INPUT", "LABELS", "LOGITS", "MOMENTUM", "RECORDS", "Schedule"]

LABELS, RECORDS, LOGITS = "labels", "records", "logits"
"""Like ``INPUT``, tensors that a program replaces section by section; every other name is one
region."""


class Schedule:
    """The passes of one network on one device.

    Parameters
    ----------
    graph : Graph
    config : CoreConfig
    optimizer : SGD, optional
        Needed by ``training_step``.

    Attributes
    ----------
    stages : list of Stage
        In forward order, the network's input first.
    untrainable : list of (int or None, str)
        What keeps ``training_step`` from training exactly the marked parameters: layer number, and
        a sentence.
    """

    def __init__(self, graph, config, optimizer=None):
        self.graph = graph
        self.config = config
        self.optimizer = optimizer
        self.stages = lower(graph, config)
        self.untrainable = untrainable(graph, self.stages, config)
        if optimizer and config.batch_norm:
            record_biases(self.stages, optimizer)
        if graph.classes > config.max_classes:
            raise UserError(
                f"The network has {graph.classes} classes; the device's loss unit holds "
                f"{config.max_classes}."
            )

    @property
    def input_map(self):
        """The network's input as it lies in memory."""
        return self.stages[0].y

    @property
    def picture_shape(self):
        """(C, H, W) of the network's input; vectors are 1x1 pictures."""
        shape = self.graph.input_shape
        return shape if len(shape) == 3 else (*shape, 1, 1)

    @property
    def input_fold(self):
        """How the host packs the input, or None."""
        return next((stage.fold for stage in self.stages if stage.fold), None)

    @property
    def logits_map(self):
        return self.stages[-1].plain

    def setup(self):
        """Passes before the first batch of a section that does not train."""
        return frozen_norms(self.stages)

    def forward(self, images, output=None):
        """Passes from ``INPUT`` to the logits, without what only training needs.

        Parameters
        ----------
        images : int
        output : str, optional
            Another name for the tensor of the logits.
        """
        return self._tiled(Forward(self.stages, images, False, output).passes)

    def evaluation_step(self, images):
        """Forward and LOSS without gradient."""
        return [*self.forward(images), self._loss(images, None)]

    def training_step(self, images):
        """Forward, LOSS, for each layer from the last input gradient and update, then biases.

        Raises
        ------
        UserError
            If nothing is trained, or a parameter alone that the device updates with another.
        """
        for _, sentence in self.untrainable:
            raise UserError(sentence)
        return self._tiled(self.untiled_step(images))

    def untiled_step(self, images):
        """``training_step`` before tiles are chosen: what it uses, but not whether that fits."""
        return [
            *Forward(self.stages, images, True).passes,
            self._loss(images, raw_gradient(self.stages[-1])),
            *Backward(self.stages, images, self.optimizer).passes,
        ]

    def tensors(self, images, training):
        """Regions the passes use for batches up to ``images``: ``{name: bytes}``.

        Without the tensors a section brings along (``INPUT``, ``LABELS``, ``RECORDS``, ``LOGITS``).
        """
        sizes = {}
        for stage in self.stages[1:]:
            for feature_map in _maps(stage, training):
                sizes[feature_map.name] = images * feature_map.image_bytes
            sizes |= self._parameter_sizes(stage, training)
        blocks, group = bias_blocks(self.stages), self.config.group
        sizes[BIASES] = parameter_bytes(blocks, group)
        sizes[BIAS_SUMS] = statistics_bytes(blocks, group)
        sizes[BIAS_COEFFICIENTS] = coefficient_bytes(blocks, group)
        return sizes

    def _parameter_sizes(self, stage, training):
        sizes = {}
        momentum = training and self.optimizer.momentum
        if stage.trainable:
            for prefix in ("", MOMENTUM) if momentum else ("",):
                sizes[prefix + stage.weight] = stage.weight_tensor().nbytes
                if stage.bias:
                    sizes[prefix + stage.bias] = stage.y.blocks * stage.y.vector_bytes
        if stage.norm:
            norm, size = stage.norm, (stage.y.blocks, stage.y.group)
            sizes[norm.parameters] = parameter_bytes(*size)
            sizes[norm.coefficients] = coefficient_bytes(*size)
            sizes[norm.statistics] = statistics_bytes(*size)
            if training:
                sizes[norm.gradient_coefficients] = coefficient_bytes(*size)
        return sizes

    def activations(self):
        """Names of the maps that a forward pass writes whole before anything reads them."""
        return {
            feature_map.name
            for stage in self.stages[1:]
            for feature_map in _forward_maps(stage, training=True)
        }

    def zeroed(self):
        """Gradients that un-pooling covers only in part; they must start as zeros."""
        return [
            unpooled_gradient(stage).name
            for stage in self.stages
            if isinstance(stage.layer, MaxPool2d) and any(size % 2 for size in stage.x.grid)
        ]

    def _tiled(self, layer_passes):
        return [
            layer_pass if layer_pass.exclusive else choose(layer_pass, self.config)
            for layer_pass in layer_passes
        ]

    def _loss(self, images, gradient):
        return passes.loss(images, self.graph.classes, self.logits_map, LABELS, RECORDS, gradient)


def _forward_maps(stage, training):
    """Maps of a stage that the forward pass writes."""
    if training or not stage.pooled:
        yield stage.y
    if stage.pooled:
        yield stage.pooled
    if stage.virtual and stage.written(training):
        yield stage.plain


def _maps(stage, training):
    """Maps in memory that belong to a stage."""
    yield from _forward_maps(stage, training)
    if training and stage.needs_gradient:
        yield raw_gradient(stage)
        yield full_gradient(stage)
        if isinstance(stage.layer, MaxPool2d) and stage.source.needs_gradient:
            yield unpooled_gradient(stage)
