"""``eftrain build``: writes the folder with which a board trains a network.

What is in it: :mod:`eftrain.board_run`; what runs there: :mod:`eftrain.board_program`.
"""

import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import eftrain_hdl

from . import report
from .artefact import CONFIG_FILE, Artefact
from .board_program import OVERLAY, OVERLAY_SOURCE
from .board_run import DATA, NETWORK, PROGRAM, RUN, WEIGHTS, BoardRun
from .boards import find
from .checks import check_count, check_labels, check_pictures
from .data.digits import BASE_WEIGHTS, new_user
from .data.npz import read_data
from .devices.linux import RULES, RULES_FILE
from .errors import UserError
from .graph import Graph, initial_weights
from .graph_file import graph_to_json
from .network_file import load_network
from .optim import SGD
from .weights_file import load_weights, save_weights

__all__ = ["BuildSettings", "artefact_folder", "prepare", "write"]

DIGITS = "digits"

_COPIED = (OVERLAY, OVERLAY_SOURCE)
"""Files beside the bitstream that go along, if they are there."""

_DESKTOP_ONLY = {
    "bench", "commands", "profile", "bitstream.py", "board_folder.py", "cli.py", "display.py",
    "resources.py", "train_digits_base.py", "weights",
}  # fmt: skip
"""Parts of the package that need more than numpy, or that a board has no use for."""

_HDL = ("__init__.py", "config.py", "isa.py", "serial_protocol.py", "version.py")

_SCRIPT = """\
#!/bin/sh
# {text}
set -e
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
PYTHONPATH="$here/python" exec "${{PYTHON:-python3}}" -m {module} "$@"
"""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What to write; the defaults are those of the digits demo.

    Parameters
    ----------
    network : str
        See :func:`eftrain.network_file.load_network`.
    board : str
    array, format : str, optional
        The board's first preset, if they are not given.
    epochs, batch_size, learning_rate, momentum, seed
        As in :class:`eftrain.personalize.Settings`.
    data : path, optional
        An ``.npz`` file with x, y, x_test, y_test; needed for all networks but ``digits``.
    weights : path, optional
        Where to start; by default the digits' base network, or PyTorch's initialisation.
    bitstream : path, optional
        Folder that ``eftrain bitstream`` wrote; see :func:`artefact_folder`.
    output : path, optional
        By default ``build/<board>-<network>``.
    """

    network: str
    board: str
    array: str | None = None
    format: str | None = None
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 0.05
    momentum: float = 0.6
    seed: int = 0
    data: Path | None = None
    weights: Path | None = None
    bitstream: Path | None = None
    output: Path | None = None

    @property
    def folder(self):
        return self.output or Path("build") / f"{self.board}-{Path(self.network).stem}"


def artefact_folder(board, config, build="build"):
    """Where ``eftrain bitstream`` writes a core of this board by default."""
    folder = Path(build) / board.name
    first = (config.array, config.format) == board.presets[0]
    return folder if first else folder / f"{config.array}-{config.format}"


def prepare(settings, *, on_status=None, describe=None):
    """Check everything and plan the run; writes nothing.

    Parameters
    ----------
    settings : BuildSettings
    on_status : callable, optional
        Called with a line of text before what takes long.
    describe : callable, optional
        ``describe(board, config, on_status)`` gives the artefact where no bitstream was built.

    Returns
    -------
    BoardRun

    Raises
    ------
    UserError
        If something does not exist, does not fit together, or the run needs more memory than the
        board has.
    """
    board = find(settings.board)
    config = board.core(settings.array, settings.format)
    for name in ("epochs", "batch_size"):
        check_count(getattr(settings, name), name)
    check_count(settings.seed, "seed", least=0)
    optimizer = SGD(lr=settings.learning_rate, momentum=settings.momentum)
    title, graph = load_network(settings.network)
    weights = _weights(settings, graph)
    graph = Graph(graph.input_shape, graph.layers, weights, graph.names, graph.trainable)
    train, test = _data(settings, graph)
    report.check_output(settings.folder)
    artefact = _artefact(board, config, settings, describe or _described, on_status)
    run = BoardRun(
        title=title, artefact=artefact, graph=graph, train=train, test=test,
        epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed,
        learning_rate=optimizer.lr, momentum=optimizer.momentum,
        memory_base=artefact.memory["base"], memory_bytes=0, program=b"",
    )  # fmt: skip
    job = run.plan(artefact.memory["base"], artefact.memory["size"])
    planned = {"program": job.program, "memory_bytes": job.memory.used}
    return BoardRun(**{**vars(run), **planned, "memory_base": job.memory.base})


def _weights(settings, graph):
    weights = settings.weights
    if weights is None and settings.network == DIGITS:
        weights = BASE_WEIGHTS
    if weights is not None:
        return load_weights(weights, graph.layers)
    # Also what a PyTorch module brings along.
    return initial_weights(graph.layers, settings.seed) | graph.weights


def _data(settings, graph):
    if settings.data is not None:
        sets = read_data(settings.data)
    elif settings.network == DIGITS:
        adapt, test = new_user()
        sets = {"": (adapt.x, adapt.y), "_test": (test.x, test.y)}
    else:
        raise UserError(
            f"The network {settings.network} comes without pictures; give an .npz file with x, y, "
            "x_test and y_test as --data."
        )
    checked = []
    for suffix, (x, y) in sets.items():
        x = check_pictures(x, graph.input_shape, f"x{suffix}")
        checked.append((x, check_labels(y, len(x), graph.classes, f"y{suffix}")))
    return checked


def _artefact(board, config, settings, describe, on_status):
    folder = settings.bitstream or artefact_folder(board, config)
    if settings.bitstream is None and not (folder / CONFIG_FILE).is_file():
        if on_status:
            on_status(f"There is no bitstream in {folder}; the folder is written without one.")
        return describe(board, config, on_status)
    artefact = Artefact.read(folder)
    artefact.verify()
    found = (artefact.board, artefact.array, artefact.format)
    wanted = (board.name, settings.array or found[1], settings.format or found[2])
    if found != wanted:
        raise UserError(
            f"{folder} holds a {found[1]} {found[2]} core for {found[0]}, but {wanted[1]} "
            f"{wanted[2]} for {wanted[0]} is asked for; build that with `eftrain bitstream "
            f"{wanted[0]} --array {wanted[1]} --format {wanted[2]}`."
        )
    return artefact


def _described(board, config, on_status):
    # Imported late: it needs Amaranth.
    try:
        from sim.build import cached_verilog

        verilog = cached_verilog(config, on_status=on_status)
    except ImportError:
        raise UserError(
            f"There is no bitstream of a {config.array} {config.format} core for {board.title}; "
            f"build it with `eftrain bitstream {board.name}`."
        ) from None
    return Artefact.describe(board, config, verilog)


def write(run, folder):
    """Write the folder of a ``BoardRun``; files of an earlier one are replaced.

    Raises
    ------
    UserError
        If it cannot be written. An earlier folder is then as it was, or without some entries.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            _fill(run, staging)
            for path in sorted(staging.iterdir()):
                place = folder / path.name
                if place.is_dir():
                    shutil.rmtree(place)
                os.replace(path, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"The folder {folder} cannot be written ({reason}); choose another with --output."
        ) from error


