"""From a graph to stages: which layers one forward descriptor computes together.

A convolution or fully connected layer takes along the batch-norm, the addition, the ReLU and the
2x2 max-pooling behind it, as far as nothing else reads what lies between. Poolings, and additions
or ReLUs that no convolution takes along, are stages of their own. ``Flatten`` is only a view.

With a batch-norm the convolution writes its raw result ``y`` and its sums, and readers normalise as
they load (``Stage.virtual``); max-pooling commutes with that and pools the raw result. A bias in
front of a batch-norm cannot reach the output in training, because the mean is taken off, and its
gradient is zero. The device does without it: the host moves the running mean by it on the way in
and out. (PyTorch's weight decay would shrink such a bias; here it stays as it is.)
"""

from contextlib import contextmanager
from math import prod

from eftrain_hdl.isa import MAX_KERNEL

from ..errors import UserError
from ..graph import (
    PICTURE,
    Add,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
)
from . import passes
from .fold import FOLDS, Fold
from .layout import FeatureMap
from .model import predict
from .search import choose
from .stages import Norm, Stage
from .support import check_layers, layer_problems

INPUT = "input"
"""Tensor of the network's input, which a program moves from batch to batch."""

MAX_BLOCKS = (1 << 16) - 1
"""Channel blocks a descriptor can say."""

FOLD_IMAGES = 16
"""Batch for which the packing of the input is chosen: the same for all batches of a job."""


def lower(graph, config):
    """Group the graph's layers into stages.

    Parameters
    ----------
    graph : Graph
    config : CoreConfig

    Returns
    -------
    list of Stage
        In the order of the forward pass: the network's input first, the class scores last.

    Raises
    ------
    UserError
        If the device cannot compute a layer, or not where it stands.
    """
    check_layers(graph)
    stages = _connected(_Lowering(graph, config).output)
    _fold_input(stages, config)
    _check_scores(stages[-1], graph)
    for stage in stages[1:]:
        _check_blocks(stage)
    return stages


def examine(graph, config):
    """All that ``lower`` would refuse, layer by layer.

    A layer that the device does not compute is taken as one that gives its result, so that it does
    not hide what is wrong with the next.

    Returns
    -------
    stages : list of Stage
        As of ``lower``, as far as that goes.
    found : list of (int, str)
        Layer number and sentence, in layer order.
    """
    found = layer_problems(graph)
    stages = _connected(_Lowering(graph, config, found).output)
    _fold_input(stages, config)
    for stage in stages[1:]:
        with _noted(found, stage.index):
            _check_blocks(stage)
    with _noted(found, len(graph.nodes) - 1):
        _check_scores(stages[-1], graph)
    return stages, sorted(found, key=lambda problem: problem[0])


@contextmanager
def _noted(found, index):
    """Append a ``UserError`` to ``found`` instead of raising it."""
    try:
        yield
    except UserError as error:
        found.append((index, str(error)))


def _connected(output):
    """Stages up to ``output`` in order, with their readers, and whose gradient is needed."""
    stages = _order(output)
    for stage in stages:
        below = any(source.needs_gradient for source in stage.sources)
        stage.needs_gradient = stage.trains or below
        if stage.source:
            stage.source.readers.append((stage, "source"))
    for stage in stages:
        if stage.addend:
            stage.addend.readers.append((stage, "addend"))
    stages[-1].readers.append((None, "loss"))
    return stages


def _order(output):
    """Stages up to ``output``, each after those it reads."""
    order, waiting = [], [output]
    while waiting:
        stage = waiting[-1]
        missing = [source for source in stage.sources if source not in order]
        if missing:
            waiting.append(missing[0])
            continue
        waiting.pop()
        if stage not in order:
            order.append(stage)
    return order


