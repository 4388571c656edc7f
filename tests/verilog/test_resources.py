"""``eftrain resources``: blocks, counting by instances, the table, the file, bad input."""

import json
from collections import Counter

import pytest

from eftrain import resources
from eftrain.errors import UserError
from eftrain.resources import TARGETS, Resources, SynthesisError, Usage, run
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.verilog_text import module_tree

TOY = """
module cell6(input clk, input [5:0] i, output reg o);
  always @(posedge clk) o <= ^i;
endmodule
module block(input clk, input [23:0] i, output [3:0] o);
  cell6 a(clk, i[5:0], o[0]);
  cell6 b(clk, i[11:6], o[1]);
  cell6 c(clk, i[17:12], o[2]);
  cell6 d(clk, i[23:18], o[3]);
endmodule
module buffer(input clk, input [9:0] r, w, input [35:0] i, output reg [35:0] o);
  reg [35:0] memory [1023:0];
  always @(posedge clk) begin
    memory[w] <= i;
    o <= memory[r];
  end
endmodule
module toy(input clk, input [47:0] i, input [35:0] x, output [7:0] o, output [35:0] y);
  block left(clk, i[23:0], o[3:0]);
  block right(clk, i[47:24], o[7:4]);
  buffer store(clk, i[9:0], i[19:10], x, y);
endmodule
"""
SOME = Resources(
    total=Usage(27_403, 9_000, 252, 91.5),
    blocks={"array": Usage(27_000, 8_000, 252, 90), "between blocks": Usage(403, 1_000, 0, 1.5)},
    memory_luts=137,
)


@pytest.fixture
def measured(monkeypatch):
    """Synthesis that takes no time; the calls of it."""
    calls = []
    monkeypatch.setattr(resources, "measure", lambda *given: calls.append(given) or SOME)
    return calls


@pytest.mark.parametrize("target, luts", [("xcup", 1), ("ecp5", 4)])
def test_a_module_counts_for_each_of_its_uses(target, luts):
    blocks = [("pair", "block"), ("pair", "block"), ("store", "buffer")]
    alone = ["block", "buffer", "cell6"]
    count = resources._synthesise(TOY, "toy", alone, TARGETS[target])
    found = resources._count(TARGETS[target], count, "toy", blocks)
    # An exclusive or of six bits and a flip-flop, eight times.
    assert found.blocks["pair"] == Usage(lut=8 * luts, ff=8, dsp=0, bram36=0)
    assert found.blocks["store"].bram36 == 1
    assert found.memory_luts == 0
    total = sum(found.blocks.values(), Usage(0, 0, 0, 0))
    assert total == found.total


def test_yosys_has_the_last_word():
    with pytest.raises(SynthesisError, match="yosys fails on toy:\n(.*\n)*.*syntax error"):
        resources._synthesise("module toy(; endmodule", "toy", [], TARGETS["xcup"])


def test_blocks_of_a_core(small_core):
    text, name = small_core
    tree = module_tree(text)
    blocks = resources._blocks(tree, name)
    names = [block for block, _ in blocks]
    assert {"array", "accumulator", "stream buffer", "stationary buffer", "epilogue"} <= set(names)
    assert {"control", "stream prologue", "vector"} <= set(names)
    # Seven chains and four buses, of which three have two clients or more.
    assert Counter(names) >= Counter({"memory chains": 7, "register slices": 4, "arbiters": 3})
    # Containers, and what is synthesised with the logic between the blocks.
    assert not {"ports", "component", "engine", "kernel", "walker", "sequencer"} & set(names)
    array = dict(blocks)["array"]
    # Four equal rows.
    assert [instance for instance, _ in tree[array]] == [f"row{i}" for i in range(4)]
    assert len({module for _, module in tree[array]}) == 1


def test_table_and_file(measured, tmp_path, capsys):
    path = tmp_path / "resources.json"
    run("8x8", "bf16", "xc7", part="pynq-z1", json=path)
    assert measured == [(CoreConfig.parse("8x8", "bf16"), "xc7")]
    assert capsys.readouterr().out == (
        "Synthesising eftrain_8x8_bf16 for xc7; large arrays take minutes.\n"
        "block              LUT     FF     DSP  BRAM36\n"
        "array           27,000  8,000     252      90\n"
        "between blocks     403  1,000       0     1.5\n"
        "whole core      27,403  9,000     252    91.5\n"
        "of pynq-z1       51.5%   8.5%  114.5%   65.4%\n"
        "137 LUTs that serve as memory are not in this estimate; with them 51.8%.\n"
    )
    written = json.loads(path.read_text())
    assert list(written) == ["total", "blocks"]
    assert written["total"] == {"lut": 27_403, "ff": 9_000, "dsp": 252, "bram36": 91.5}
    assert list(written["blocks"]) == ["array", "between blocks"]
    assert all(set(b) == {"lut", "ff", "dsp", "bram36"} for b in written["blocks"].values())


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"array": "7x7"}, "Array 7x7 is no multiple of the channel group 4"),
        ({"array": "big"}, "Array 'big' is not written ROWSxLANES"),
        ({"format": "fp8"}, "Number format 'fp8' is unknown"),
        ({"target": "ice40"}, "The target 'ice40' is unknown; choose one of xcup, xc7, ecp5."),
        ({"part": "vu9p"}, "The part 'vu9p' is unknown; choose one of zcu102, pynq-z1, ulx3s."),
        ({"part": "ulx3s"}, "The part of ulx3s is of the family ecp5, not xcup"),
        ({"json": "missing/folder/r.json"}, "The folder missing/folder of r.json does not exist."),
        ({"json": "."}, ". is a folder; --json needs the name of a file."),
    ],
)
def test_bad_input_is_one_sentence(measured, capsys, changed, message):
    with pytest.raises(UserError) as error:
        run(**changed)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert (measured, capsys.readouterr().out) == ([], "")
