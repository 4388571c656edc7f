"""Bitstreams for Zynq boards: a Vivado project, and Vivado if it is there.

A build leaves in its folder everything that Vivado needs, and what Vivado makes of it::

    eftrain_top.v  eftrain_top.xdc  eftrain_<array>_<format>.v  build.tcl  block_design.tcl
    README.md      config.json      eftrain.dtso
    eftrain.bit    eftrain.hwh      eftrain.xsa
    report/timing.json  report/utilisation.json  report/*.rpt  vivado.log

Only the first two lines are there without Vivado.
"""

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

from eftrain.artefact import Artefact
from eftrain.errors import UserError

from . import BitstreamError, VivadoMissing, print_step, vivado_report
from .zynq_fit import check_fits

__all__ = ["PLATFORMS", "build", "platform_of", "write_project"]

PLATFORMS = {
    "zcu102": ("platforms.zcu102", "ZCU102Platform"),
    "pynq-z1": ("platforms.pynq_z1", "PynqZ1Platform"),
}
"""Board: module and class of its platform."""

TOP = "eftrain_top"
OUTPUTS = ("eftrain.bit", "eftrain.hwh", "eftrain.xsa")
REPORTS = ("timing.txt", "timing.json", "utilization.rpt", "utilisation.json")
CLOCK_HZ = (10_000_000, 300_000_000)
"""Slowest and fastest clock that makes sense to ask of a processing system."""

STEPS = 7
_STEPS_BEFORE_VIVADO = 2
_PROGRESS = re.compile(r"^eftrain: \[(\d+)/\d+\] (.*)")
_ERROR = re.compile(r"^eftrain: error: (.*)")


def build(board, config, folder, *, clock_hz=None, seed=None, on_step=print_step):
    """Write the project of a board's bitstream and run Vivado on it.

    Parameters
    ----------
    board : eftrain.boards.Board
    config : CoreConfig
    folder : path
        Where project and results go; files of an older build there are replaced.
    clock_hz : int, optional
        Clock of the core; the board's, if it is not given.
    seed : int, optional
        Vivado has none; ignored.
    on_step : callable
        Called with index, number of steps and text as each step begins.

    Returns
    -------
    Artefact

    Raises
    ------
    UserError
        Before any work: a package is missing, the core does not fit, the clock is out of range, the
        folder cannot be written.
    VivadoMissing
        The project was written; Vivado is not on the PATH.
    BitstreamError
        Vivado is too old, it failed, or timing is not met. The project is there, no bitstream.
    """
    folder = Path(folder)
    artefact = _write(board, config, folder, clock_hz, on_step, STEPS)
    vivado = shutil.which("vivado")
    if vivado is None:
        raise VivadoMissing(
            f"Vivado was not found on the PATH: the project is in {folder}, and its README.md says "
            "how to build it where Vivado is."
        )
    tool = check_version(vivado)
    _run(vivado, folder, on_step)
    missing = [name for name in OUTPUTS if not (folder / name).is_file()]
    if missing:
        raise BitstreamError(f"Vivado ended without writing {missing[0]}; see {folder}/vivado.log.")
    _reports(folder, artefact, tool)
    return artefact.with_bitstream(folder / OUTPUTS[0]).write(folder)


def write_project(board, config, folder, *, clock_hz=None, on_step=print_step):
    """Write everything that Vivado needs, and what describes it; as :func:`build` does first.

    Returns
    -------
    Artefact
        Without a bitstream.
    """
    return _write(board, config, Path(folder), clock_hz, on_step, _STEPS_BEFORE_VIVADO)


def _write(board, config, folder, clock_hz, on_step, steps):
    if importlib.util.find_spec("amaranth") is None:
        raise UserError(
            "Building for a Zynq board needs the Python package amaranth, which is not installed "
            "here: install it with `pip install 'eftrain[hdl]'`."
        )
    clock_hz = int(clock_hz or board.clock_hz)
    if not CLOCK_HZ[0] <= clock_hz <= CLOCK_HZ[1]:
        raise UserError(
            f"A clock of {clock_hz / 1e6:g} MHz is out of range for {board.title}: choose one from "
            f"{CLOCK_HZ[0] // 10**6} to {CLOCK_HZ[1] // 10**6} MHz."
        )
    check_fits(config, board)
    _clear(folder)

    on_step(1, steps, f"Generating the {config.array} {config.format} gateware ...")
    from eftrain_hdl.verilog import generate

    from .devicetree import overlay
    from .zynq_top import ZynqTop

    text = generate(config)
    artefact = Artefact.describe(board, config, text, clock_hz=clock_hz)
    platform = platform_of(board.name, config.name, clock_hz)
    top = ZynqTop(config, platform.system, artefact.build_word)
    files = {
        # Without the scripts that Amaranth adds for its own way of running Vivado.
        **platform.project(top, TOP),
        f"{config.name}.v": text,
        "README.md": _readme(board, config, platform),
        "eftrain.dtso": overlay(platform.system, artefact),
    }
    on_step(2, steps, f"Writing the Vivado project to {folder} ...")
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return artefact.write(folder)