class _Lowering:
    """Walks the layers once; ``output`` is the stage of the last.

    With ``found`` it goes on behind a layer that the device does not compute, and notes why.
    """

    def __init__(self, graph, config, found=None):
        self.graph, self.config, self.group = graph, config, config.group
        uses = [0] * len(graph.nodes)
        for node in graph.nodes:
            for source in node.inputs:
                if source != PICTURE:
                    uses[source] += 1
        self.uses = uses
        # By layer number: its stage, and whether the layer that reads it is the only one.
        self.stages = {PICTURE: self._picture()}
        self.single = {PICTURE: False}
        for index, node in enumerate(graph.nodes):
            if found is None:
                self.stages[index] = self._stage(index, node)
            else:
                self.stages[index] = self._new(index, node.layer, self.stages[node.inputs[0]])
                with _noted(found, index):
                    self.stages[index] = self._stage(index, node)
            self.single[index] = uses[index] == 1 and (
                not isinstance(node.layer, Flatten) or self.single[node.inputs[0]]
            )
        self.output = self.stages[len(graph.nodes) - 1]

    def _picture(self):
        return Stage(PICTURE, None, INPUT, None, self._map(INPUT, self.graph.shapes[0]))

    def _map(self, name, shape):
        return FeatureMap(name, shape if len(shape) == 3 else (*shape, 1, 1), self.group)

    def _new(self, index, layer, source, addend=None):
        y = self._map(f"activation.{index}", self.graph.shapes[index + 1])
        name, trained = self.graph.layer_name(index), self.graph.trained(index)
        return Stage(index, layer, name, source, y, addend=addend, trained=trained)

    def _stage(self, index, node):
        layer, source = node.layer, self.stages[node.inputs[0]]
        alone = self.single[node.inputs[0]]
        if isinstance(layer, Flatten):
            return source  # The consumer reads the same bytes; see FeatureMap.flat_operand.
        if isinstance(layer, (Conv2d, Linear)):
            return self._matrix(index, layer, source)
        if isinstance(layer, BatchNorm2d):
            return self._norm(index, layer, source, alone)
        if isinstance(layer, Add):
            return self._add(index, layer, node.inputs)
        if isinstance(layer, ReLU) and alone:
            source.relu = True
            return source
        if isinstance(layer, MaxPool2d) and alone and _can_pool(source):
            even = tuple(size - size % 2 for size in source.y.grid)
            # Pixels that no window holds are not computed at all.
            source.y = FeatureMap(source.y.name, (source.y.shape[0], *even), self.group)
            source.pooled = self._map(f"pooled.{index}", self.graph.shapes[index + 1])
            return source
        stage = self._new(index, layer, source)
        stage.relu = isinstance(layer, ReLU)
        return stage

    def _matrix(self, index, layer, source):
        stage = self._new(index, layer, source)
        if isinstance(layer, Linear):
            grid = source.result.grid
            sums = (prod(grid) + 1) * self.group
            stage.whole_kernel = max(grid) <= MAX_KERNEL and sums <= self.config.accumulator_depth
        return stage

    def _norm(self, index, layer, source, alone):
        if not self.config.batch_norm:
            raise UserError(
                f"{self.graph.layer_name(index)} is a batch-norm, and this core was built without "
                "its units; use a core with batch-norm, or a network without."
            )
        bare = not (source.norm or source.relu or source.pooled or source.addend)
        if not (alone and source.trainable and bare):
            raise UserError(
                f"{self.graph.layer_name(index)} does not follow a Conv2d that nothing else reads; "
                "the device normalises only the results of convolutions."
            )
        source.y = FeatureMap(f"raw.{index}", source.y.shape, self.group)
        trained = bool(self.graph.trained(index))
        name = self.graph.layer_name(index)
        source.norm = Norm(index, layer, source.y, name, source.name, trained)
        return source

    def _add(self, index, layer, inputs):
        operands = [self.stages[source] for source in inputs]
        takers = [
            (operand, operands[1 - position])
            for position, operand in enumerate(operands)
            if self.single[inputs[position]]
            and operand.trainable
            and not (operand.relu or operand.pooled or operand.addend)
            and operands[1 - position].source
        ]
        # A batch-norm's readers add for nothing, a convolution's drain reads the addend.
        takers.sort(key=lambda pair: pair[0].norm is None)
        if takers:
            stage, stage.addend = takers[0]
            return stage
        # The port of the addend cannot follow the network's input from batch to batch.
        operands.sort(key=lambda operand: operand.source is not None)
        if operands[1].source is None:
            raise UserError(f"{self.graph.layer_name(index)} adds the network's input to itself.")
        return self._new(index, layer, *operands)


def _can_pool(stage):
    """Whether the stage's convolution can pool as it drains."""
    even = not any(size % 2 for size in stage.y.grid)
    taken = stage.pooled or stage.addend
    return stage.trainable and not taken and (even or not stage.norm)


def _fold_input(stages, config):
    """Choose how the host packs the input of a first convolution: the fewest cycles."""
    source = stages[0]
    readers = [stage for stage, _ in source.readers]
    if len(readers) != 1 or not isinstance(readers[0].layer, Conv2d):
        return
    stage, picture, costs = readers[0], source.y, {}

    def fold(kind):
        stage.fold = Fold(kind, stage.layer, picture.grid, stage.y.grid)
        source.y = FeatureMap(picture.name, stage.fold.shape, picture.group)

    for kind in FOLDS:
        fold(kind)
        try:
            costs[kind] = _cost(stage, config)
        except UserError:
            continue  # Does not fit the buffers; if none does, the schedule says so.
    fold(min(costs, key=costs.get, default="none"))


def _cost(stage, config):
    """Cycles of the passes that read the input: one, or two if the weights are trained."""
    matrix, x, y = stage.matrix(FOLD_IMAGES), passes.Load(stage.x), stage.y
    readers = [passes.forward(matrix, x, y)]
    if stage.trains_weight:
        update = passes.weight_gradient(matrix, x, passes.Gradient(y), stage.weight, None)
        readers.append(update)
    return sum(predict(choose(step, config), config).cycles for step in readers)


def _check_scores(stage, graph):
    # LOSS reads the scores as vectors of classes, which a flattened map larger than 1x1 is not.
    if stage.result.shape != (graph.classes, 1, 1):
        raise UserError(
            f"{stage.name} gives pictures {stage.result.shape} as class scores; add a Linear layer "
            "after the Flatten."
        )


def _check_blocks(stage):
    blocks = stage.y.blocks
    if stage.trainable:
        blocks = max(blocks, stage.weight_tensor().in_blocks)
    if blocks > MAX_BLOCKS:
        raise UserError(
            f"{stage.name} has {blocks} channel blocks of {stage.y.group}; a descriptor holds "
            f"{MAX_BLOCKS}, so pool before it or use a larger array."
        )
