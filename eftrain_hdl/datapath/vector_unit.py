"""The unit that executes LOSS and NORM."""

from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..isa import Flag
from .norm import Norm
from .softmax_loss import SoftmaxLoss
from .vector_sequencer import VectorSequencer

__all__ = ["VectorUnit"]

_TO_SEQUENCER = (
    "go", "segment", "first", "classes", "label", "put", "put_register", "put_word",
    "get_register", "read_word",
)  # fmt: skip
_FROM_SEQUENCER = (
    "done", "get_word", "read_class", "write", "write_class", "word", "report",
)  # fmt: skip


class VectorUnit(wiring.Component):
    """:class:`SoftmaxLoss` and :class:`Norm` on one :class:`VectorSequencer`.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start_loss, start_norm : In(1)
        One cycle while not busy. All numbers must keep their values while busy.
    busy : Out(1)
        From the cycle after a start until the last beat was taken.
    flags : In(24)
        Of the descriptor.
    scale : In(32)
        Of the descriptor.
    images, classes, record : In(16), In(16), In(32)
        LOSS; see :class:`SoftmaxLoss`.
    out_blocks : In(16)
        NORM.
    unbias, epsilon, statistics_momentum, learning_rate, momentum, weight_decay : In(32)
        NORM, of the descriptor.
    logits : In(stream.Signature(128))
        LOSS.
    side : In(stream.Signature(128))
        LOSS: labels. NORM: the records of :class:`Norm`.
    o : Out(stream.Signature(128))
        LOSS: gradients and the result record. NORM: the records of :class:`Norm`.
    label_error : Out(1)
        LOSS: a label is not below ``classes``. The unit stands still, busy, until it is reset.
    nonfinite : Out(1)
        High for one cycle when a loss, or a word that NORM writes, is infinite or NaN.
    """

    def __init__(self, config):
        self._config = config
        beat = stream.Signature(config.data_bits)
        self._sequencer = VectorSequencer(config.group)
        super().__init__(
            {
                "start_loss": In(1),
                "start_norm": In(1),
                "busy": Out(1),
                "flags": In(24),
                "images": In(16),
                "classes": In(16),
                "record": In(32),
                "out_blocks": In(16),
                **{name: In(32) for name in self._sequencer.program.scalars},
                "logits": In(beat),
                "side": In(beat),
                "o": Out(beat),
                "label_error": Out(1),
                "nonfinite": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        program = self._sequencer.program
        m.submodules.sequencer = sequencer = self._sequencer
        m.submodules.loss = loss = SoftmaxLoss(self._config, program.registers)

        if not self._config.batch_norm:
            self._connect_alone(m, sequencer, loss)
            return m
        m.submodules.norm = norm = Norm(program)

        is_norm = norm.busy
        for name in _TO_SEQUENCER:
            ours, theirs = getattr(norm.sequencer, name), getattr(loss.sequencer, name)
            m.d.comb += getattr(sequencer, name).eq(Mux(is_norm, ours, theirs))
        for name in _FROM_SEQUENCER:
            for user in (norm.sequencer, loss.sequencer):
                m.d.comb += getattr(user, name).eq(getattr(sequencer, name))
        self._connect_loss(m, loss)
        for name in ("flags", "out_blocks", *program.scalars):
            m.d.comb += getattr(norm, name).eq(getattr(self, name))

        m.d.comb += [
            norm.start.eq(self.start_norm),
            self.busy.eq(loss.busy | norm.busy),
            loss.labels.payload.eq(self.side.payload),
            loss.labels.valid.eq(self.side.valid & ~is_norm),
            norm.i.payload.eq(self.side.payload),
            norm.i.valid.eq(self.side.valid),
            self.side.ready.eq(Mux(is_norm, norm.i.ready, loss.labels.ready)),
            self.o.payload.eq(Mux(is_norm, norm.o.payload, loss.o.payload)),
            self.o.valid.eq(Mux(is_norm, norm.o.valid, loss.o.valid)),
            loss.o.ready.eq(self.o.ready & ~is_norm),
            norm.o.ready.eq(self.o.ready),
            self.nonfinite.eq(loss.nonfinite | norm.nonfinite),
        ]
        return m

    def _connect_loss(self, m, loss):
        """What nobody else has a part in."""
        wiring.connect(m, wiring.flipped(self.logits), loss.logits)
        m.d.comb += [
            *(
                getattr(loss, name).eq(getattr(self, name))
                for name in ("images", "classes", "record", "scale")
            ),
            loss.start.eq(self.start_loss),
            loss.gradient.eq(self.flags[Flag.GRADIENT]),
            self.label_error.eq(loss.label_error),
        ]

    def _connect_alone(self, m, sequencer, loss):
        """A core without batch-norm has no NORM."""
        self._connect_loss(m, loss)
        for name in _TO_SEQUENCER:
            m.d.comb += getattr(sequencer, name).eq(getattr(loss.sequencer, name))
        for name in _FROM_SEQUENCER:
            m.d.comb += getattr(loss.sequencer, name).eq(getattr(sequencer, name))
        wiring.connect(m, wiring.flipped(self.side), loss.labels)
        wiring.connect(m, loss.o, wiring.flipped(self.o))
        m.d.comb += [self.busy.eq(loss.busy), self.nonfinite.eq(loss.nonfinite)]
