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
    WriteArbiter,
)
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_burst_reader"


class ReaderBench(wiring.Component):
    """One reader by itself, and two behind an arbiter: narrower ones, or all with landing beats."""

    def __init__(self, *, landing):
        self._single = {"landing_beats": 512} if landing else {}
        self._shared = (
            {"landing_beats": 512}
            if landing
            else {"data_bits": 64, "max_burst_beats": 16, "max_outstanding": 4}
        )
        self._shared_bits = self._shared.get("data_bits", 128)
        run = In(stream.Signature(RunLayout(32)))
        shared_beats = Out(stream.Signature(BeatLayout(self._shared_bits)))
        super().__init__(
            {
                "run": run,
                "o": Out(stream.Signature(BeatLayout(128))),
                "m_axi": Out(AxiReadSignature(32, 128, 1)),
                "window_base": In(32),
                "window_limit": In(32),
                "halt": In(1),
                "idle": Out(1),
                "error": Out(2),
                "run0": run,
                "run1": run,
                "o0": shared_beats,
                "o1": shared_beats,
                "n_axi": Out(AxiReadSignature(32, self._shared_bits, 1)),
                "idle0": Out(1),
                "idle1": Out(1),
                "error0": Out(2),
                "error1": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = BurstReader(**self._single)
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

        m.submodules.arbiter = arbiter = ReadArbiter(data_bits=self._shared_bits)
        connect(m, flipped(self.n_axi), arbiter.bus)
        for index, client in enumerate((arbiter.client0, arbiter.client1)):
            shared = BurstReader(axi_id=index, **self._shared)
            m.submodules[f"shared{index}"] = shared
            connect(m, flipped(getattr(self, f"run{index}")), shared.run)
            connect(m, flipped(getattr(self, f"o{index}")), shared.o)
            connect(m, shared.bus, client)
            m.d.comb += [
                shared.window_base.eq(self.window_base),
                shared.window_limit.eq(self.window_limit),
                getattr(self, f"idle{index}").eq(shared.idle),
                getattr(self, f"error{index}").eq(shared.error),
            ]
        return m


@pytest.fixture(scope="module")
def model():
    return build_testbench(FlatPorts(ReaderBench(landing=False)), name="burst_reader")


@pytest.fixture(scope="module")
def landing_model():
    return build_testbench(FlatPorts(ReaderBench(landing=True)), name="burst_reader_landing")


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
    "testcase",
    [
        "sweep_across_page",
        "many_random_runs",
        "data_rate",
        "bus_error",
        "ready_waits_for_valid",
        "foreign_beats",
        "refused_runs",
        "halt_and_reuse",
        "arbiter_shares_bus",
        "landing_claims_room",
        "landing_shared_rate",
        "landing_blocked_neighbour",
    ],
)
def test_landing_reader(landing_model, testcase):
    assert landing_model.run(TESTBENCH, testcase=testcase) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_bits": 96}, "data_bits must be a power of two from 8 to 1024, not 96."),
        ({"address_bits": 8}, "address_bits must be an integer from 13 to 64, not 8."),
        ({"id_bits": 0}, "id_bits must be an integer from 1 to 32, not 0."),
        ({"axi_id": 2}, "axi_id must be an integer of 1 bit, not 2."),
        ({"max_burst_beats": 257}, "max_burst_beats must be an integer from 1 to 256, not 257."),
        ({"max_outstanding": 0}, "max_outstanding must be an integer from 1 to 256, not 0."),
        (
            {"landing_beats": 64},
            "landing_beats must be 0 or at least 128, two longest bursts, not 64.",
        ),
    ],
)
def test_reader_parameters(arguments, message):
    with pytest.raises(ValueError) as caught:
        BurstReader(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("make", [ReadArbiter, WriteArbiter])
def test_arbiter_parameters(make):
    with pytest.raises(ValueError, match="clients must be an integer from 2 to 2, .* not 3"):
        make(clients=3)
    assert make(clients=3, id_bits=2)


def test_flat_ports_names():
    flat = FlatPorts(BurstReader(), prefixes={"bus": "m_axi", "o": "beat"})
    names = set(flat.signature.members)
    assert {"m_axi_araddr", "m_axi_rready", "run_address", "run_valid", "beat_data"} <= names
    assert not any("__" in name or "payload" in name for name in names)


def test_flat_ports_refuses_unknown_port():
    with pytest.raises(ValueError, match="no port 'axi' to rename"):
        FlatPorts(BurstReader(), prefixes={"axi": "m_axi"})
