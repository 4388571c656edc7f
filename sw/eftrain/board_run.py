"""The folder that ``eftrain build`` writes and a board reads.

===================== ==============================================================================
``config.json``       the bitstream that the run is for; see :mod:`eftrain.artefact`
``eftrain.bit``       the bitstream, if there was one; with it ``.hwh`` and ``.dtbo`` or ``.dtso``
``run.json``          network's title and the settings
``network.json``      the layers; see :mod:`eftrain.graph_file`
``weights.npz``       the weights to start from
``data.npz``          x, y, x_test, y_test
``program.bin``       the program for a memory at ``memory_base`` of ``run.json``
``python/``           this package
``run.sh``            starts this module; ``doctor.sh`` starts ``eftrain.doctor``
``99-eftrain.rules``  for udev: lets a group use the core without being root
``results/``          made here: result.json, history.csv, personalised.npz
===================== ==============================================================================

Needs numpy only.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from eftrain_hdl.isa import DESCRIPTOR_BYTES, decode, encode

from .artefact import Artefact
from .checks import check_count, check_labels, check_pictures
from .data.npz import read_data
from .errors import UserError
from .graph import Graph
from .graph_file import graph_from_json
from .job import Job
from .optim import SGD
from .plan.schedule import Schedule
from .trainer import fit_sections
from .weights_file import load_weights

__all__ = ["BoardRun", "relocated"]

RUN, NETWORK, WEIGHTS = "run.json", "network.json", "weights.npz"
DATA, PROGRAM, RESULTS = "data.npz", "program.bin", "results"


@dataclass(frozen=True)
class BoardRun:
    """What a folder says.

    Attributes
    ----------
    title : str
    artefact : Artefact
    graph : Graph
        With weights.
    train, test : tuple
        ``(x, y)``.
    epochs, batch_size, seed : int
    learning_rate, momentum : float
    memory_base, memory_bytes : int
        Where ``program.bin`` was planned for, and how much memory the run needs.
    program : bytes
    """

    title: str
    artefact: Artefact
    graph: Graph
    train: tuple
    test: tuple
    epochs: int
    batch_size: int
    seed: int
    learning_rate: float
    momentum: float
    memory_base: int
    memory_bytes: int
    program: bytes

    @classmethod
    def read(cls, folder):
        """Read and check all files of a folder.

        Raises
        ------
        UserError
            If one is missing or damaged, or they do not belong together.
        """
        folder = Path(folder)
        artefact = Artefact.read(folder)
        artefact.verify()
        settings = _settings(folder / RUN)
        layers = graph_from_json(_text(folder / NETWORK), where=str(folder / NETWORK))
        weights = load_weights(folder / WEIGHTS, layers.layers)
        graph = Graph(layers.input_shape, layers.layers, weights, layers.names, layers.trainable)
        sets = []
        for suffix, (x, y) in read_data(folder / DATA).items():
            x = check_pictures(x, graph.input_shape, f"x{suffix}")
            sets.append((x, check_labels(y, len(x), graph.classes, f"y{suffix}")))
        program = _bytes(folder / PROGRAM)
        return cls(artefact=artefact, graph=graph, train=sets[0], test=sets[1], program=program,
                   **settings)  # fmt: skip

    @property
    def optimizer(self):
        return SGD(lr=self.learning_rate, momentum=self.momentum)

    def plan(self, base, size):
        """The ``Job`` of this run in ``size`` bytes of memory from ``base`` on."""
        sections = fit_sections(self.epochs, self.batch_size, len(self.train[0]), len(self.test[0]))
        schedule = Schedule(self.graph, self.artefact.config, self.optimizer)
        return Job(schedule, list(sections.values()), base, size)

    def check_program(self, device):
        """Plan for the device's memory, and compare with ``program.bin``.

        Raises
        ------
        UserError
            If the run does not fit the memory, or the two programs differ in more than addresses.
        """
        if device.memory_size < self.memory_bytes:
            raise UserError(
                f"The run needs {self.memory_bytes / 2**20:.2f} MiB and the memory of "
                f"{device.name} has {device.memory_size / 2**20:.2f} MiB; enlarge the buffer in "
                "the device-tree overlay (and cma= on the kernel's command line), or build the "
                "folder with a smaller batch or less data."
            )
        job = self.plan(device.memory_base, device.memory_size)
        if relocated(self.program, job.memory.base - self.memory_base) != job.program:
            raise UserError(
                f"The program that this package plans is not the one in {PROGRAM}; use the package "
                "in the folder's python/, or write the folder again with `eftrain build`."
            )
        return job


def _text(path):
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path):
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{path} cannot be read ({reason}); copy the folder again, or write it again with "
            "`eftrain build`."
        ) from None


_NUMBERS = {
    "epochs": int, "batch_size": int, "seed": int, "learning_rate": (int, float),
    "momentum": (int, float), "memory_base": int, "memory_bytes": int,
}  # fmt: skip


def _settings(path):
    try:
        entries = json.loads(_text(path))
        settings = {name: entries[name] for name in ("title", *_NUMBERS)}
        if not all(isinstance(settings[name], kind) for name, kind in _NUMBERS.items()):
            raise ValueError("an entry is no number")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not describe a run ({type(error).__name__}: {error}); write the folder "
            "again with `eftrain build`."
        ) from None
    for name in ("epochs", "batch_size"):
        check_count(settings[name], name)
    SGD(lr=settings["learning_rate"], momentum=settings["momentum"])
    return settings


def relocated(program, distance):
    """A program whose tensors all lie ``distance`` bytes further on.

    Addresses of zero stay: they belong to tensors that a descriptor does not have.
    """
    result = []
    for place in range(0, len(program), DESCRIPTOR_BYTES):
        opcode, flags, values = decode(program[place : place + DESCRIPTOR_BYTES])
        for name, value in values.items():
            if name.endswith("_base") and value:
                values[name] = value + distance
        result.append(encode(opcode, flags, **values))
    return b"".join(result)
