"""The forward pass: one descriptor a stage, and a NORM behind each convolution with batch-norm."""

from dataclasses import replace

from ..graph import AvgPool2d, MaxPool2d
from . import passes
from .layout import FeatureMap
from .passes import Load


class Forward:
    """Emits the passes from the network's input to the class scores.

    A ``virtual`` result is formed by whoever loads it. If several read it, its first reader writes
    it on the way (TEE); only where that is impossible a PASS does.

    Parameters
    ----------
    stages : list of Stage
    images : int
    training : bool
        Write what the backward pass needs, and normalise with the statistics of the batch.
    output : str, optional
        Another name for the tensor of the scores.

    Attributes
    ----------
    passes : list of LayerPass
    scores : FeatureMap
    """

    def __init__(self, stages, images, training, output=None):
        self.images, self.training = images, training
        self.passes = []
        self._last, self._output = stages[-1], output
        self._written = set()
        for stage in stages[1:]:
            self._compute(stage)
        self.scores = self._plain(stages[-1])

    def _named(self, stage, feature_map):
        if stage is self._last and self._output:
            return FeatureMap(self._output, feature_map.shape, feature_map.group)
        return feature_map

    def _compute(self, stage):
        if stage.trainable:
            self._convolve(stage)
            return
        y = self._named(stage, stage.y)
        add = self._plain(stage.addend) if stage.addend else None
        x = self._load(stage.source, _reads_all(stage))
        if isinstance(stage.layer, MaxPool2d):
            step = passes.pool(stage.name, self.images, x, y, stage.relu)
        elif isinstance(stage.layer, AvgPool2d):
            kernel = stage.layer.window(stage.x.shape)
            step = passes.average(stage.name, self.images, x, y, kernel, stage.relu)
        else:
            step = passes.copy(stage.name, self.images, x, y, relu=stage.relu, add=add)
        self.passes.append(step)

    def _convolve(self, stage):
        norm, addend, matrix = stage.norm, stage.addend, stage.matrix(self.images)
        # Un-pooling looks for the maxima in what was pooled.
        keeps = bool(stage.pooled) and self.training and stage.needs_gradient
        # Before the load, which may write the same values: a pass cannot read what it writes.
        add = self._plain(addend) if addend and not norm else None
        x = self._load(stage.source, matrix.covers_input and not stage.flat and not keeps)
        y, pooled = stage.y, stage.pooled
        if pooled:
            pooled = pooled if norm else self._named(stage, pooled)
        elif not norm:
            y = self._named(stage, y)
        # Pooling takes the sign of gamma only with statistics, so evaluation writes them too.
        sums = norm and (self.training or pooled)
        self.passes.append(
            passes.forward(
                matrix,
                x,
                y,
                relu=stage.relu and not norm,
                add=add,
                pooled=pooled,
                keep=keeps,
                norm=(norm.parameters, norm.statistics) if sums else None,
            )
        )
        if norm and self.training:
            self.passes.append(passes.normalise(norm, self.images, _pair(stage)))

    def _load(self, stage, whole):
        """How a pass reads the result of ``stage``; ``whole``: it reads, and can write, all."""
        if not stage.virtual or stage in self._written:
            return Load(self._plain(stage))
        load = self._formed(stage)
        if not stage.written(self.training):
            return load
        if not whole:
            return Load(self._plain(stage))
        self._written.add(stage)
        return replace(load, tee=stage.plain)

    def _plain(self, stage):
        """The map of the final values of ``stage``, written now if it was not before."""
        plain = self._named(stage, stage.plain)
        if stage.virtual and stage not in self._written:
            self._written.add(stage)
            load = self._formed(stage)
            self.passes.append(passes.copy(stage.name, self.images, load, plain))
        return plain

    def _formed(self, stage):
        addend, pair = stage.addend, None
        if addend:
            pair = addend.result if addend.joined else self._plain(addend)
        return Load(stage.result, stage.norm.coefficients, stage.relu, pair)


def frozen_norms(stages):
    """NORM passes that take the running statistics; once is enough while nothing is trained."""
    return [
        passes.normalise(stage.norm, 1, _pair(stage), frozen=True) for stage in stages if stage.norm
    ]


def _pair(stage):
    """Records of the other addend, where the reader of the sum normalises both."""
    joined = stage.addend and stage.addend.joined
    return stage.addend.norm.coefficients if joined else None


def _reads_all(stage):
    """Whether the pass of a stage without weights reads every pixel."""
    if isinstance(stage.layer, MaxPool2d):
        return not any(size % 2 for size in stage.x.grid)
    if isinstance(stage.layer, AvgPool2d):
        window = stage.layer.window(stage.x.shape)
        return not any(size % kernel for size, kernel in zip(stage.x.grid, window, strict=True))
    return True