def _fill(run, folder):
    artefact = run.artefact
    if artefact.bitstream_path:
        shutil.copy(artefact.bitstream_path, folder)
        names = [*_COPIED, artefact.bitstream_path.with_suffix(".hwh").name]
        for path in (artefact.folder / name for name in names):
            if path.is_file():
                shutil.copy(path, folder)
    artefact.write(folder)
    names = (
        "title", "epochs", "batch_size", "seed", "learning_rate", "momentum", "memory_base",
        "memory_bytes",
    )  # fmt: skip
    settings = {name: getattr(run, name) for name in names}
    (folder / RUN).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / NETWORK).write_text(graph_to_json(run.graph), encoding="utf-8")
    save_weights(folder / WEIGHTS, run.graph.layers, run.graph.weights)
    data = io.BytesIO()
    (x, y), (x_test, y_test) = run.train, run.test
    np.savez_compressed(data, x=x, y=y, x_test=x_test, y_test=y_test)
    (folder / DATA).write_bytes(data.getvalue())
    (folder / PROGRAM).write_bytes(run.program)
    _copy_package(folder / "python")
    board = find(artefact.board)
    _script(
        folder / "run.sh", f"Trains {run.title} on {board.title}.", 'eftrain.board_program "$here"'
    )
    _script(folder / "doctor.sh", f"Checks {board.title}.", 'eftrain.doctor --artefact "$here"')
    if not board.serial:
        (folder / RULES_FILE).write_text(RULES, encoding="utf-8")


def _script(path, text, module):
    path.write_text(_SCRIPT.format(text=text, module=module), encoding="utf-8")
    path.chmod(0o755)


def _copy_package(target):
    """The parts of both packages that a board needs."""
    source = Path(__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", *_DESKTOP_ONLY)
    shutil.copytree(source, target / source.name, ignore=ignored)
    hdl = target / "eftrain_hdl"
    hdl.mkdir()
    for name in _HDL:
        shutil.copy(Path(eftrain_hdl.__file__).parent / name, hdl)
