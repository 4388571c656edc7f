"""Reads one descriptor from memory and adds its pointers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import isa
from ..memory.axi import BeatLayout, RunLayout
from .descriptor import descriptor_layout

__all__ = ["DescriptorFetcher"]

BEAT_WORDS = 4
BEATS = isa.DESCRIPTOR_WORDS // BEAT_WORDS
CONTROL_OPCODES = (isa.Opcode.END, isa.Opcode.LOOP, isa.Opcode.NEXT)

_FIELDS = {field.name: field for field in isa.CONV_FIELDS}
_POINTED = ("stream", "stationary", "output", "side", "bias")


def _check_places():
    """The fetcher adds as beats pass by; this holds only as long as the bases lie where they do."""
    select = _FIELDS["stream_pointer"]
    first = select.word // BEAT_WORDS
    for i, name in enumerate(_POINTED):
        pointer, base = _FIELDS[f"{name}_pointer"], _FIELDS[f"{name}_base"]
        assert (pointer.word, pointer.lsb, pointer.width) == (select.word, 2 * i, 2)
        assert divmod(base.word, BEAT_WORDS) == (first + i, 2)
    assert divmod(_FIELDS["bias_momentum_base"].word, BEAT_WORDS) == (first + len(_POINTED) - 1, 3)
    return first, select.word % BEAT_WORDS


class DescriptorFetcher(wiring.Component):
    """Fetches the descriptor at ``address`` and hands it out with resolved base addresses.

    The beats shift through ``descriptor``. On the way the pointer that the descriptor chooses for a
    base is added to it: the five bases that have one lie one in each of five successive beats, so
    one adder serves them all. LOOP, NEXT and END pass unchanged.

    *Latency*: ``run.valid`` rises the cycle after ``request``; ``received`` pulses two cycles after
    the last beat. *Backpressure*: beats are always accepted.

    Members
    -------
    request : In(1)
        Fetch ``address``; a pulse, not before the previous descriptor was received.
    address : In(32)
        Byte address.
    pointers : In(data.ArrayLayout(32, isa.POINTERS))
        The pointer registers; entry 0 must be zero. Constant from ``request`` to ``received``.
    run, beats
        To and from a :class:`BurstReader`.
    descriptor : Out(descriptor_layout())
        The last descriptor, complete once ``received`` has pulsed.
    received : Out(1)
        Pulse.
    """

    request: In(1)
    address: In(32)
    pointers: In(data.ArrayLayout(32, isa.POINTERS))
    run: Out(stream.Signature(RunLayout()))
    beats: In(stream.Signature(BeatLayout()))
    descriptor: Out(descriptor_layout())
    received: Out(1)

    def elaborate(self, platform):
        m = Module()
        first, select_lane = _check_places()

        m.d.comb += [self.run.p.beats.eq(BEATS), self.run.p.tag.eq(0), self.beats.ready.eq(1)]
        with m.If(self.run.ready):
            m.d.sync += self.run.valid.eq(0)
        with m.If(self.request):
            m.d.sync += [self.run.valid.eq(1), self.run.p.address.eq(self.address)]

        # Stage 1: hold the beat, and look up the pointer that its base wants.
        arriving = data.View(data.ArrayLayout(32, BEAT_WORDS), self.beats.p.data)
        number = Signal(range(BEATS))
        adds = Signal()
        choices = Signal(2 * len(_POINTED))
        choices_now = Signal.like(choices)
        held = Signal(data.ArrayLayout(32, BEAT_WORDS))
        held_number = Signal(range(BEATS))
        held_valid = Signal()
        addend = Signal(32)
        m.d.comb += choices_now.eq(Mux(number == first, arriving[select_lane], choices))
        m.d.sync += held_valid.eq(self.beats.valid)
        with m.If(self.beats.valid):
            m.d.sync += [
                number.eq(number + 1),
                held.eq(arriving),
                held_number.eq(number),
                choices.eq(choices_now[2:]),
                addend.eq(0),
            ]
            with m.If(number == 0):
                opcode = arriving[0][:8]
                m.d.sync += adds.eq(~Cat(opcode == op for op in CONTROL_OPCODES).any())
            with m.If(adds & (number >= first) & (number < first + len(_POINTED))):
                m.d.sync += addend.eq(self.pointers[choices_now[:2]])

        # Stage 2: add, and shift in.
        bias_momentum = Mux(held_number == first + len(_POINTED) - 1, addend, Const(0, 32))
        resolved = Cat(held[0], held[1], (held[2] + addend)[:32], (held[3] + bias_momentum)[:32])
        whole = self.descriptor.as_value()
        m.d.sync += self.received.eq(held_valid & (held_number == BEATS - 1))
        with m.If(held_valid):
            m.d.sync += whole.eq(Cat(whole[len(resolved) :], resolved))
        return m
