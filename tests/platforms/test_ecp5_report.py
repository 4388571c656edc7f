"""Reports by block, from what nextpnr and yosys write."""

import pytest

from platforms import BitstreamError
from platforms.ecp5_fit import check_counts
from platforms.ecp5_report import Hierarchy, failing, timing, utilisation
from platforms.ecp5_tools import without_idle_carries

SCOPES = (
    "system", "system.core", "system.core.engine", "system.core.engine.kernel",
    "system.core.engine.kernel.array", "system.core.engine.kernel.array.row0",
    "system.core.engine.stream_chain", "system.core.engine.stream_chain.runs", "system.memory",
    "system.bridge.uart",
)  # fmt: skip
HIERARCHY = Hierarchy(SCOPES)


def hop(kind, delay, source, target):
    return {
        "type": kind,
        "delay": delay,
        "from": {"cell": source, "port": "Q", "loc": [1, 2]},
        "to": {"cell": target, "port": "D", "loc": [3, 4]},
    }


CHAIN, ROW = "system.core.engine.stream_chain.runs.x_FF", "system.core.engine.kernel.array.row0.y"
REPORT = {
    "fmax": {"$glbnet$clk": {"achieved": 47.5, "constraint": 50.0}},
    "critical_paths": [
        {
            "from": "posedge $glbnet$clk",
            "to": "posedge $glbnet$clk",
            "path": [
                hop("clk-to-q", 0.5, CHAIN, CHAIN),
                hop("routing", 2.0, CHAIN, ROW),
                hop("logic", 0.25, ROW, ROW),
                hop("routing", 18.0, ROW, ROW + "_LUT4"),
                hop("setup", 0.3, ROW + "_LUT4", ROW + "_LUT4"),
            ],
        },
        {"from": "<async>", "to": "posedge $glbnet$clk", "path": [hop("source", 99, "a", "b")]},
    ],
    "utilization": {
        "TRELLIS_COMB": {"used": 41_820, "available": 83_640},
        "TRELLIS_FF": {"used": 100, "available": 83_640},
        "DP16KD": {"used": 2, "available": 208},
        "MULT18X18D": {"used": 39, "available": 156},
        "EHXPLLL": {"used": 1, "available": 4},
        "TRELLIS_IO": {"used": 50, "available": 365},
    },
}


def report(achieved=47.5):
    changed = {**REPORT, "fmax": {"$glbnet$clk": {"achieved": achieved, "constraint": 50.0}}}
    return timing(
        changed, HIERARCHY, part="LFE5U-85F-6BG381C", seed=3, requested_hz=50e6, tools="nextpnr 0"
    )


@pytest.mark.parametrize(
    "cell, block",
    [
        (CHAIN, "stream chain"),
        (ROW, "array"),
        # Named after a net of the kernel itself, whose name has a dot of its own.
        ("system.core.engine.kernel.data.words[3]_LUT4_Z", "kernel"),
        ("system.memory.cells", "SDRAM controller"),
        ("system.irq_LUT4", "system"),
        ("$PACKER_VCC", "rest"),
        ("beat_TRELLIS_FF_Q", "rest"),
    ],
)
def test_block_of_a_cell(cell, block):
    assert HIERARCHY.block(cell) == block


def test_timing_by_block():
    clock = report()["clocks"]["clk"]
    assert clock["fmax_mhz"] == 47.5
    assert clock["slack_ns"] == pytest.approx(1000 / 50 - 1000 / 47.5, abs=1e-3)
    path = clock["critical_path"]
    assert (path["from"], path["to"]) == ("stream chain", "array")
    assert path["blocks"] == [
        {"block": "stream chain", "delay_ns": 0.5},
        {"block": "array", "delay_ns": 20.55},
    ]
    assert path["delay_ns"] == pytest.approx(path["logic_ns"] + path["routing_ns"])
    assert path["routing_ns"] == 20
    assert len(path["cells"]) == 5


def test_failure_names_clock_frequency_and_block():
    assert not report()["met"]
    assert failing(report()).startswith(
        "Timing is not met: the clock clk reaches 47.5 MHz of the 50 MHz asked for; the critical "
        "path, from stream chain to array, spends 20.6 of 21.1 ns in array."
    )
    assert report(50.0)["met"]
    assert failing(report(50.0)) is None


def test_a_clock_without_a_constraint_is_held_to_the_request():
    entry = {"achieved": 40.0}
    found = timing(
        {"fmax": {"clk": entry}, "critical_paths": []},
        HIERARCHY,
        part="",
        seed=1,
        requested_hz=50e6,
    )
    assert found["clocks"]["clk"]["requested_mhz"] == 50
    assert not found["met"]
    assert "reaches 40.0 MHz" in failing(found)


def test_utilisation_by_block():
    kinds = {
        CHAIN: "TRELLIS_FF",
        CHAIN + "2": "TRELLIS_DPR16X4",
        ROW: "LUT4",
        ROW + "2": "CCU2C",
        ROW + "3": "MULT18X18D",
        "system.memory.store": "DP16KD",
        "stray": "LUT4",
        "system": "$scopeinfo",
    }
    netlist = {"modules": {"top": {"cells": {name: {"type": k} for name, k in kinds.items()}}}}
    found = utilisation(REPORT, netlist, "top", HIERARCHY, part="LFE5U-85F-6BG381C")
    assert found["total"]["LUT4"] == {"used": 41_820, "available": 83_640, "percent": 50.0}
    assert found["total"]["MULT18X18D"]["percent"] == 25.0
    nothing = {"LUT4": 0, "FF": 0, "DP16KD": 0, "MULT18X18D": 0}
    assert found["blocks"] == {
        "stream chain": {**nothing, "LUT4": 6, "FF": 1},
        "array": {**nothing, "LUT4": 3, "MULT18X18D": 1},
        "rest": {**nothing, "LUT4": 1},
        "SDRAM controller": {**nothing, "DP16KD": 1},
    }
    assert list(found["blocks"])[0] == "stream chain"


def test_only_carries_that_go_nowhere_are_left_open():
    def adder(carry_in, carry_out):
        return {"type": "CCU2C", "connections": {"CIN": [carry_in], "COUT": [carry_out]}}

    module = {
        "ports": {"o": {"bits": [5]}},
        "cells": {
            "low": adder("0", 2),
            "high": adder(2, 3),
            "compare": adder("1", 4),
            "port": adder("0", 5),
            "lut": {"type": "LUT4", "connections": {"A": [4], "Z": [6]}},
        },
    }
    without_idle_carries(module)
    carries = {name: cell["connections"].get("COUT") for name, cell in module["cells"].items()}
    assert carries == {"low": [2], "high": ["x"], "compare": [4], "port": [5], "lut": None}


def test_a_netlist_that_is_too_large_is_named_before_placement():
    cells = {str(n): {"type": "TRELLIS_DPR16X4"} for n in range(13_940)}
    check_counts({"cells": cells})
    cells["one more"] = {"type": "LUT4"}
    with pytest.raises(BitstreamError, match="it needs 83,641 LUT4 of 83,640; choose a smaller"):
        check_counts({"cells": cells})
    multipliers = {str(n): {"type": "MULT18X18D"} for n in range(157)}
    with pytest.raises(BitstreamError, match="157 MULT18X18D of 156"):
        check_counts({"cells": multipliers})
