"""Bitstreams for ECP5 boards: Amaranth, yosys, nextpnr and ecppack, all from PyPI.

A board needs an LFE5U-85F (or UM, UM5G), and in its amaranth-boards platform the resources
``sdram``, ``uart`` and a default clock; :mod:`.ecp5_boards` finds the platform.

A build leaves in its folder::

    eftrain.bit               config.json               eftrain.artefact
    report/timing.json        report/utilisation.json   ecp5_report
    log/yosys.log, placement-1.log ..., routing.log, ecppack.log

Placements differ by a tenth in the clock they reach, and routing takes far longer than placing. So
seeds are tried until an estimate of the placement is fast enough, and only the best is routed.

The same sources, seeds and tool versions give the same bitstream.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from eftrain.artefact import CONFIG_FILE, Artefact
from eftrain.errors import UserError
from eftrain_hdl.config import SystemConfig

from . import BitstreamError, ecp5_report, ecp5_tools, print_step
from .ecp5_boards import platform_of
from .ecp5_fit import check_counts, check_fits

__all__ = ["build", "implement", "platform_of"]

BITSTREAM = "eftrain.bit"
TOP = "top"

STEPS = 6

SEEDS = (1, 2, 3, 4)
"""What is tried if no seed is given."""


def build(board, config, folder, *, clock_hz=None, seed=None, on_step=print_step):
    """Build a board's bitstream.

    Parameters
    ----------
    board : eftrain.boards.Board
    config : CoreConfig
    folder : path
        Where the results go. An older build there is replaced once everything has succeeded.
    clock_hz : int, optional
        Clock of the whole system; the board's, if it is not given.
    seed : int, optional
        Of placement; :data:`SEEDS` are tried if it is not given.
    on_step : callable
        Called with index, number of steps and text as each step begins.

    Returns
    -------
    Artefact

    Raises
    ------
    UserError
        Before any work: a package is missing, the board lacks a part, the core does not fit, the
        clock cannot be made, the folder cannot be written.
    BitstreamError
        A tool failed or timing is not met; ``folder`` is as it was.
    """
    ecp5_tools.check_packages()
    from .ecp5_pll import pll_settings
    from .ecp5_top import CAPTURE, SystemTop, check_platform, sdram_phase

    platform = platform_of(board.name)
    check_platform(platform)
    check_fits(config, board.part)
    clock_hz = int(clock_hz or board.clock_hz)
    pll_settings(int(platform.default_clk_frequency), clock_hz, sdram_phase(clock_hz))
    folder = _checked_folder(folder)

    with _workshop(folder) as work:
        on_step(1, STEPS, f"Generating the {config.array} {config.format} gateware ...")
        from eftrain_hdl.system import SerialSystem
        from eftrain_hdl.verilog import generate

        digest = hashlib.sha256(generate(config).encode()).hexdigest()
        system = SystemConfig(
            core=config,
            clock_hz=clock_hz,
            capture=CAPTURE,
            memory_base=board.memory_base,
            build=int(digest[:8], 16),
        )
        implement(
            SystemTop(SerialSystem(system), clock_hz), platform, work,
            part=board.part, clock_hz=clock_hz, seed=seed, on_step=on_step,
        )  # fmt: skip
        artefact = Artefact.describe(board, config, digest, clock_hz=clock_hz, baud=system.baud)
        artefact.with_bitstream(work / BITSTREAM).write(work)
        return _install(work, folder)


def implement(top, platform, work, *, part, clock_hz, seed=None, on_step=print_step):
    """Run the tools on a top module and write bitstream, ``report/`` and ``log/`` into ``work``.

    Parameters
    ----------
    top : Elaboratable
        Requests what it needs of the platform.
    platform : amaranth.vendor.LatticePlatform
        Fresh: resources can be requested once.
    work : Path
        An empty folder.

    Returns
    -------
    dict, dict
        Timing and utilisation, as in ``report/``.

    Raises
    ------
    BitstreamError
        A tool failed, the design is too large, or timing is not met.
    """
    _write_design(top, platform, work)
    on_step(2, STEPS, "Synthesising with yosys ...")
    ecp5_tools.synthesise(work, TOP)
    netlist = ecp5_report.load(work / f"{TOP}.json")
    check_counts(netlist["modules"][TOP])
    seed = _place(work, platform, clock_hz, (seed,) if seed else SEEDS, on_step)
    on_step(4, STEPS, f"Routing the placement of seed {seed} ...")
    ecp5_tools.route(work, TOP, platform, seed)
    report = ecp5_report.load(work / "nextpnr.json")
    hierarchy = ecp5_report.Hierarchy.of_netlist(netlist, TOP)
    timing = ecp5_report.timing(
        report, hierarchy, part=part, seed=seed, requested_hz=clock_hz,
        tools=ecp5_tools.versions(),
    )  # fmt: skip
    if problem := ecp5_report.failing(timing):
        raise BitstreamError(problem)
    on_step(5, STEPS, "Packing the bitstream with ecppack ...")
    ecp5_tools.pack(work, TOP, BITSTREAM)
    on_step(6, STEPS, "Writing the reports ...")
    utilisation = ecp5_report.utilisation(report, netlist, TOP, hierarchy, part=part)
    for name, content in (("timing", timing), ("utilisation", utilisation)):
        path = work / "report" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
    (work / "log").mkdir()
    for log in work.glob("*.log"):
        log.rename(work / "log" / log.name)
    return timing, utilisation


def _place(work, platform, clock_hz, seeds, on_step):
    """Place until a seed is fast enough; returns the best seed."""
    reached = {}
    for seed in seeds:
        before = "".join(f"; seed {done} reaches {share:.0%}" for done, share in reached.items())
        on_step(3, STEPS, f"Placing with nextpnr, seed {seed}{before} ...")
        reached[seed] = ecp5_tools.place(work, TOP, platform, seed, clock_hz)
        if reached[seed] >= 1:
            break
    return max(reached, key=reached.get)


def _write_design(top, platform, work):
    """``top.il`` and ``top.lpf``: what Amaranth's own build would give to the tools."""
    # The copy of yosys that is installed with Amaranth, whatever else is on the PATH.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin,system")
    # Without source positions, so that the place of the sources is not part of the result.
    plan = platform.prepare(top, TOP, emit_src=False)
    for suffix in ("il", "lpf"):
        content = plan.files[f"{TOP}.{suffix}"]
        (work / f"{TOP}.{suffix}").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )


def _checked_folder(folder):
    folder = Path(folder).absolute()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --output needs a folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{folder} cannot be made ({reason}); choose another --output.") from None
    there = folder if folder.exists() else folder.parent
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written; choose another --output.")
    return folder


def _workshop(folder):
    """A folder on the same file system, removed with what was not taken out of it."""
    inside = folder if folder.is_dir() else folder.parent
    return _Workshop(prefix=".bitstream-", dir=inside)


class _Workshop(tempfile.TemporaryDirectory):
    def __enter__(self):
        return Path(super().__enter__())


def _install(work, folder):
    """Put a finished build in the place of an older one; the rest of the folder stays."""
    folder.mkdir(exist_ok=True)
    # The description goes first and comes last: without it nobody takes the rest for a build.
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    for name in ("report", "log", BITSTREAM, CONFIG_FILE):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        os.replace(work / name, folder / name)
    return Artefact.read(folder)
