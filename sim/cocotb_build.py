"""Builds an Amaranth component with Verilator and runs cocotb testbenches on it.

One build costs tens of seconds and a run less than one, so a test module builds once and runs each
of its cocotb tests on that model::

    model = build_testbench(component, name="burst_reader")
    model.run("sim.testbenches.tb_burst_reader", testcase="round_trip")

Models live in ``build/cocotb/<name>``; an unchanged component is not compiled again. Test processes
that want the same model at the same time build it once: the others wait.
"""

import contextlib
import fcntl
import os
import sys
from pathlib import Path

from amaranth.back import verilog
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from sim.toolchain import verilator_environment

__all__ = ["CocotbFailure", "CocotbModel", "build_testbench", "build_verilog"]

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD_ROOT = REPOSITORY / "build" / "cocotb"

_VERILATOR_ARGUMENTS = (
    # Amaranth's Verilog is free of the mistakes that these two look for, but not of their pattern.
    "-Wno-WIDTH",
    "-Wno-CASEINCOMPLETE",
    # cocotb makes every signal public, which trebles a large model: the ports are enough.
    "--no-public-flat-rw",
    "--public-depth",
    "1",
)


class CocotbFailure(AssertionError):
    """A build or a cocotb test failed; the message ends with the last lines of its log."""


def _last_lines(path, count=40):
    if not path.is_file():
        return "(no log was written)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])


@contextlib.contextmanager
def _locked(path):
    """Only one process at a time is inside; the lock goes away with the process that holds it."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class CocotbModel:
    """A built simulation model, made by :func:`build_testbench`.

    Attributes
    ----------
    directory : :class:`pathlib.Path`
        Where the model, its Verilog, logs and results are.
    """

    def __init__(self, runner, *, toplevel, directory):
        self._runner = runner
        self._toplevel = toplevel
        self.directory = directory

    def run(self, test_module, *, testcase=None, seed=1, environment=None):
        """Run cocotb tests on the model.

        Parameters
        ----------
        test_module : :class:`str`
            Import path of the module that holds the cocotb tests.
        testcase : :class:`str` or :py:`None`
            Name of the one test to run; all of them if :py:`None`.
        seed : :class:`int`
            Seed of Python's ``random`` inside the simulation; printed in the log.
        environment : :class:`dict` or :py:`None`
            Environment variables for the testbench.

        Returns
        -------
        :class:`int`
            How many tests ran; never 0.

        Raises
        ------
        :exc:`CocotbFailure`
            If a test failed, or none ran.
        """
        label = testcase or "all"
        log = self.directory / f"{label}.log"
        results = self.directory / f"{label}.xml"
        results.unlink(missing_ok=True)
        search_path = list(sys.path)
        # The simulator's Python inherits this one's search path, and must find `sim` as well.
        sys.path.insert(0, str(REPOSITORY))
        try:
            self._runner.test(
                test_module=test_module,
                hdl_toplevel=self._toplevel,
                test_filter=None if testcase is None else rf"(^|.*\.){testcase}$",
                build_dir=self.directory,
                results_xml=str(results),
                log_file=log,
                seed=seed,
                extra_env=environment or {},
            )
        except SystemExit:
            pass  # The results below say what failed.
        finally:
            sys.path[:] = search_path
        try:
            ran, failed = get_results(results)
        except RuntimeError:
            ran, failed = 0, 0
        if failed:
            raise CocotbFailure(
                f"{failed} of {ran} cocotb tests failed (seed {seed}, log {log}):\n"
                f"{_last_lines(log)}"
            )
        if ran == 0:
            raise CocotbFailure(
                f"No cocotb test {label!r} ran in {test_module} (log {log}):\n{_last_lines(log)}"
            )
        return ran


def build_testbench(component, *, name, toplevel="top"):
    """Convert a component to Verilog and build it for cocotb with Verilator.

    Nested ports come out as ``bus__araddr``; wrap the component in
    :class:`eftrain_hdl.memory.FlatPorts` to get ``m_axi_araddr``. The clock is ``clk``, the
    synchronous reset ``rst``.

    Parameters
    ----------
    component : :class:`amaranth.lib.wiring.Component`
        Top of the model.
    name : :class:`str`
        Folder under ``build/cocotb``; use one name for one configuration.
    toplevel : :class:`str`
        Name of the Verilog top module.

    Returns
    -------
    :class:`CocotbModel`

    Raises
    ------
    :exc:`sim.toolchain.ToolchainError`
        If Verilator or a program that it needs is missing.
    :exc:`CocotbFailure`
        If Verilator or the C++ compiler refuses the component.
    """
    text = verilog.convert(component, name=toplevel, emit_src=False)
    return build_verilog(text, name=name, toplevel=toplevel)


def build_verilog(text, *, name, toplevel, arguments=()):
    """Build a Verilog text for cocotb with Verilator.

    Parameters
    ----------
    text : :class:`str`
        The Verilog.
    name, toplevel : :class:`str`
        As for :func:`build_testbench`.
    arguments : iterable of :class:`str`
        Further arguments of Verilator.

    Returns
    -------
    :class:`CocotbModel`

    Raises
    ------
    :exc:`sim.toolchain.ToolchainError`, :exc:`CocotbFailure`
        As for :func:`build_testbench`.
    """
    directory = BUILD_ROOT / name
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "build.lock"):
        return _build(text, name, toplevel, directory, [*_VERILATOR_ARGUMENTS, *arguments])


def _build(text, name, toplevel, directory, arguments):
    source = directory / f"{toplevel}.v"
    if not source.is_file() or source.read_text() != text:
        source.write_text(text)
        # A precompiled header of an earlier build would be taken for the present one.
        for stale in directory.glob("*.gch"):
            stale.unlink()
    log = directory / "build.log"
    with verilator_environment():
        runner = get_runner("verilator")
        try:
            runner.build(
                sources=[source],
                hdl_toplevel=toplevel,
                build_dir=directory,
                build_args=arguments,
                timescale=("1ns", "1ps"),
                log_file=log,
            )
        except (RuntimeError, SystemExit):
            # Not an older model in its place.
            raise CocotbFailure(
                f"The build of model {name!r} failed (log {log}):\n{_last_lines(log)}"
            ) from None
    if not os.access(directory / toplevel, os.X_OK):
        raise CocotbFailure(f"The build of model {name!r} left no program (log {log}).")
    return CocotbModel(runner, toplevel=toplevel, directory=directory)
