"""The backward pass: for each stage from the last, its input gradient and then its update.

Frozen parameters have no update, and below the lowest stage that trains any there are no passes.

The gradient of a result is the sum over its readers. Each reader adds its part as it drains; the
last of them also finishes the gradient: masks it where a ReLU cut, sums it up for the batch-norm,
and un-pools it. What no pass can finish on its drain, a PASS finishes.

The input gradient comes before the update because it needs the weights of the forward pass. The two
alternate, so that a pass rarely reads what the one before it writes.

A bias has the sum of its stage's gradient as its own. The pass that finishes that gradient sums it
up as it drains, and one NORM behind the last update takes the step of all such biases at once: the
device is empty before and after it. Where no drain can sum, the update of the weights computes the
bias's gradient too; if the weights are frozen, a PASS over the gradient sums it.
"""

from dataclasses import replace
from math import prod

from ..graph import AvgPool2d, MaxPool2d
from . import passes
from .layout import FeatureMap, Operand, statistics_bytes
from .passes import NOTHING, Finish, Gradient, Load
from .stages import BIASES

GRADIENT, MOMENTUM = "gradient.", "momentum."
BIAS_SUMS, BIAS_COEFFICIENTS = GRADIENT + "bias_sums", GRADIENT + "bias_coefficients"

SUM_PIXELS = 16
"""Pixels from which on a map's gradient is summed on the drain. NORM takes the vector unit about a
thousand cycles a channel block, WU a cycle a pixel and image."""


def raw_gradient(stage):
    """Map of the gradient of a stage's result, as readers see the result."""
    result = stage.result
    return FeatureMap(GRADIENT + result.name, result.shape, result.group)


def full_gradient(stage):
    """Map of the finished gradient: of ``y``, after un-pooling."""
    return FeatureMap(GRADIENT + stage.y.name, stage.y.shape, stage.y.group)


def unpooled_gradient(stage):
    """What the PASS of a max-pooling stage un-pools into.

    A map of its own, because an odd last row or column is not written and must stay zero.
    """
    x = stage.x
    return FeatureMap(f"unpooled.{stage.index}", x.shape, x.group)


def bias_blocks(stages):
    """Channel blocks of all biases in ``BIASES``."""
    return sum(stage.y.blocks for stage in stages if stage.record is not None)


def record_biases(stages, optimizer):
    """Move those biases to ``BIASES`` whose gradient is summed, not computed with the weights'."""
    summable = Backward(stages, 2, optimizer).summable  # The number of images does not matter.
    for stage in stages:
        summed = stage in summable and prod(stage.y.grid) >= SUM_PIXELS
        if stage.trains_bias and (summed or not stage.trains_weight):
            stage.record = bias_blocks(stages)


