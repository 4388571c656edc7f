"""Personalisation: a trained network meets a new user's data and is trained on, on the device.

``prepare`` checks everything that a user can get wrong; ``personalize`` then runs one program on
the device: test, train, test again. ``report`` writes what came out.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from eftrain_hdl.config import CoreConfig

from . import report
from .checks import check_count, check_labels, check_pictures
from .data.digits import BASE_WEIGHTS, new_user
from .data.npz import read_data
from .devices.open import Target, resolve
from .errors import UserError
from .graph import Graph
from .job import Job
from .networks import digits
from .optim import SGD
from .plan.schedule import Schedule
from .trainer import Trainer, fit_sections
from .weights_file import load_weights
from .workload import Workload


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run; the defaults are the digits demo.

    Parameters
    ----------
    array, format : str, optional
        Size and operand format of the array, for example ``"8x8"`` and ``"fp32"``; what the device
        has, if they are not given.
    device : str
        See ``devices.open``.
    samples : int, optional
        Use only so many pictures of each set, the first ones.
    epochs, batch_size : int
    learning_rate, momentum : float
        Chosen so that two epochs are enough on the digits, and so that rounding does not grow
        from step to step: formats then differ by tenths of a point.
    seed : int
        For the order of the pictures.
    output : path
        Folder of the results.
    data : path, optional
        An ``.npz`` file with arrays x, y, x_test, y_test, instead of the digits.
    weights : path, optional
        Where to start, instead of the base network's weights.
    """

    array: str | None = None
    format: str | None = None
    device: str = "sim"
    samples: int | None = None
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 0.05
    momentum: float = 0.6
    seed: int = 0
    output: Path = Path("build/demo")
    data: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Task(Workload):
    """Settings that have been checked, and everything they name.

    Attributes
    ----------
    settings : Settings
    target : Target
    config : CoreConfig
    graph : Graph
        With the weights to start from.
    optimizer : SGD
    train, test : tuple
        ``(x, y)``: fp32 pictures ``[N, C, H, W]`` and uint32 labels.
    """

    settings: Settings
    target: Target
    config: CoreConfig
    graph: Graph
    optimizer: SGD
    train: tuple
    test: tuple

    @property
    def counts(self):
        """Pictures to train and to test on."""
        return len(self.train[0]), len(self.test[0])


def prepare(settings):
    """Check settings and data, and read the files they name; writes nothing.

    Raises
    ------
    UserError
        If anything of it is wrong or does not fit together.
    """
    target = resolve(settings.device)
    optimizer = SGD(lr=settings.learning_rate, momentum=settings.momentum)
    check_count(settings.epochs, "epochs")
    check_count(settings.batch_size, "batch_size")
    if settings.samples is not None:
        check_count(settings.samples, "samples")
    if settings.seed < 0:
        raise UserError(f"seed is {settings.seed}; give an integer of 0 or more.")
    layers = digits().layers
    graph = digits(load_weights(settings.weights or BASE_WEIGHTS, layers))
    if settings.data is None:
        adapt, test = new_user()
        sets = {"": (adapt.x, adapt.y), "_test": (test.x, test.y)}
    else:
        sets = read_data(settings.data)
    checked = {}
    for suffix, (x, y) in sets.items():
        x = check_pictures(x, graph.input_shape, f"x{suffix}")
        y = check_labels(y, len(x), graph.classes, f"y{suffix}")
        checked[suffix] = x[: settings.samples], y[: settings.samples]
    # Last, because a board must be asked for it.
    config = target.config(settings.array, settings.format)
    task = Task(settings, target, config, graph, optimizer, checked[""], checked["_test"])
    _check_plan(task)
    return task


def _check_plan(task):
    """Raise ``UserError`` if the run does not fit the device, which may take minutes to open."""
    settings, memory = task.settings, task.target.memory
    if memory:
        sections = fit_sections(
            settings.epochs, settings.batch_size, len(task.train[0]), len(task.test[0])
        )
        schedule = Schedule(task.graph, task.config, task.optimizer)
        Job(schedule, list(sections.values()), *memory)


def personalize(task, *, open_device=None, on_status=None, on_step=None):
    """Run a task on its device, all of it from one doorbell.

    Parameters
    ----------
    task : Task
    open_device : callable, optional
        Instead of the target's.
    on_status : callable, optional
        Called with a line of text as each step of building the device begins.
    on_step : callable, optional
        Called with each ``Step`` as it is seen.

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
        trainer = Trainer(task.graph, device, task.optimizer, seed=settings.seed)
        history = trainer.fit(
            *task.train, settings.epochs, settings.batch_size, test=task.test, on_step=on_step
        )
    return report.Result(task, history, trainer)
