"""Reports by block, from what nextpnr and yosys write."""

import pytest

from platforms.ecp5_report import Hierarchy, failing, timing, utilisation

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
