"""What the memory ports move for a NORM descriptor."""

from amaranth.hdl import C, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..control.descriptor import descriptor_layout
from ..isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, PARTIAL_BEATS, Flag
from ..records import pack
from .run_generator import LEVELS, request_layout

__all__ = ["NormMap"]


class NormMap(wiring.Component):
    """Requests for the records of one NORM, a run each.

    Members
    -------
    descriptor : In(descriptor_layout)
    start : In(1)
        Pulse.
    side : Out(stream of request_layout)
        Of each channel block the statistics record (not with FROZEN), the parameter record, with
        X_PAIR in a forward NORM the coefficient record of the pair.
    output : Out(stream of request_layout)
        Of each channel block the parameter record (not with FROZEN), then the coefficient record.
    busy : Out(1)
        Requests are still waiting to be taken.
    """

    def __init__(self, config):
        self.config = config
        request = stream.Signature(request_layout(address_bits=config.address_bits))
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "start": In(1),
                "side": Out(request),
                "output": Out(request),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, config = self.descriptor, self.config
        frozen = d.flags[Flag.FROZEN]
        pair = d.flags[Flag.X_PAIR] & ~d.flags[Flag.GRADIENT]
        vector = config.vector_beats
        statistics = (d.statistics_base, vector + 2 * PARTIAL_BEATS, ~frozen)
        parameters = (d.parameters_base, vector * PARAMETER_VECTORS, C(1))
        coefficients = (d.coefficients_base, vector * COEFFICIENT_VECTORS, C(1))
        ports = {
            "side": [statistics, parameters, (d.pair_base, vector * COEFFICIENT_VECTORS, pair)],
            "output": [(*parameters[:2], ~frozen), coefficients],
        }

        active = []
        for name, records in ports.items():
            port = getattr(self, name)
            block = Signal(16, name=f"{name}_block")
            kind = Signal(range(len(records)), name=f"{name}_kind")
            running = Signal(name=f"{name}_running")
            active.append(running)
            with m.Switch(kind):
                for k, (base, beats, wanted) in enumerate(records):
                    with m.Case(k):
                        request = {
                            "base": base,
                            "term": [{"index": block, "stride": C(beats * config.beat_bytes)}],
                            "level": [{"count": 1}] * LEVELS,
                            "beats": beats,
                        }
                        m.d.comb += [
                            port.payload.eq(pack(port.payload.shape(), request)),
                            port.valid.eq(running & wanted),
                        ]
                        with m.If(running & (port.ready | ~wanted)):
                            m.d.sync += kind.eq(k + 1)
                            if k == len(records) - 1:
                                m.d.sync += [
                                    kind.eq(0),
                                    block.eq(block + 1),
                                    running.eq(block + 1 != d.out_blocks),
                                ]
            with m.If(self.start):
                m.d.sync += [running.eq(1), block.eq(0), kind.eq(0)]
        m.d.comb += self.busy.eq(active[0] | active[1])
        return m
