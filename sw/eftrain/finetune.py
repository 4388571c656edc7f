"""Fine-tuning: someone's network and someone's pictures, trained in whole or in part on the device.

``prepare`` checks everything that a user can get wrong; ``finetune`` then tests, trains and tests
again. Each epoch is a program of its own, because its learning rate, the order of its pictures and
their augmentation come from the host. ``report`` writes what came out.
"""

import math
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from eftrain_hdl.config import CoreConfig

from . import report
from .checks import check_count
from .data import Augmentation, Batches, Dataset, find_normalisation, open_dataset
from .devices.open import Target, resolve
from .errors import UserError
from .graph import Graph, select, with_classes
from .history import History, summary
from .job import Job, Section
from .lr_schedule import parse_schedule
from .network_file import load_network
from .optim import SGD
from .plan.check import check_network
from .plan.report import ADDRESSABLE
from .plan.schedule import Schedule
from .trainer import Trainer
from .weights_file import load_weights
from .workload import Workload

__all__ = ["WEIGHTS_FILE", "Settings", "Task", "finetune", "numbers", "prepare"]

WEIGHTS_FILE = "trained.safetensors"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run.

    Parameters
    ----------
    model : str
        See ``network_file.load_network``.
    data : path, or map-style data set
        See ``data.open_dataset``.
    train : str, optional
        What is trained, as for ``graph.select``; what the network itself says, if not given.
    classes : int, optional
        Replace the last layer, for so many classes.
    epochs, batch_size : int
    learning_rate, momentum, weight_decay : float
    lr_schedule : str
        See ``lr_schedule.parse_schedule``.
    augment : str
        See ``data.Augmentation.parse``.
    normalise : str, optional
        See ``data.Normalisation.parse``; what ``data.find_normalisation`` finds, if not given.
    skip_bad : bool
        Leave out pictures that cannot be read.
    seed : int
        For new weights, the order of the pictures and their augmentation.
    device : str
        See ``devices.open``.
    array, format : str, optional
        Size and operand format of the array; what the device has, if they are not given.
    weights : path, optional
        Where to start, instead of the network's own weights: a file of the network, or of the one
        with the new last layer.
    output : path
        Folder of the results.
    """

    model: str
    data: object
    train: str | None = None
    classes: int | None = None
    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    augment: str = "none"
    normalise: str | None = None
    skip_bad: bool = False
    seed: int = 0
    device: str = "sim"
    array: str | None = None
    format: str | None = None
    weights: Path | None = None
    output: Path = Path("build/train")


@dataclass(frozen=True)
class Task(Workload):
    """Settings that have been checked, and everything they name.

    Attributes
    ----------
    settings : Settings
    title : str
        The network's name.
    target : Target
    config : CoreConfig
    graph : Graph
        With the weights to start from.
    schedule : Constant, StepDecay or Cosine
    dataset : Dataset
    batches : Batches
        Of the training pictures, augmented and normalised.
    test : tuple or None
        Normalised pictures to test on, and their labels.
    """

    settings: Settings
    title: str
    target: Target
    config: CoreConfig
    graph: Graph
    schedule: object
    dataset: Dataset
    batches: Batches
    test: tuple | None

    @property
    def counts(self):
        """Pictures to train and to test on."""
        return len(self.batches.split.y), len(self.test[1]) if self.test else 0

    def optimizer(self, epoch):
        """The ``SGD`` of an epoch, counted from 0."""
        return _optimizer(self.settings, self.schedule, epoch)


def prepare(settings):
    """Check settings and data, and read the files they name; writes nothing.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    Task

    Raises
    ------
    UserError
        If anything of it is wrong or does not fit together, or the network cannot be trained.
    """
    target = resolve(settings.device)
    check_count(settings.epochs, "epochs")
    check_count(settings.batch_size, "batch_size")
    check_count(settings.seed, "seed", least=0)
    schedule = _checked_schedule(settings)
    augment = Augmentation.parse(settings.augment)
    title, model = load_network(settings.model)
    graph = _prepared(model, settings)
    dataset = open_dataset(
        settings.data, graph.input_shape, graph.classes, skip_bad=settings.skip_bad
    )
    normalisation = find_normalisation(settings.normalise, model, dataset)
    batches = Batches(
        dataset.train, settings.batch_size, settings.seed,
        augment=augment, normalisation=normalisation,
    )  # fmt: skip
    test = None
    if dataset.test is not None:
        x, y = dataset.test.x, dataset.test.y
        test = normalisation.apply(x) if normalisation else x, y
    # Last, because a board must be asked for it.
    config = target.config(settings.array, settings.format)
    task = Task(settings, title, target, config, graph, schedule, dataset, batches, test)
    _check_network(task)
    return task


def finetune(task, *, open_device=None, on_status=None, on_step=None):
    """Test, train epoch by epoch, and test again.

    Parameters
    ----------
    task : Task
    open_device : callable, optional
        Instead of the target's.
    on_status : callable, optional
        Called with a line of text as each step of building the device begins.
    on_step : callable, optional
        Called with each ``Step`` as it is seen; numbers and cycles count on from program to
        program.

    Returns
    -------
    report.Result

    Raises
    ------
    DeviceError
        If the device cannot be opened or stops.
    UserError
        If the network or data do not fit the device.
    """
    settings = task.settings
    open_device = open_device or task.target.open
    with closing(open_device(task.config, on_status)) as device:
        trainer = Trainer(task.graph, device, task.optimizer(0), settings.seed)
        steps = {"before": [], "train": [], "after": []}

        def follow(section, epoch=1):
            """An ``on_step`` for one call of the trainer."""
            done, cycles = len(steps[section]), trainer.cycles

            def see(step):
                step = replace(
                    step, section=section, epoch=epoch, step=done + step.step,
                    cycles=cycles + step.cycles,
                )  # fmt: skip
                steps[section].append(step)
                if on_step:
                    on_step(step)

            return see

        def test(section):
            if task.test is None:
                return None
            return trainer.evaluate(*task.test, settings.batch_size, on_step=follow(section))

        before, macs = test("before"), 0
        for epoch in range(settings.epochs):
            trainer.optimizer = task.optimizer(epoch)
            x, y = task.batches.epoch(epoch)
            fitted = trainer.fit(
                x, y, 1, settings.batch_size, shuffle=False, on_step=follow("train", epoch + 1)
            )
            macs += fitted.dense_macs
        after = test("after")
    history = History(steps["train"], before, after, trainer.cycles, macs, trainer.nonfinite)
    return report.Result(task, history, trainer)


def numbers(result):
    """The numbers of a run: those of ``report.summary``, the settings, and every epoch's.

    ``per_epoch`` has each epoch's learning rate, and loss and accuracy on the training pictures,
    batch by batch before each update. A loss that is not finite is None, which JSON can say.
    """
    task, settings = result.task, result.task.settings
    normalisation = task.batches.normalisation
    return {
        "model": task.title,
        **report.summary(result),
        "weight_decay": settings.weight_decay,
        "lr_schedule": str(task.schedule),
        "train": settings.train,
        "trained_parameters": [name for name, trained in task.graph.trainable.items() if trained],
        "augment": settings.augment,
        "normalisation": normalisation and vars(normalisation),
        "pictures": task.counts[0],
        "test_pictures": task.counts[1],
        "class_names": task.dataset.class_names,
        "skipped": task.dataset.skipped,
        "per_epoch": [_epoch(result, epoch) for epoch in range(settings.epochs)],
    }


def _epoch(result, epoch):
    found = summary([step for step in result.history.steps if step.epoch == epoch + 1])
    return {
        "epoch": epoch + 1,
        "learning_rate": result.task.optimizer(epoch).lr,
        "loss": found["loss"] if math.isfinite(found["loss"]) else None,
        "accuracy": found["accuracy"],
    }


def _optimizer(settings, schedule, epoch):
    rate = schedule.rate(settings.learning_rate, epoch, settings.epochs)
    return SGD(rate, settings.momentum, settings.weight_decay)


def _checked_schedule(settings):
    """The schedule; ``UserError`` unless the device can use the rates of all epochs."""
    SGD(settings.learning_rate, settings.momentum, settings.weight_decay)
    schedule = parse_schedule(settings.lr_schedule)
    try:
        _optimizer(settings, schedule, settings.epochs - 1)  # The smallest: rates never rise.
    except UserError:
        raise UserError(
            f"The learning-rate schedule {settings.lr_schedule} lets the rate fall to 0 in fp32 "
            f"before epoch {settings.epochs}; give fewer epochs, or a slower schedule."
        ) from None
    return schedule


def _prepared(model, settings):
    """The network as it is to be trained: weights, last layer, and what is trained."""
    graph, weights = model, settings.weights
    if settings.classes is not None:
        graph = with_classes(model, settings.classes, settings.seed)
    if weights is not None:
        graph = _with_weights(model, graph, weights, settings)
    if settings.train is not None:
        graph = select(graph, settings.train)
    return graph


def _with_weights(model, graph, path, settings):
    """``graph`` with the weights of a file for it, or for ``model`` below a new last layer."""
    try:
        model = _replaced(model, load_weights(path, model.layers))
    except UserError:
        if graph.classes == model.classes:
            raise
        # Weights that an earlier run with the new last layer has left.
        return _replaced(graph, load_weights(path, graph.layers))
    if settings.classes is None:
        return model
    return with_classes(model, settings.classes, settings.seed)


def _replaced(graph, weights):
    return Graph(graph.input_shape, graph.layers, weights, graph.names, graph.trainable)


def _check_network(task):
    """Raise ``UserError`` for what ``eftrain check`` calls a problem, or if the run does not fit.

    Before the device is opened, which may take minutes.
    """
    settings, graph, (images, tests) = task.settings, task.graph, task.counts
    base, size = task.target.memory or (0, ADDRESSABLE)
    batch = min(settings.batch_size, images)
    chosen = settings.train is not None
    found = check_network(task.title, graph, task.config, batch, chosen, size)
    if found.problems:
        first, *others = found.problems
        if others:
            more = f"{len(others)} more problem{'s' if len(others) > 1 else ''}"
            first = f"{first.removesuffix('.')}; `eftrain check` lists {more}."
        raise UserError(first)
    schedule = Schedule(graph, task.config, task.optimizer(0))
    sections = [Section("fit", "train", images, settings.batch_size)]
    if tests:
        sections.append(Section("evaluate", "test", tests, settings.batch_size))
    for section in sections:
        Job(schedule, [section], base, size)
