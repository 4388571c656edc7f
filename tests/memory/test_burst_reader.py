# amaranth: UnusedElaboratable=no
"""Burst reader and read arbiter, against an AXI memory model under cocotb."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from eftrain_hdl.memory import (
    AxiReadSignature,
    BeatLayout,
    BurstReader,
    FlatPorts,
    ReadArbiter,
    RunLayout,
)
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_burst_reader"


class ReaderBench(wiring.Component):
    """One reader by itself, and two narrower ones behind an arbiter."""

    run: In(stream.Signature(RunLayout(32)))
    o: Out(stream.Signature(BeatLayout(128)))
    m_axi: Out(AxiReadSignature(32, 128, 1))
    window_base: In(32)
    window_limit: In(32)
    halt: In(1)
    idle: Out(1)
    error: Out(2)

    run0: In(stream.Signature(RunLayout(32)))
    run1: In(stream.Signature(RunLayout(32)))
    o0: Out(stream.Signature(BeatLayout(64)))
    o1: Out(stream.Signature(BeatLayout(64)))
    n_axi: Out(AxiReadSignature(32, 64, 1))
    idle0: Out(1)
    idle1: Out(1)
    error0: Out(2)
    error1: Out(2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = BurstReader()
        connect(m, flipped(self.run), reader.run)
        connect(m, flipped(self.o), reader.o)
        connect(m, flipped(self.m_axi), reader.bus)
        m.d.comb += [
            reader.window_base.eq(self.window_base),
            reader.window_limit.eq(self.window_limit),
            reader.halt.eq(self.halt),
            self.idle.eq(reader.idle),
            self.error.eq(reader.error),
        ]

        m.submodules.arbiter = arbiter = ReadArbiter(data_bits=64)
        connect(m, flipped(self.n_axi), arbiter.bus)
        for index, client in enumerate((arbiter.client0, arbiter.client1)):
            narrow = BurstReader(data_bits=64, axi_id=index, max_burst_beats=16, max_outstanding=4)
            m.submodules[f"narrow{index}"] = narrow
            connect(m, flipped(getattr(self, f"run{index}")), narrow.run)
            connect(m, flipped(getattr(self, f"o{index}")), narrow.o)
            connect(m, narrow.bus, client)
            m.d.comb += [
                narrow.window_base.eq(self.window_base),
                narrow.window_limit.eq(self.window_limit),
                getattr(self, f"idle{index}").eq(narrow.idle),
                getattr(self, f"error{index}").eq(narrow.error),
            ]
        return m


@pytest.fixture(scope="module")
def model():
    return build_testbench(FlatPorts(ReaderBench()), name="burst_reader")


@pytest.mark.parametrize(
    "testcase",
    [
        "sweep_across_page",
        "many_random_runs",
        "request_rate",
        "data_rate",
        "bus_error",
        "bus_error_with_many_in_flight",
        "ready_waits_for_valid",
        "foreign_beats",
        "refused_runs",
        "halt_and_reuse",
        "arbiter_shares_bus",
    ],
)
def test_reader(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_bits": 96}, "data_bits must be a power of two from 8 to 1024, not 96."),
        ({"address_bits": 8}, "address_bits must be an integer from 13 to 64, not 8."),
        ({"id_bits": 0}, "id_bits must be an integer from 1 to 32, not 0."),
        ({"axi_id": 2}, "axi_id must be an integer of 1 bit, not 2."),
        ({"max_burst_beats": 257}, "max_burst_beats must be an integer from 1 to 256, not 257."),
        ({"max_outstanding": 0}, "max_outstanding must be an integer from 1 to 256, not 0."),
    ],
)
def test_reader_parameters(arguments, message):
    with pytest.raises(ValueError) as caught:
        BurstReader(**arguments)
    assert str(caught.value) == message


def test_flat_ports_names():
    flat = FlatPorts(BurstReader(), prefixes={"bus": "m_axi", "o": "beat"})
    names = set(flat.signature.members)
    assert {"m_axi_araddr", "m_axi_rready", "run_address", "run_valid", "beat_data"} <= names
    assert not any("__" in name or "payload" in name for name in names)


def test_flat_ports_refuses_unknown_port():
    with pytest.raises(ValueError, match="no port 'axi' to rename"):
        FlatPorts(BurstReader(), prefixes={"axi": "m_axi"})