class Backward:
    """Emits the passes behind LOSS.

    Parameters
    ----------
    stages : list of Stage
    images : int
    optimizer : SGD

    Attributes
    ----------
    passes : list of LayerPass
    summable : set of Stage
        Stages whose gradient a pass finishes that could sum it.
    """

    def __init__(self, stages, images, optimizer):
        self.images, self.optimizer = images, optimizer
        self.passes = []
        self._missing = {stage: len(stage.readers) for stage in stages}
        self._parts = {stage: [] for stage in stages}
        self._finished = {}
        self.summable = set()
        self._add_map(stages[-1], raw_gradient(stages[-1]))
        for stage in reversed(stages):
            if stage.needs_gradient:
                self._propagate(stage)
        blocks = bias_blocks(stages)
        if blocks:
            self.passes.append(
                passes.update_biases(blocks, BIASES, BIAS_SUMS, BIAS_COEFFICIENTS, optimizer)
            )

    def _propagate(self, stage):
        dy = Gradient(self._finished[stage])
        if stage.record is not None and stage not in self.summable:
            self._sum_bias(stage, dy.map)
        if stage.norm and stage.differentiates:
            self.passes.append(passes.normalise_gradient(stage.norm, self.images, self.optimizer))
            dy = replace(dy, y=stage.y, coefficients=stage.norm.gradient_coefficients)
        if stage.addend and stage.addend.needs_gradient:
            self._add_map(stage.addend, dy.map)
        if stage.source.needs_gradient:
            self._propagate_to_source(stage, dy)
        if stage.trains_weight:
            self._update(stage, dy)

    def _sum_bias(self, stage, dy):
        """Sum a finished gradient, which the PASS leaves as it is."""
        finish = self._summing(stage, NOTHING)
        self.passes.append(passes.finish_gradient(stage.name, self.images, dy, dy, finish))

    def _propagate_to_source(self, stage, dy):
        source = stage.source
        if stage.trainable:
            matrix = stage.matrix(self.images)
            self._add_pass(
                source,
                lambda dx, finish: passes.input_gradient(matrix, dy, dx, finish),
                flat=stage.flat,
            )
        elif isinstance(stage.layer, AvgPool2d):
            kernel = stage.layer.window(stage.x.shape)
            self._add_pass(
                source,
                lambda dx, finish: passes.spread(
                    stage.name, self.images, dy.map, dx, kernel, finish
                ),
            )
        elif isinstance(stage.layer, MaxPool2d):
            self._unpool(stage, dy.map)
        else:
            self._add_map(source, dy.map)

    def _update(self, stage, dy):
        source, written = stage.source, stage.source.written(training=True)
        x = Load(source.plain)
        if source.virtual and not written:
            x = Load(source.result, source.norm.coefficients, source.relu)
        update = (self.optimizer, MOMENTUM + stage.weight, MOMENTUM + f"{stage.index}.bias")
        matrix, bias = stage.matrix(self.images), stage.bias if stage.trains_bias else None
        self.passes.append(passes.weight_gradient(matrix, x, dy, stage.weight, bias, update))

    def _unpool(self, stage, dy):
        source, dx = stage.source, unpooled_gradient(stage)
        finish = Finish(windows=source.plain)
        alone = len(source.readers) == 1 and not (source.norm or source.pooled)
        if alone and source.relu:
            # Where the maximum is positive, so is the pixel it came from.
            finish = replace(finish, mask=stage.result)
        if alone:
            finish = self._summing(source, finish)
        self.passes.append(passes.finish_gradient(stage.name, self.images, dy, dx, finish))
        if alone:
            self._finished[source] = dx
        else:
            self._add_map(source, dx)

    def _finish(self, stage):
        """What is left to do once all parts of the gradient of ``stage`` are added up."""
        finish = NOTHING
        if stage.relu:
            if stage.virtual and not stage.written(training=True):
                finish = replace(finish, norm_mask=True)
            else:
                finish = replace(finish, mask=stage.plain)
        if stage.norm and stage.differentiates:
            finish = replace(
                finish,
                y=stage.result,
                coefficients=stage.norm.coefficients,
                statistics=stage.norm.statistics,
            )
        return replace(finish, windows=stage.y) if stage.pooled else finish

    def _summing(self, stage, finish):
        """``finish``, with sums for the bias of ``stage`` if it has a record."""
        self.summable.add(stage)
        if stage.record is None:
            return finish
        offset = statistics_bytes(stage.record, stage.y.group)
        return replace(finish, sums=Operand(BIAS_SUMS, offset=offset))

    def _add_pass(self, stage, build, flat=False):
        """Add the part that the pass ``build(dx, finish)`` computes; ``flat``: as one vector."""
        self._missing[stage] -= 1
        part = self._sum(stage)
        if not self._missing[stage]:
            finish = self._finish(stage)
            # A flattened map has no record for each of its blocks, nor windows.
            if not (flat and (finish.y or finish.windows) or finish.windows and part):
                self._finished[stage] = full_gradient(stage)
                if not flat:
                    finish = self._summing(stage, finish)
                self.passes.append(build(full_gradient(stage), replace(finish, add=part)))
                return
        dx = raw_gradient(stage)
        self.passes.append(build(dx, Finish(add=part)))
        self._parts[stage] = [dx]
        self._complete(stage)

    def _add_map(self, stage, part):
        """Add a part that lies in memory."""
        self._missing[stage] -= 1
        self._parts[stage].append(part)
        self._complete(stage)

    def _sum(self, stage, most=1):
        """Add up parts by PASS until there are at most ``most``; the first one, or None."""
        parts = self._parts[stage]
        while len(parts) > most:
            # What lies in the sum's own map is the first part, and is read before it is written.
            first, second, *others = parts
            dx = raw_gradient(stage)
            self.passes.append(passes.copy(stage.name, self.images, Load(first), dx, add=second))
            parts[:] = [dx, *others]
        return parts[0] if parts else None

    def _complete(self, stage):
        """Finish the gradient of ``stage`` by a PASS if all its parts are in memory."""
        if self._missing[stage]:
            return
        finish, parts = self._finish(stage), self._parts[stage]
        self._sum(stage, most=1 if finish.windows else 2)
        part, add = parts[0], parts[1] if len(parts) == 2 else None
        finish = replace(finish, add=add)
        if finish == NOTHING:
            self._finished[stage] = part
            return
        dx, finish = full_gradient(stage), self._summing(stage, finish)
        self.passes.append(passes.finish_gradient(stage.name, self.images, part, dx, finish))
        self._finished[stage] = dx