def platform_of(name, core, clock_hz):
    """A fresh platform of a board.

    Parameters
    ----------
    name : str
        Key of :data:`PLATFORMS`.
    core : str
        Module of the core.
    clock_hz : int
    """
    module, attribute = PLATFORMS[name]
    return getattr(importlib.import_module(module), attribute)(core, clock_hz)


def _clear(folder):
    """Make the folder, without results of an older build that would not belong to the new one."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --output needs a folder.")
    try:
        (folder / "report").mkdir(parents=True, exist_ok=True)
        for name in (*OUTPUTS, "eftrain.bin", *(f"report/{report}" for report in REPORTS)):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{folder} cannot be written ({reason}); choose another --output."
        ) from None


def _readme(board, config, platform):
    system = platform.system
    memory = system.memory
    narrow = memory[0].protocol == "AXI3"
    pins = ", ".join(f"{port.pin} ({port.name})" for port in memory)
    values = {
        "core": config.name,
        "title": board.title,
        "board": board.name,
        "part": board.part,
        "vivado": platform.vivado_version,
        "clock_mhz": platform.clock_mhz,
        "narrow": ", converters to 64-bit AXI3" if narrow else "",
        "control": system.control.pin,
        "base": f"{system.control_base:#x}",
        "memory": f"{pins}: {memory[0].widths['data']} bits, {memory[0].protocol}",
        "interrupt": f"{system.interrupt_pin}[0]",
    }
    from .zynq_platform import template

    text = template("README.md")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def check_version(vivado):
    """Version of this Vivado, as ``Vivado 2023.2``; ``BitstreamError`` if it is too old."""
    from .zynq_platform import VIVADO_VERSION

    try:
        done = subprocess.run(
            [vivado, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise BitstreamError(f"{vivado} cannot be run ({error.strerror or error}).") from None
    match = re.search(r"vivado v(\d+)\.(\d+)", done.stdout, re.IGNORECASE)
    if match is None:
        said = " ".join((done.stdout + done.stderr).split())[:200] or "nothing"
        raise BitstreamError(f"`{vivado} -version` does not say its version, but: {said}.")
    found = f"{match[1]}.{match[2]}"
    if (int(match[1]), int(match[2])) < tuple(map(int, VIVADO_VERSION.split("."))):
        raise BitstreamError(
            f"Vivado {found} is too old: {VIVADO_VERSION} or newer is needed to build this project."
        )
    return f"Vivado {found}"


def _run(vivado, folder, on_step):
    command = [vivado, "-mode", "batch", "-nojournal", "-log", "vivado.log", "-source", "build.tcl"]
    last, problem = "", None
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            for line in process.stdout:
                if match := _PROGRESS.match(line):
                    on_step(_STEPS_BEFORE_VIVADO + int(match[1]), STEPS, match[2])
                elif match := _ERROR.match(line):
                    problem = match[1]
                elif line.startswith("ERROR:"):
                    last = line.strip()
        except BaseException:
            process.terminate()
            raise
    if process.returncode or problem:
        why = problem or last or f"exit code {process.returncode}"
        raise BitstreamError(
            f"Vivado made no bitstream: {why.rstrip('.')}. See {folder / 'vivado.log'}."
        )


def _reports(folder, artefact, tool):
    """Write the reports as JSON, and make sure that timing is met."""
    report = folder / "report"
    try:
        timing = vivado_report.timing(
            (report / "timing.txt").read_text(),
            part=artefact.part, clock_hz=artefact.clock_hz, tool=tool,
        )  # fmt: skip
        name = "utilization.rpt"
        utilisation = vivado_report.utilisation(
            (report / name).read_text(errors="replace"), part=artefact.part
        )
    except (OSError, ValueError) as error:
        raise BitstreamError(f"A report of Vivado in {report} cannot be used: {error}.") from None
    for name, content in (("timing", timing), ("utilisation", utilisation)):
        (report / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    if not timing["met"]:
        for name in OUTPUTS:
            (folder / name).unlink(missing_ok=True)
        raise BitstreamError(f"Timing is not met; see {report / 'timing.json'}.")
