"""What a Zynq board's design takes of its part, counted by yosys.

On the command line::

    python -m platforms.board_resources                      # every preset of every board: hours
    python -m platforms.board_resources pynq-z1 8x8 bf16 --flat

The real top is synthesised, with the processing system's wrapper as a black box. The core in it is
counted block by block, as ``eftrain resources`` does, or (``--flat``) with the top in one piece, which
also optimises across the borders of the blocks. The block design's interconnect for the registers is
Vivado's and not counted; nothing is placed.

Numbers are kept in ``board_resources.json``, one entry a board, array and format: ``lut`` (logic cells,
without LUTs that serve as memory), ``memory_luts``, ``ff``, ``dsp``, ``bram36``, ``synthesis`` (``flat`` or
``blocks``).
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from eftrain import resources
from eftrain.boards import BOARDS, Family, find
from eftrain.errors import UserError
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.verilog_text import without_memory_loops

__all__ = ["RECORD", "area_script", "black_box", "load", "main", "measure", "module_ports"]

RECORD = Path(__file__).with_name("board_resources.json")

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
    cells, estimate = _synthesise(top + core, boxes, TOP, target)
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
        "synthesis": "flat" if flat else "blocks",
        **asdict(usage),
        "memory_luts": memory,
    }


def _synthesise(text, boxes, top, target):
    """Cells by kind, and yosys's estimate of the logic cells."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "top.v").write_text(text)
        (folder / "boxes.v").write_text(boxes)
        script = (
            # The top instantiates two flip-flops of the vendor's.
            "read_verilog -lib -specify +/xilinx/cells_sim.v",
            "read_verilog top.v",
            "read_verilog -lib boxes.v",
            f"hierarchy -check -top {top}",
            f"{target.command} -top {top}",
            f"tee -q -o count.json {target.statistics}",
        )
        (folder / "top.ys").write_text("\n".join(script) + "\n")
        resources.run_yosys(folder, "top.ys", top)
        count = (folder / "count.json").read_text()
    entry = json.loads(count[count.index("{") :])["modules"][f"\\{top}"]
    return Counter(entry["num_cells_by_type"]), entry["estimated_num_lc"]


def load():
    """(board, array, format): entry, of all that was measured."""
    entries = json.loads(RECORD.read_text()) if RECORD.is_file() else []
    return {(e["board"], e["array"], e["format"]): e for e in entries}
