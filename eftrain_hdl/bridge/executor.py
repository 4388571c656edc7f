"""Carries out requests, each of them once."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from ..memory.axi import AxiLiteSignature, AxiReadSignature, AxiWriteSignature
from ..serial_protocol import (
    HELLO_FIELDS,
    MEMORY_ALIGNMENT,
    NAK,
    PAGE_BYTES,
    REPLY,
    Op,
    Status,
)
from .framing import FrameItem, FramerByte
from .memory_port import MAX_BEATS, MemoryPort
from .register_port import ADDRESS_BITS, RegisterPort
from .reply import ReplyLayout, ReplySender
from .request import BUFFER_WORDS, RequestReceiver

__all__ = ["Executor"]

RESET_CYCLES = 16


class Executor(wiring.Component):
    """Does what requests ask for and answers them, one at a time (``docs/serial.md``).

    A request with the sequence number of the one before is only answered again, from the reply that
    is kept. What arrives while a request is being done is dropped.

    *Latency*: an access is on its bus 5 cycles after the end of its frame, and the reply begins 3
    cycles after the bus's answer. *Backpressure*: none towards ``i``; ``o`` may wait.

    *Errors*: every request ends. One whose bus does not answer gets the status TIMEOUT, and the
    access stays on the bus without effect on later replies; see :class:`MemoryPort`.

    Parameters
    ----------
    id_bits : int
        Width of the ids of ``read`` and ``write``; all are zero.
    hello : dict from str to int
        Words of the reply to HELLO, but for its nonce; among them ``timeout_cycles``, the longest
        that an access may take.

    Members
    -------
    i : In(stream.Signature(FrameItem(), always_ready=True))
        Frames that arrive.
    o : Out(stream.Signature(FramerByte()))
        Replies.
    ctrl, read, write, irq, core_reset
        As in :class:`SerialBridge`.
    """

    def __init__(self, *, id_bits, hello):
        self._id_bits = id_bits
        self._hello = dict(hello)
        super().__init__(
            {
                "i": In(stream.Signature(FrameItem(), always_ready=True)),
                "o": Out(stream.Signature(FramerByte())),
                "ctrl": Out(AxiLiteSignature(ADDRESS_BITS)),
                "read": Out(AxiReadSignature(32, 128, id_bits)),
                "write": Out(AxiWriteSignature(32, 128, id_bits)),
                "irq": In(1),
                "core_reset": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = RequestReceiver()
        hello = [self._hello.get(name, 0) for name in HELLO_FIELDS]
        m.submodules.sender = sender = ReplySender(upper_words=hello)
        registers, memory = RegisterPort(), MemoryPort(id_bits=self._id_bits)
        m.submodules.registers = ResetInserter(self.core_reset)(registers)
        m.submodules.memory = ResetInserter(self.core_reset)(memory)
        connect(m, flipped(self.i), receiver.i)
        connect(m, sender.o, flipped(self.o))
        connect(m, registers.bus, flipped(self.ctrl))
        connect(m, memory.read, flipped(self.read))
        connect(m, memory.write, flipped(self.write))
        request = receiver.o.p
        m.d.comb += [
            memory.read_word.eq(receiver.word),
            registers.i.p.address.eq(request.address),
            registers.i.p.write.eq(request.op == Op.WRITE_REGISTER),
            registers.i.p.word.eq(receiver.word),
            memory.i.p.address.eq(request.address),
            memory.i.p.last_beat.eq((request.length >> exact_log2(MEMORY_ALIGNMENT)) - 1),
            memory.i.p.write.eq(request.op == Op.WRITE_MEMORY),
        ]
        self._execute(m, receiver, sender, registers, memory)
        return m

    def _execute(self, m, receiver, sender, registers, memory):
        request = receiver.o.p
        # The reply to the last request, kept for repeats; `known` says that there is one.
        reply = Signal(ReplyLayout())
        known, session, damaged = Signal(), Signal(), Signal()
        timer = Signal(32)
        expired = timer == 0
        with m.If(~expired):
            m.d.sync += timer.eq(timer - 1)
        with m.If(receiver.nak):
            m.d.sync += damaged.eq(1)

        def finish(status, length=0):
            m.d.sync += [reply.status.eq(status), reply.length.eq(length)]
            m.next = "SEND"

        def put_word(word, address=0):
            m.d.comb += [
                sender.write_enable.eq(1),
                sender.write_address.eq(address),
                sender.write_word.eq(word),
            ]

        # Judged while the request waits in IDLE.
        legal = Signal()
        m.d.sync += legal.eq(request.sized & _legal(m, request))
        m.d.comb += sender.i.p.eq(reply)
        with m.FSM() as fsm:
            m.d.sync += self.core_reset.eq(fsm.ongoing("RESET"))

            with m.State("IDLE"), m.If(sender.i.ready):
                repeated = known & (request.seq == reply.seq) & (request.op != Op.HELLO)
                with m.If(receiver.o.valid):
                    m.next = "BEGIN"
                    with m.If(repeated):
                        m.next = "SEND"
                with m.Elif(damaged):
                    m.d.sync += damaged.eq(0)
                    m.d.comb += [
                        sender.i.valid.eq(1),
                        sender.i.p.op.eq(NAK),
                        sender.i.p.status.eq(Status.BAD_CRC),
                        sender.i.p.length.eq(0),
                    ]

            with m.State("BEGIN"):
                m.d.sync += [
                    reply.seq.eq(request.seq),
                    reply.op.eq(request.op | REPLY),
                    reply.upper.eq(0),
                    known.eq(request.op != Op.HELLO),
                    timer.eq(self._hello["timeout_cycles"]),
                ]
                with m.If(~session & (request.op != Op.HELLO)):
                    finish(Status.NO_SESSION)
                with m.Elif(request.op > max(Op)):
                    finish(Status.BAD_OP)
                with m.Elif(~legal):
                    finish(Status.BAD_REQUEST)
                with m.Else(), m.Switch(request.op):
                    with m.Case(Op.HELLO):
                        m.d.sync += session.eq(1)
                        m.next = "HELLO"
                    with m.Case(Op.READ_REGISTER, Op.WRITE_REGISTER):
                        m.next = "REGISTER"
                    with m.Case(Op.READ_MEMORY, Op.WRITE_MEMORY):
                        m.next = "MEMORY"
                    with m.Case(Op.WAIT):
                        m.d.sync += timer.eq(request.address)
                        m.next = "WAIT"
                    with m.Case(Op.RESET):
                        m.d.sync += timer.eq(RESET_CYCLES - 1)
                        m.next = "RESET"

            with m.State("HELLO"):
                put_word(request.address, BUFFER_WORDS + HELLO_FIELDS.index("nonce"))
                m.d.sync += reply.upper.eq(1)
                finish(Status.OKAY, 4 * len(HELLO_FIELDS))

            with m.State("REGISTER"):
                m.d.comb += registers.i.valid.eq(1)
                with m.If(registers.i.ready):
                    m.next = "REGISTER ANSWER"
                with m.Elif(expired):
                    finish(Status.TIMEOUT)
            with m.State("REGISTER ANSWER"):
                put_word(registers.word)
                with m.If(registers.done):
                    has_word = (request.op == Op.READ_REGISTER) & (registers.response == 0)
                    finish(registers.response, Mux(has_word, 4, 0))
                with m.Elif(expired):
                    finish(Status.TIMEOUT)

            # The buffers belong to the memory port here and nowhere else.
            with m.State("MEMORY"):
                m.d.comb += memory.i.valid.eq(1)
                with m.If(memory.i.ready):
                    m.next = "MEMORY ANSWER"
                with m.Elif(expired):
                    finish(Status.TIMEOUT)
            with m.State("MEMORY ANSWER"):
                put_word(memory.write_word, memory.write_address)
                m.d.comb += [
                    sender.write_enable.eq(memory.write_enable),
                    receiver.word_address.eq(memory.read_address),
                ]
                with m.If(memory.done):
                    has_words = (request.op == Op.READ_MEMORY) & (memory.response == 0)
                    finish(memory.response, Mux(has_words, request.length, 0))
                with m.Elif(expired):
                    m.d.comb += memory.orphan.eq(1)
                    finish(Status.TIMEOUT)

            # A host that speaks before the reply has given up on it: let it get through.
            with m.State("WAIT"), m.If(self.irq | expired | receiver.dropped):
                put_word(self.irq)
                finish(Status.OKAY, 1)

            with m.State("RESET"), m.If(expired):
                finish(Status.OKAY)

            with m.State("SEND"):
                m.d.comb += [sender.i.valid.eq(1), receiver.o.ready.eq(1)]
                m.next = "IDLE"


def _legal(m, request):
    """Whether address and length of a request are legal for its op."""
    unit, page = exact_log2(MEMORY_ALIGNMENT), exact_log2(PAGE_BYTES)
    beats = request.length[unit:]
    legal = Signal()
    with m.Switch(request.op):
        with m.Case(Op.READ_REGISTER, Op.WRITE_REGISTER):
            high = request.address[ADDRESS_BITS:]
            m.d.comb += legal.eq((Cat(request.address[:2], high) == 0) & (request.length == 4))
        with m.Case(Op.READ_MEMORY, Op.WRITE_MEMORY):
            m.d.comb += legal.eq(
                (Cat(request.address[:unit], request.length[:unit]) == 0)
                & (beats != 0)
                & (beats <= MAX_BEATS)
                & (request.address[unit:page] + beats <= PAGE_BYTES // MEMORY_ALIGNMENT)
            )
        with m.Default():
            m.d.comb += legal.eq(request.length == 0)
    return legal
