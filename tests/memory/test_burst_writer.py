# amaranth: UnusedElaboratable=no
"""Burst writer, against an AXI memory model under cocotb."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from eftrain_hdl.memory import (
    AxiWriteSignature,
    BurstWriter,
    FlatPorts,
    RunLayout,
    WriteArbiter,
)
from sim.cocotb_build import CocotbFailure, build_testbench

TESTBENCH = "sim.testbenches.tb_burst_writer"


class WriterBench(wiring.Component):
    """One writer of the default size, and a narrow one with few bursts; two behind an arbiter.

    Those of the pair always store their beats, the others if ``stored``.
    """

    run: In(stream.Signature(RunLayout(32)))
    i: In(stream.Signature(128))
    m_axi: Out(AxiWriteSignature(32, 128, 1))
    window_base: In(32)
    window_limit: In(32)
    halt: In(1)
    idle: Out(1)
    error: Out(2)

    run0: In(stream.Signature(RunLayout(32)))
    i0: In(stream.Signature(32))
    n_axi: Out(AxiWriteSignature(32, 32, 1))
    idle0: Out(1)
    error0: Out(2)

    run1: In(stream.Signature(RunLayout(32)))
    run2: In(stream.Signature(RunLayout(32)))
    i1: In(stream.Signature(128))
    i2: In(stream.Signature(128))
    p_axi: Out(AxiWriteSignature(32, 128, 1))
    idle1: Out(1)
    idle2: Out(1)
    error1: Out(2)
    error2: Out(2)

    def __init__(self, *, stored):
        self._stored = stored
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        wide_store, narrow_store = (128, 32) if self._stored else (0, 0)
        m.submodules.wide = wide = BurstWriter(stored_beats=wide_store)
        m.submodules.narrow = narrow = BurstWriter(
            data_bits=32, max_burst_beats=16, max_outstanding=2, stored_beats=narrow_store
        )
        m.submodules.one = one = BurstWriter(axi_id=0, stored_beats=128, max_outstanding=32)
        m.submodules.other = other = BurstWriter(axi_id=1, stored_beats=128, max_outstanding=32)
        m.submodules.arbiter = arbiter = WriteArbiter()
        connect(m, arbiter.bus, flipped(self.p_axi))
        connect(m, one.bus, arbiter.client0)
        connect(m, other.bus, arbiter.client1)
        connect(m, wide.bus, flipped(self.m_axi))
        connect(m, narrow.bus, flipped(self.n_axi))
        for writer, suffix in ((wide, ""), (narrow, "0"), (one, "1"), (other, "2")):
            connect(m, flipped(getattr(self, f"run{suffix}")), writer.run)
            connect(m, flipped(getattr(self, f"i{suffix}")), writer.i)
            m.d.comb += [
                writer.window_base.eq(self.window_base),
                writer.window_limit.eq(self.window_limit),
                writer.halt.eq(self.halt),
                getattr(self, f"idle{suffix}").eq(writer.idle),
                getattr(self, f"error{suffix}").eq(writer.error),
            ]
        return m


@pytest.fixture(scope="module")
def model():
    return build_testbench(FlatPorts(WriterBench(stored=False)), name="burst_writer")


@pytest.fixture(scope="module")
def stored_model():
    return build_testbench(FlatPorts(WriterBench(stored=True)), name="burst_writer_stored")


@pytest.mark.parametrize(
    "testcase",
    [
        "sweep_across_page",
        "many_random_runs",
        "data_rate",
        "data_long_after_run",
        "ready_waits_for_valid",
        "bus_error",
        "refused_runs",
        "halt_and_reuse",
        "arbiter_random_runs",
        "arbiter_rate",
        "arbiter_starved_neighbour",
        "arbiter_halt",
    ],
)
def test_writer(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1


@pytest.mark.parametrize(
    "testcase",
    [
        "sweep_across_page",
        "many_random_runs",
        "data_rate",
        "stored_data_first",
        "ready_waits_for_valid",
        "bus_error",
        "refused_runs",
        "halt_and_reuse",
    ],
)
def test_stored_writer(stored_model, testcase):
    environment = {"STORED": "1"}
    assert stored_model.run(TESTBENCH, testcase=testcase, environment=environment) == 1


def test_missing_testcase_is_a_failure(model):
    with pytest.raises(CocotbFailure, match="No cocotb test 'no_such_test' ran"):
        model.run(TESTBENCH, testcase="no_such_test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_bits": 48}, "data_bits must be a power of two from 8 to 1024, not 48."),
        ({"max_burst_beats": 0}, "max_burst_beats must be an integer from 1 to 256, not 0."),
        ({"max_outstanding": 257}, "max_outstanding must be an integer from 1 to 256, not 257."),
        (
            {"stored_beats": 127},
            "stored_beats must be 0 or at least 128, two longest bursts, not 127.",
        ),
    ],
)
def test_writer_parameters(arguments, message):
    with pytest.raises(ValueError) as caught:
        BurstWriter(**arguments)
    assert str(caught.value) == message
