"""Whether a network can be trained, layer by layer, before anything runs."""

from dataclasses import dataclass
from enum import IntEnum
from math import prod

from eftrain_hdl.isa import Opcode

from ..errors import UserError
from ..graph import parameter_layers, parameter_shapes, select
from ..graph.parameters import STATISTICS
from ..job import MAX_BATCH
from .fitting import fitting_batch
from .lowering import examine
from .passes import Gradient, Load, forward, weight_gradient
from .report import ADDRESSABLE, OPTIMIZER, StepPlan, plan_step
from .schedule import Schedule
from .search import choose
from .support import untrainable

__all__ = ["Check", "LayerCheck", "Saving", "Verdict", "check_network"]

LAST_LAYERS = (1, 2)
"""Numbers of layers for which it is said what training no others would save."""


class Verdict(IntEnum):
    """Exit codes of ``eftrain check``."""

    TRAINABLE = 0
    LIMITED = 1
    NOT_TRAINABLE = 2


@dataclass(frozen=True)
class LayerCheck:
    """One layer of the network.

    Attributes
    ----------
    name, kind : str
    shape : tuple
        Of one picture's result.
    parameters : int
        Weights and biases, without running statistics.
    forward : bool
        Whether the device computes it.
    training : str
        ``"trained"``, ``"weight only"``, ``"bias only"``, ``"frozen"``, ``"not trainable"``, or
        empty for a layer without parameters that the device computes.
    """

    name: str
    kind: str
    shape: tuple
    parameters: int
    forward: bool
    training: str

    def as_dict(self):
        return {**vars(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class Saving:
    """What ``--train`` with the text ``train`` would take off a step."""

    train: str
    cycles: int
    bytes: int


@dataclass(frozen=True)
class Check:
    """Answers about one network on one core.

    Attributes
    ----------
    network : str
        For titles.
    config : CoreConfig
    batch : int
        As asked for; ``step.batch`` is smaller if that does not fit the memory.
    layers : list of LayerCheck
    problems : list of str
        Why the network cannot be trained, a sentence each.
    limits : list of str
        What training it does not do, a sentence each.
    step : StepPlan or None
        None if there are problems.
    savings : list of Saving
    """

    network: str
    config: object
    batch: int
    layers: list
    problems: list
    limits: list
    step: StepPlan | None = None
    savings: tuple = ()

    @property
    def verdict(self):
        if self.problems:
            return Verdict.NOT_TRAINABLE
        return Verdict.LIMITED if self.limits else Verdict.TRAINABLE

    def as_dict(self):
        """The JSON file."""
        step = self.step
        return {
            "network": self.network,
            "array": self.config.array,
            "format": self.config.format,
            "batch": self.batch,
            "verdict": self.verdict.name.lower(),
            "problems": self.problems,
            "limits": self.limits,
            "layers": [layer.as_dict() for layer in self.layers],
            "step": step
            and {
                "batch": step.batch,
                "cycles": step.cycles,
                "memory": step.footprint | {"total": sum(step.footprint.values())},
            },
            "savings": [vars(saving) for saving in self.savings],
        }


def check_network(network, graph, config, batch, chosen=False, size=ADDRESSABLE):
    """Examine every layer, and plan a training step if nothing stands against it.

    Parameters
    ----------
    network : str
        For titles.
    graph : Graph
    config : CoreConfig
    batch : int
        At least 1.
    chosen : bool
        The user has just said what is trained, so that frozen parameters are no limit.
    size : int
        Bytes of device memory.

    Returns
    -------
    Check
    """
    stages, unsupported = examine(graph, config)
    schedule, limits, step, savings = None, [], None, []
    if not unsupported:
        try:
            schedule = Schedule(graph, config, OPTIMIZER)
        except UserError as error:  # Of the network as a whole, such as the number of classes.
            unsupported = [(len(graph.nodes) - 1, str(error))]
    untrained = untrainable(graph, stages, config)
    if unsupported:  # They may be all that is trained.
        untrained = [problem for problem in untrained if problem[0] is not None]
    images = min(batch, MAX_BATCH)
    if schedule and not untrained:
        misfits = _misfits(graph, config, lambda: schedule.untiled_step(images))
    else:
        skipped = {index for index, _ in unsupported}
        alone = [stage for stage in stages if stage.trainable and stage.index not in skipped]
        misfits = _misfits(graph, config, lambda: _alone(alone, images))
    unsupported += [(index, sentence) for index, sentence, runs in misfits if not runs]
    untrained += [(index, sentence) for index, sentence, runs in misfits if runs]
    if not unsupported and not untrained:
        fitting = fitting_batch(schedule, batch, size)
        if fitting:
            step = plan_step(network, graph, config, fitting, size=size)
            savings = _savings(step, size)
            limits = [*_limits(schedule, chosen), *_batch_limit(batch, fitting, size)]
        else:
            untrained = [(None, _batch_problem(size))]
    problems = sorted(unsupported + untrained, key=lambda problem: (problem[0] is None, problem[0]))
    return Check(
        network,
        config,
        batch,
        _layers(graph, {index for index, _ in unsupported}, {index for index, _ in untrained}),
        [sentence for _, sentence in problems],
        limits,
        step,
        savings,
    )


def _layers(graph, unsupported, untrained):
    sizes = dict.fromkeys(range(len(graph.nodes)), 0)
    for name, shape in parameter_shapes(graph.layers).items():
        if not name.endswith(STATISTICS):
            sizes[int(name.split(".")[0])] += prod(shape)
    found = []
    for index, node in enumerate(graph.nodes):
        runs = index not in unsupported
        training = _training(graph, index) if runs and index not in untrained else "not trainable"
        name, shape = graph.layer_name(index), graph.shapes[index + 1]
        found.append(LayerCheck(name, node.layer.kind, shape, sizes[index], runs, training))
    return found


def _training(graph, index):
    kinds = [kind for kind in ("weight", "bias") if f"{index}.{kind}" in graph.trainable]
    trained = [kind for kind in kinds if kind in graph.trained(index)]
    if not kinds:
        return ""
    if not trained:
        return "frozen"
    return "trained" if trained == kinds else f"{trained[0]} only"


def _misfits(graph, config, build):
    """Layers of which a pass fits no tile into the buffers, or why ``build`` gives no passes.

    Returns
    -------
    list of (int or None, str, bool)
        Layer number, sentence, and whether the layer's forward pass fits.
    """
    numbers = {graph.layer_name(index): index for index in range(len(graph.nodes))}
    found = {}
    try:
        layer_passes = build()
    except UserError as error:
        return [(None, str(error), True)]
    for layer_pass in layer_passes:
        try:
            if not layer_pass.exclusive:
                choose(layer_pass, config)
        except UserError as error:
            runs = layer_pass.opcode is not Opcode.CONV_FP
            found.setdefault(numbers.get(layer_pass.layer), (str(error), runs))
    return [(index, *problem) for index, problem in found.items()]


def _alone(stages, batch):
    """Passes of layers whose surroundings the device does not run."""
    for stage in stages:
        matrix, x = stage.matrix(batch), Load(stage.x)
        yield forward(matrix, x, stage.y)
        if stage.trains_weight:
            yield weight_gradient(matrix, x, Gradient(stage.y), stage.weight, None)


def _limits(schedule, chosen):
    graph = schedule.graph
    if graph.frozen and not chosen:
        count, total = len(graph.frozen), len(graph.trainable)
        yield (
            f"{count} of {total} weights and biases have requires_grad=False and stay as they are; "
            "--train all trains them."
        )
    for stage in schedule.stages:
        if stage.norm and stage.trained == {"bias"} and stage.layer.bias:
            yield (
                f"{stage.name} has a bias in front of a batch-norm, whose gradient is zero, so it "
                f"stays as it is; train {stage.norm.name} instead."
            )


def _batch_limit(batch, fitting, size):
    if fitting < batch:
        if fitting == MAX_BATCH:
            why = "more than a descriptor can say"
        else:
            why = f"more than {size / 2**20:,.0f} MiB of device memory hold"
        yield f"A batch of {batch} is {why}; {fitting} fits, and the figures are for that."


def _batch_problem(size):
    return (
        f"A step with one picture does not fit {size / 2**20:,.0f} MiB of device memory; use "
        "smaller pictures or a smaller network."
    )


def _savings(step, size):
    """What training the last layers alone would save, where that is a part of what is trained."""
    graph, found = step.graph, []
    for count in LAST_LAYERS:
        if count >= len(parameter_layers(graph)):
            break
        other = select(graph, f"last:{count}")
        if set(graph.frozen) < set(other.frozen):
            planned = plan_step("", other, step.config, step.batch, size=size)
            saved = sum(step.footprint.values()) - sum(planned.footprint.values())
            found.append(Saving(f"last:{count}", step.cycles - planned.cycles, saved))
    return found
