"""Connections between streams, without or with little logic."""

from amaranth.hdl import Mux
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFO

__all__ = ["fork", "select", "slow_stream", "take_words"]


def select(m, condition, one, other, sink):
    """Connect stream ``one`` to ``sink`` while ``condition``, else ``other``."""
    m.d.comb += [
        sink.payload.eq(Mux(condition, one.payload, other.payload)),
        sink.valid.eq(Mux(condition, one.valid, other.valid)),
        one.ready.eq(sink.ready & condition),
        other.ready.eq(sink.ready & ~condition),
    ]


def take_words(m, beats, consumer):
    """Connect a stream of beats to one of their words."""
    m.d.comb += [
        consumer.payload.eq(beats.p.data),
        consumer.valid.eq(beats.valid),
        beats.ready.eq(consumer.ready),
    ]


def fork(m, condition, source, one, other):
    """Connect ``source`` to ``one`` while ``condition``, else to ``other``: each a stream, and the
    field of the payload that it takes (None: all)."""
    for (sink, field), chosen in ((one, condition), (other, ~condition)):
        m.d.comb += [
            sink.payload.eq(source.payload[field] if field else source.payload),
            sink.valid.eq(source.valid & chosen),
        ]
    m.d.comb += source.ready.eq(Mux(condition, one[0].ready, other[0].ready))


def slow_stream(m, name, sink):
    """A stream to ``sink`` that moves every other cycle at most, through one register: neither
    side waits for the other's decisions."""
    words = stream.Signature(sink.payload.shape()).create(path=(name,))
    m.submodules[f"{name}_register"] = queue = SyncFIFO(width=len(sink.payload), depth=1)
    m.d.comb += [
        queue.w_data.eq(words.payload),
        queue.w_en.eq(words.valid),
        words.ready.eq(queue.w_rdy),
        sink.payload.eq(queue.r_data),
        sink.valid.eq(queue.r_rdy),
        queue.r_en.eq(sink.ready),
    ]
    return words
