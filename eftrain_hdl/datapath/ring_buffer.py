"""Ring buffer: filled in order, read at random inside the oldest tile."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["RingBuffer"]


class RingBuffer(wiring.Component):
    """A queue whose consumer may look anywhere behind the front, any number of times.

    The producer appends vectors as long as there is room; the consumer reads at offsets from the
    front and releases what it no longer needs. A tile of up to half the depth leaves the other half
    for prefetching: no fixed ping-pong halves, no alignment.

    Parameters
    ----------
    depth : int
        Power of two.
    width : int
        Bits of an entry.
    latency : int
        Cycles from ``offset`` to ``data``: 1, or 2 with the memory's output register.

    Members
    -------
    i : In(stream)
        Appended entries.
    offset : In, read : In(1), data : Out
        Random read; an entry may be read once ``offset < available``. Without ``read`` the memory
        keeps its output.
    available : Out
        Entries in the buffer.
    release : In(1), count : In
        Drop ``count`` entries from the front, at the end of this cycle.
    """

    def __init__(self, *, depth, width, latency=1):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"The depth of a ring buffer must be a power of two, not {depth}.")
        if latency not in (1, 2):
            raise ValueError(f"The latency of a ring buffer must be 1 or 2, not {latency}.")
        self.depth = depth
        self.width = width
        self.latency = latency
        bits = ceil_log2(depth)
        super().__init__(
            {
                "i": In(stream.Signature(width)),
                "offset": In(bits),
                "read": In(1),
                "data": Out(width),
                "available": Out(bits + 1),
                "release": In(1),
                "count": In(bits + 1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = ceil_log2(self.depth)
        m.submodules.memory = storage = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write = storage.write_port()
        read = storage.read_port(domain="sync", transparent_for=())
        head = Signal(bits)
        front = Signal(bits)
        accepted = Signal()
        m.d.comb += [
            self.i.ready.eq(~self.available[bits]),
            accepted.eq(self.i.valid & self.i.ready),
            write.addr.eq(head),
            write.data.eq(self.i.payload),
            write.en.eq(accepted),
            read.addr.eq(front + self.offset),
            read.en.eq(self.read),
        ]
        m.d.sync += head.eq(head + accepted)
        # Whether something is released is known late: both outcomes are ready by then.
        m.d.sync += self.available.eq(self.available + accepted)
        with m.If(self.release):
            m.d.sync += [
                front.eq(front + self.count),
                self.available.eq(self.available - self.count + accepted),
            ]
        if self.latency == 2:
            output = Signal(self.width, reset_less=True)
            m.d.sync += output.eq(read.data)
            m.d.comb += self.data.eq(output)
        else:
            m.d.comb += self.data.eq(read.data)
        return m
