"""Connections between streams, without or with little logic."""

from amaranth.hdl import Mux

__all__ = ["fork", "select", "take_words"]


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
