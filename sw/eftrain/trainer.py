"""The user's interface: fit, evaluate, predict, save and load, as one knows them from PyTorch."""

from functools import partial

import numpy as np

from .checks import check_count, check_labels, check_pictures, permutation
from .devices import Device
from .driver import Driver
from .errors import UserError
from .graph import Graph, initial_weights
from .history import History, Step, summary
from .importers.torch_export import check_module, copied, is_torch_module
from .importers.torch_module import from_torch
from .job import Job, Section
from .optim import SGD
from .plan.schedule import Schedule
from .weights_file import load_weights, save_weights


def fit_sections(epochs, batch_size, train, test=None):
    """The sections of ``Trainer.fit`` by name, for this many training and test samples."""
    fit = {"train": Section("fit", "train", train, batch_size, epochs)}
    if test is None:
        return fit
    evaluation = Section("evaluate", "test", test, batch_size)
    return {"before": evaluation, **fit, "after": evaluation}


class Trainer:
    """Trains a network on a device.

    Weights live on the host between calls and on the device during one; each call rings one
    doorbell.

    Parameters
    ----------
    model : Graph or torch.nn.Module
        A PyTorch model gives its layers and weights and is left unchanged. Its input shape is that
        of the first data; until then its weights cannot be read, saved or loaded. Layers of a Graph
        without weights get PyTorch's default initialisation.
    device : eftrain.devices.base.Device
    optimizer : SGD, optional
        Needed by ``fit``.
    seed : int
        For the initial weights and the order of the samples.

    Attributes
    ----------
    optimizer : SGD
        May be replaced between two calls of ``fit``, by one of another learning rate for example;
        momentum goes on.
    cycles : int
        Of the device, in all calls so far.
    nonfinite : bool
        Whether an Inf or NaN has appeared on the device in any of them.

    Raises
    ------
    UserError
        If a layer or the optimiser is unsupported, or an argument is of the wrong kind.
    DeviceError
        If the device is not an eftrain core of this version.
    """

    def __init__(self, model, device, optimizer=None, seed=0):
        if not isinstance(optimizer, SGD | None):
            raise UserError(
                f"The optimizer is {type(optimizer).__name__}; give an eftrain SGD, for example "
                "SGD(lr=0.01)."
            )
        if not isinstance(device, Device):
            raise UserError(
                f"The device is a {type(device).__name__}; give an eftrain Device, for example "
                "SimDevice(CoreConfig.parse('8x8'))."
            )
        self.optimizer = optimizer
        self.cycles, self.nonfinite = 0, False
        self.seed = check_count(seed, "seed", least=0)
        self._graph = self._weights = self._momentum = None
        if isinstance(model, Graph):
            self._take(model)
        elif is_torch_module(model):
            check_module(model)
            self._module = copied(model, share=False)
        else:
            raise UserError(
                f"The model is a {type(model).__name__}; give an eftrain.Graph or a "
                "torch.nn.Module, for example a torch.nn.Sequential."
            )
        self.driver = Driver(device)

    def fit(self, x, y, epochs=1, batch_size=16, shuffle=True, test=None, on_step=None):
        """Train; all epochs, and the evaluations if asked for, run from one doorbell.

        What ``Graph.trainable`` marks as False, as PyTorch's ``requires_grad``, keeps its bits.

        Parameters
        ----------
        x, y : array-like
            Pictures ``[N, C, H, W]`` and integer labels ``[N]``.
        epochs, batch_size : int
            The last batch of an epoch is smaller if ``batch_size`` does not divide N.
        shuffle : bool
            Visit the samples in one random order, fixed by the seed: the same in every epoch,
            because the device walks them where they lie.
        test : tuple, optional
            ``(x, y)`` to evaluate on before and after.
        on_step : callable, optional
            Called with each ``Step``, evaluation batches included, while the device runs.

        Returns
        -------
        History
        """
        if self.optimizer is None:
            raise UserError("The Trainer has no optimizer; give it one, for example SGD(lr=0.01).")
        x, y = self._data(x, y)
        epochs = check_count(epochs, "epochs")
        batch_size = check_count(batch_size, "batch_size")
        if shuffle:
            order = permutation(len(x), self.seed)
            x, y = x[order], y[order]
        datasets = {"train": (x, y)}
        if test is not None:
            if not isinstance(test, (tuple, list)) or len(test) != 2:
                raise UserError("test is no pair; give (x, y) as one tuple.")
            datasets["test"] = self._data(*test, prefix="test ")
        samples = {name: len(pictures) for name, (pictures, _) in datasets.items()}
        sections = fit_sections(epochs, batch_size, **samples)
        job, outcome, steps = self._run(sections, datasets, on_step)
        self._weights = job.parameters(self.driver)
        self._momentum = job.momentum(self.driver) or None
        scores = {name: summary(steps[name]) for name in sections if name != "train"}
        return History(
            steps["train"],
            scores.get("before"),
            scores.get("after"),
            outcome.cycles,
            job.dense_macs,
            outcome.nonfinite,
        )

    def evaluate(self, x, y, batch_size=64, on_step=None):
        """Mean loss and accuracy on ``x``: ``{"loss": float, "accuracy": float}``."""
        x, y = self._data(x, y)
        batch_size = check_count(batch_size, "batch_size")
        sections = {"evaluate": Section("evaluate", "test", len(x), batch_size)}
        _, _, steps = self._run(sections, {"test": (x, y)}, on_step)
        return summary(steps["evaluate"])

    def predict(self, x, batch_size=64, logits=False):
        """Class numbers ``[N]``, or with ``logits`` the fp32 scores ``[N, classes]``."""
        x = self._pictures(x, "x")
        section = Section("predict", "test", len(x), check_count(batch_size, "batch_size"))
        job, _, _ = self._run({"predict": section}, {"test": (x, None)}, None)
        scores = job.logits(self.driver)
        return scores if logits else scores.argmax(axis=1)

    def state_dict(self):
        """Copies of the weights and running statistics as fp32 arrays, named and shaped as in
        ``torch.nn.Sequential``."""
        return {name: value.copy() for name, value in self._known("weights").items()}

    def save(self, path):
        """Write the weights as safetensors, marked with the network they belong to."""
        weights = self._known("weights")
        save_weights(path, self._graph.layers, weights)

    def load(self, path):
        """Take the weights of a file that ``save`` wrote for the same network."""
        self._known("layers")
        self._weights = load_weights(path, self._graph.layers)
        self._momentum = None

    def _take(self, graph):
        self._graph = graph
        self._weights = initial_weights(graph.layers, self.seed) | graph.weights

    def _known(self, what):
        """The weights, once there is a graph; ``what`` is needed of it."""
        if self._graph is None:
            raise UserError(
                f"The {what} of a PyTorch model are not known before the first data; give the "
                "Trainer eftrain.from_torch(model, shape of one picture) instead."
            )
        return self._weights

    def _pictures(self, x, what):
        shape = self._graph.input_shape if self._graph else None
        x = check_pictures(x, shape, what)
        if self._graph is None:
            self._take(from_torch(self._module, x.shape[1:]))
            self._module = None
        return x

    def _data(self, x, y, prefix=""):
        x = self._pictures(x, f"{prefix}x")
        return x, check_labels(y, len(x), self._graph.classes, f"{prefix}y")

    def _run(self, sections, datasets, on_step):
        schedule = Schedule(self._graph, self.driver.config, self.optimizer)
        device = self.driver.device
        job = Job(schedule, list(sections.values()), device.memory_base, device.memory_size)
        momentum = self._momentum or {
            name: np.zeros_like(value) for name, value in self._weights.items()
        }
        places = [
            partial(Step, name, number // section.batches + 1, number + 1)
            for name, section in sections.items()
            for number in range(section.steps)
        ]
        steps = {name: [] for name in sections}

        def on_record(index, record):
            step = places[index](record.loss, record.correct, record.images, record.cycles)
            steps[step.section].append(step)
            if on_step:
                on_step(step)

        outcome = job.run(self.driver, self._weights, momentum, datasets, on_record)
        self.cycles += outcome.cycles
        self.nonfinite |= outcome.nonfinite
        return job, outcome, steps
