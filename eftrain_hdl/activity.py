"""Why no vector enters the array: one reason a cycle."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .control.control import REASONS
from .datapath.kernel import Kernel

__all__ = ["Activity"]


class Activity(wiring.Component):
    """Refines the kernel's reasons by what the units around it do.

    *Latency*: one cycle. All inputs are sampled together, so there is one reason a cycle still.

    Members
    -------
    kernel_active, kernel_* : In(1)
        ``active`` and :attr:`Kernel.EVENTS` of the kernel.
    stream_fenced, stationary_fenced : In(1)
        What the array works on waits for operands that wait for writes of an earlier descriptor.
    write_waits : In(1)
        The write port, or the order of two descriptors, holds results up.
    side_waits : In(1)
        A result waits for an operand of the epilogue.
    vector_runs : In(1)
        LOSS or NORM is executed.
    waiting : In(1)
        The next descriptor waits until one in flight is done.
    active, stall_* : Out(1)
        At most one is high.
    """

    def __init__(self):
        kernel = {f"kernel_{name}": In(1) for name in ("active", *Kernel.EVENTS)}
        inputs = (
            "stream_fenced", "stationary_fenced", "write_waits", "side_waits", "vector_runs",
            "waiting",
        )  # fmt: skip
        self._inputs = (*kernel, *inputs)
        super().__init__(
            {
                **kernel,
                **dict.fromkeys(inputs, In(1)),
                "active": Out(1),
                **{name: Out(1) for name in REASONS},
            }
        )

    def elaborate(self, platform):
        m = Module()
        i = {name: Signal(name=name) for name in self._inputs}
        m.d.sync += [sampled.eq(getattr(self, name)) for name, sampled in i.items()]
        has_work = Cat(
            i["kernel_active"], *(i[f"kernel_{name}"] for name in Kernel.EVENTS)
        ).any()
        m.d.comb += [
            self.active.eq(i["kernel_active"]),
            self.stall_hazard.eq(i["kernel_stall_hazard"]),
        ]
        with m.If(i["kernel_stall_stream"]):
            with m.If(i["stream_fenced"]):
                m.d.comb += self.stall_fence.eq(1)
            with m.Else():
                m.d.comb += self.stall_stream.eq(1)
        with m.Elif(i["kernel_stall_stationary"]):
            with m.If(i["stationary_fenced"]):
                m.d.comb += self.stall_fence.eq(1)
            with m.Else():
                m.d.comb += self.stall_stationary.eq(1)
        with m.Elif(i["kernel_stall_bank"]):
            with m.If(i["write_waits"]):
                m.d.comb += self.stall_write.eq(1)
            with m.Elif(i["side_waits"]):
                m.d.comb += self.stall_side.eq(1)
            with m.Else():
                m.d.comb += self.stall_drain.eq(1)
        with m.Elif(~has_work & i["vector_runs"]):
            m.d.comb += self.stall_vector.eq(1)
        with m.Elif(~has_work & i["waiting"]):
            m.d.comb += self.stall_fence.eq(1)
        return m
