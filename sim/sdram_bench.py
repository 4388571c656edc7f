"""The SDRAM model of ``sim/sdram_model.sv`` in Amaranth, and a controller behind it."""

from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from eftrain_hdl.memory import AxiReadSignature, AxiWriteSignature, FlatPorts
from eftrain_hdl.memory.axi_arbiter import AxiReadArbiter, AxiWriteArbiter
from eftrain_hdl.sdram import SdramController, SdramPins
from sim.cocotb_build import build_verilog
from sim.testbenches.sdram_traffic import ReadTraffic, WriteTraffic

__all__ = ["MODEL_SOURCE", "SdramBench", "SdramModel", "build_bench", "model_parameters"]

MODEL_SOURCE = Path(__file__).resolve().parent / "sdram_model.sv"


def model_parameters(part, clock_hz):
    """Parameters of ``sdram_model`` for a part at a clock."""

    def ps(nanoseconds):
        return round(nanoseconds * 1000)

    return {
        "ROW_BITS": part.row_bits,
        "COLUMN_BITS": part.column_bits,
        "CLOCK_PS": 10**12 // clock_hz,
        "T_CK2_PS": ps(part.t_ck2),
        "T_CK3_PS": ps(part.t_ck3),
        "T_RCD_PS": ps(part.t_rcd),
        "T_RP_PS": ps(part.t_rp),
        "T_RAS_PS": ps(part.t_ras),
        "T_RAS_MAX_NS": round(part.t_ras_max),
        "T_RC_PS": ps(part.t_rc),
        "T_RRD_PS": ps(part.t_rrd),
        "T_WR_PS": ps(part.t_wr),
        "T_RFC_PS": ps(part.t_rfc),
        "T_MRD_PS": ps(part.t_mrd),
        "MRD_CLOCKS": part.mrd_clocks,
        "POWER_UP_NS": round(part.power_up),
        "T_REF_NS": round(part.t_ref),
    }


_REPORT = {
    "violations": Out(32),
    "first_violation": Out(8),
    "last_violation": Out(8),
    "refreshes": Out(32),
    "bursts": Out(32),
}


class SdramModel(wiring.Component):
    """Instance of ``sdram_model``, on the clock of ``sync``.

    Whoever builds the Verilog appends the text of :data:`MODEL_SOURCE`.

    Parameters
    ----------
    part : :class:`SdramPart`
    clock_hz : :class:`int`
    delay : :class:`int`
        Registers on every pin in each direction, as the I/O cells of an FPGA have.

    Members
    -------
    pins : :py:`In(SdramPins())`
    violations : :py:`Out(32)`
        How many; the codes of the first and the last one are ``first_violation`` and
        ``last_violation``.
    refreshes, bursts : :py:`Out(32)`
        Commands seen: refreshes; reads and writes.
    """

    def __init__(self, part, clock_hz, *, delay=0):
        super().__init__({"pins": In(SdramPins()), **_REPORT})
        self._parameters = model_parameters(part, clock_hz)
        self._delay = delay

    def elaborate(self, platform):
        m = Module()
        pins = {}
        for name, member in self.pins.signature.members.items():
            signal = getattr(self.pins, name)
            for stage in range(self._delay):
                later = Signal(member.shape, name=f"{name}_{stage}")
                if name == "dq_i":
                    m.d.sync += signal.eq(later)
                else:
                    m.d.sync += later.eq(signal)
                signal = later
            pins[name] = signal
        m.submodules.model = Instance(
            "sdram_model",
            **{f"p_{name}": value for name, value in self._parameters.items()},
            i_clk=ClockSignal(),
            **{f"i_{name}": pins[name] for name in pins if not name.startswith("dq_")},
            i_dq_i=pins["dq_o"],
            i_dq_oe=pins["dq_oe"],
            o_dq_o=pins["dq_i"],
            **{f"o_{name}": getattr(self, name) for name in _REPORT},
        )
        return m


class SdramBench(wiring.Component):
    """Controller and model, shared by an AXI port and by streams of traffic in gates.

    Parameters
    ----------
    part, clock_hz, **options
        Of :class:`SdramController`.
    delay : :class:`int`
        Registers on every pin in each direction.

    Members
    -------
    read, write : :py:`In(AxiReadSignature(32, 128, 1))`, :py:`In(AxiWriteSignature(32, 128, 1))`
        For a testbench. Four streams of reads and two of writes have the other ports of the
        arbiters.
    start, length : :py:`In(1)`, :py:`In(8)`
        For all streams, as of :class:`ReadTraffic`.
    read_enable, write_enable : :py:`In(4)`, :py:`In(2)`
    r0_origin, ..., w1_origin : :py:`In(32)`
    r0_beats, ..., w1_beats, r0_wrong, ..., r3_wrong, w0_answers, w1_answers : :py:`Out(32)`
    violations, ...
        Of :class:`SdramModel`.
    """

    def __init__(self, part, clock_hz, *, delay=0, **options):
        self._controller = SdramController(part, clock_hz, id_bits=4, capture=2 * delay, **options)
        self._model = SdramModel(part, clock_hz, delay=delay)
        self._streams = {f"r{index}": ("wrong", ReadTraffic(id_bits=1)) for index in range(4)}
        self._streams |= {f"w{index}": ("answers", WriteTraffic(id_bits=1)) for index in range(2)}
        members = {
            "read": In(AxiReadSignature(32, 128, 1)),
            "write": In(AxiWriteSignature(32, 128, 1)),
            "start": In(1),
            "length": In(8),
            "read_enable": In(4),
            "write_enable": In(2),
        }
        for name, (count, _) in self._streams.items():
            members |= {
                f"{name}_origin": In(32),
                f"{name}_beats": Out(32),
                f"{name}_{count}": Out(32),
            }
        super().__init__({**members, **_REPORT})

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = controller = self._controller
        m.submodules.model = model = self._model
        m.submodules.reads = reads = AxiReadArbiter(5, id_bits=1)
        m.submodules.writes = writes = AxiWriteArbiter(3, id_bits=1, bus_id_bits=4)
        connect(m, controller.pins, model.pins)
        connect(m, reads.bus, controller.read)
        connect(m, writes.bus, controller.write)
        connect(m, flipped(self.read), reads.ports[-1])
        connect(m, flipped(self.write), writes.ports[-1])
        m.d.comb += [getattr(self, name).eq(getattr(model, name)) for name in _REPORT]
        for name, (count, traffic) in self._streams.items():
            m.submodules[name] = traffic
            arbiter, enable = (
                (reads, self.read_enable) if name[0] == "r" else (writes, self.write_enable)
            )
            index = int(name[1])
            connect(m, traffic.bus, arbiter.ports[index])
            m.d.comb += [
                traffic.start.eq(self.start),
                traffic.length.eq(self.length),
                traffic.enable.eq(enable[index]),
                traffic.origin.eq(getattr(self, f"{name}_origin")),
                getattr(self, f"{name}_beats").eq(traffic.beats),
                getattr(self, f"{name}_{count}").eq(getattr(traffic, count)),
            ]
        return m


def build_bench(bench, *, name):
    """Build a :class:`SdramBench` for cocotb, its AXI port as ``s_axi``."""
    flat = FlatPorts(bench, prefixes={"read": "s_axi", "write": "s_axi"})
    text = verilog.convert(flat, name="top", emit_src=False) + MODEL_SOURCE.read_text()
    return build_verilog(text, name=name, toplevel="top")
