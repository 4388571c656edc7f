"""What the memory ports move for a LOSS descriptor."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.descriptor import descriptor_layout
from ..isa import Flag
from ..records import pack
from .run_generator import LEVELS, request_layout

__all__ = ["LossMap"]


class LossMap(wiring.Component):
    """Requests for logits, labels, gradient and result record of one LOSS.

    Members
    -------
    descriptor : In(descriptor_layout)
    start : In(1)
        Pulse.
    logits, labels, output : Out(stream of request_layout)
        For the stream, the side and the write port.
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
                "logits": Out(request),
                "labels": Out(request),
                "output": Out(request),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, config = self.descriptor, self.config
        blocks = (d.classes + config.group - 1) >> ceil_log2(config.group)
        beats = blocks << ceil_log2(config.vector_beats)
        row_bytes = blocks * config.vector_bytes

        pending = {}
        for name in ("logits", "labels", "gradient", "record"):
            pending[name] = flag = Signal(name=f"{name}_pending")
            if name == "gradient":
                with m.If(self.start):
                    m.d.sync += flag.eq(d.flags[Flag.GRADIENT])
            else:
                with m.If(self.start):
                    m.d.sync += flag.eq(1)
        m.d.comb += self.busy.eq(
            pending["logits"] | pending["labels"] | pending["gradient"] | pending["record"]
        )

        def box(base, runs, stride, beats):
            levels = [{"count": 1}] * (LEVELS - 1) + [{"count": runs, "stride": stride}]
            return pack(
                self.logits.payload.shape(), {"base": base, "level": levels, "beats": beats}
            )

        # Matrices of classes are read and written one run an image.
        gradient = box(d.output_base, d.images, row_bytes, beats)
        record = box(d.bias_base, 1, 0, 1)
        m.d.comb += [
            self.logits.payload.eq(box(d.stream_base, d.images, row_bytes, beats)),
            self.labels.payload.eq(box(d.side_base, 1, 0, (d.images + 3) >> 2)),
            self.output.payload.eq(Mux(pending["gradient"], gradient, record)),
        ]
        m.d.comb += [
            self.logits.valid.eq(pending["logits"]),
            self.labels.valid.eq(pending["labels"]),
            self.output.valid.eq(pending["gradient"] | pending["record"]),
        ]
        for name in ("logits", "labels"):
            with m.If(pending[name] & getattr(self, name).ready):
                m.d.sync += pending[name].eq(0)
        with m.If(self.output.ready & self.output.valid):
            # The gradient goes first, as the loss unit delivers it.
            m.d.sync += pending["record"].eq(Mux(pending["gradient"], pending["record"], 0))
            m.d.sync += pending["gradient"].eq(0)
        return m
