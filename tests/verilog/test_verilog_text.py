"""Rewriting of generated Verilog: equal modules are shared, memories are cleared in loops."""

import pytest

from eftrain_hdl.verilog_text import (
    module_tree,
    with_memory_loops,
    with_shared_modules,
    without_memory_loops,
)

LEAF = """module \\top.{name} ({ports});
  reg \\$auto$verilog_backend.cc:2355:dump_module${number}  = 0;
  input clk;
  wire clk;
  input [1:0] \\port${number}$0 ;
  wire [1:0] \\port${number}$0 ;
  output o;
  reg o;
  always @* begin
    if (\\$auto$verilog_backend.cc:2355:dump_module${number} ) begin end
    o = {operation} \\port${number}$0 ;
  end
endmodule

"""
INNER = """module \\top.{name} (clk, o, \\port${number}$7 );
  input clk;
  wire clk;
  input [1:0] \\port${number}$7 ;
  wire [1:0] \\port${number}$7 ;
  output o;
  wire o;
  \\top.{leaf}  leaf (
    .clk(clk),
    .o(o),
    .\\port${leaf_number}$0 (\\port${number}$7 )
  );
endmodule

"""
MEMORY = """  reg [3:0] memory [3:0];
  initial begin
    memory[0] = 4'h0;
    memory[1] = 4'h0;
    memory[2] = 4'h{last};
    memory[3] = 4'h0;
  end
"""


def leaf(name, number, *, operation="|", ports="clk, o, {}"):
    ports = ports.format(f"\\port${number}$0 ")
    return LEAF.format(name=name, number=number, operation=operation, ports=ports)


def inner(name, number, leaf_name, leaf_number):
    return INNER.format(name=name, number=number, leaf=leaf_name, leaf_number=leaf_number)


def test_equal_modules_are_written_once():
    text = leaf("a", 12) + leaf("b", 345, ports="{}, o, clk") + leaf("c", 6, operation="&")
    shared = with_shared_modules(text)
    assert list(module_tree(shared)) == ["top.a", "top.c"]
    # Different numbers and ports in another order are no difference, another operation is one.
    assert "\\port$0 " in shared and "$12" not in shared


def test_modules_of_equal_parts_are_equal():
    text = (
        inner("x", 900, "x.leaf", 31)
        + leaf("x.leaf", 31)
        + inner("y", 55, "y.leaf", 4)
        + leaf("y.leaf", 4)
        + inner("z", 56, "z.leaf", 5)
        + leaf("z.leaf", 5, operation="&")
    )
    shared = with_shared_modules(text)
    assert module_tree(shared) == {
        "top.x": [("leaf", "top.x.leaf")],
        "top.x.leaf": [],
        "top.z": [("leaf", "top.z.leaf")],
        "top.z.leaf": [],
    }
    # The port of the instance by the leaf's new name, what it connects by the new name here.
    assert "    .\\port$0 (\\port$0 )\n" in shared


@pytest.mark.parametrize("last", [0, 1])
def test_only_zeros_become_a_loop(last):
    text = MEMORY.format(last=last)
    looped = with_memory_loops(text)
    if last:
        assert looped == text
    else:
        assert "< 4;" in looped and "memory[2]" not in looped
        assert without_memory_loops(looped) == "  reg [3:0] memory [3:0];\n"
