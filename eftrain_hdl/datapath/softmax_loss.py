"""Softmax cross-entropy: loss, correct count and the gradient of the logits."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .pooling import order_key
from .softmax_program import NEGATIVE_MAXIMUM, SCALE, X_LABEL, softmax_model
from .vector_program import CHUNK, Segment
from .vector_sequencer import SequencerSignature

__all__ = ["SoftmaxLoss"]


class SoftmaxLoss(wiring.Component):
    """Mean softmax cross-entropy of a batch, how many images are classified right, and the
    gradient.

    For each image: ``m`` is the maximum of the logits (the first of equal ones is the class that
    counts as the answer), ``e = exp(x - m)``, ``S`` their sum, the loss ``log S - (x_label - m)``,
    the gradient ``(e/S - onehot) * scale``. The mean loss is the sum of the losses times ``scale``.

    :class:`VectorSequencer` does the arithmetic, ``softmax_program.py`` says how; this block moves
    the words and finds the maximum, which it compares a cycle after a word, by their keys.
    Infinities and NaNs go through and make a loss of infinity or NaN.

    *Throughput*: images one after the other, and no stream moves during the arithmetic: about 335
    cycles an image and 20 a class (556 for 10 classes), 16 a class without the gradient.
    *Backpressure*: any stall on any stream.

    Parameters
    ----------
    config : CoreConfig
    registers : int
        Size of the sequencer's register file.

    Members
    -------
    sequencer : Out(SequencerSignature)
    start : In(1)
        One cycle while not busy. The next five must keep their values while busy.
    images, classes : In(16)
        Both at least 1; classes at most ``config.max_classes``.
    gradient : In(1)
        Write the gradient too.
    scale : In(32)
        1/images, fp32.
    record : In(32)
        Last word of the result record.
    busy : Out(1)
        From the cycle after ``start`` until the last beat was taken.
    logits : In(stream.Signature(128))
        Of each image ``ceil(classes/T)*T`` words; those past ``classes`` are ignored.
    labels : In(stream.Signature(128))
        Four uint32 a beat, ``ceil(images/4)`` beats.
    o : Out(stream.Signature(128))
        With ``gradient``, as many words as there are logits, +0 past ``classes``. Then one beat:
        mean loss (fp32), correct count, images, record; lowest word first.
    label_error : Out(1)
        A label is not below ``classes``. The unit stands still, busy, until it is reset.
    nonfinite : Out(1)
        High for one cycle when the loss of an image, or the mean, is infinite or NaN.
    """

    def __init__(self, config, registers):
        self._config = config
        beat = stream.Signature(config.data_bits)
        super().__init__(
            {
                "sequencer": Out(SequencerSignature(registers)),
                "start": In(1),
                "images": In(16),
                "classes": In(16),
                "gradient": In(1),
                "scale": In(32),
                "record": In(32),
                "busy": Out(1),
                "logits": In(beat),
                "labels": In(beat),
                "o": Out(beat),
                "label_error": Out(1),
                "nonfinite": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        sequencer = self.sequencer
        m.submodules.class_memory = class_memory = memory.Memory(
            shape=32, depth=self._config.max_classes, init=[]
        )
        read, write = class_memory.read_port(), class_memory.write_port()

        image, correct = Signal(16), Signal(16)
        labels, label = Signal(128), Signal(32)
        # Word of the padded vectors of an image, coming in or going out.
        position = Signal(17)
        # Words that came in and were not looked at yet, the next one lowest; or that go out.
        beat, filled, packs = Signal(128), Signal(), Signal()
        # The next beat moves up, behind the last word of this one.
        wants_beat = Signal()
        mean = Signal(32)

        # Numbers of the descriptor as they are looked at: long before, so from registers.
        group_bits, chunk_bits = ceil_log2(self._config.group), ceil_log2(CHUNK)
        first = sequencer.first
        chunk = Signal(16 - chunk_bits)
        last_word_at, last_chunk_at = Signal.like(position), Signal.like(chunk)
        last_beat, last_chunk, all_images = Signal(), Signal(), Signal()
        inside, was_inside = Signal(), Signal()
        m.d.comb += inside.eq(position < self.classes)
        m.d.sync += [
            last_word_at.eq((self.classes - 1) | (self._config.group - 1)),
            last_chunk_at.eq((self.classes - 1) >> chunk_bits),
            # Only looked at with the last word of a beat, or at the end of a segment.
            last_beat.eq(position[2:] == last_word_at[2:]),
            last_chunk.eq(chunk == last_chunk_at),
            all_images.eq(image == self.images),
            was_inside.eq(inside),
        ]

        # The largest logit so far, and the one that is compared with it.
        maximum, best, x_label = Signal(32), Signal(16), Signal(32)
        maximum_key, key = Signal(32), Signal(32)
        rival, rival_at, competes = Signal(32), Signal(16), Signal()
        # Looked at when an image is done: its best class is its label.
        is_right = Signal()
        word = beat[:32]
        m.d.sync += [
            is_right.eq(best == label),
            competes.eq(filled & inside),
            key.eq(order_key(word)),
            rival.eq(word),
            rival_at.eq(position),
        ]
        # As ``<``, which is only a carry chain; ``>`` would test for equality too.
        with m.If(competes & ((rival_at == 0) | (maximum_key < key))):
            m.d.sync += [maximum.eq(rival), maximum_key.eq(key), best.eq(rival_at)]

        def run(segment):
            m.d.comb += [sequencer.go.eq(1), sequencer.segment.eq(segment)]

        def put(operand, value):
            m.d.comb += [
                sequencer.put.eq(1),
                sequencer.put_register.eq(operand.address),
                sequencer.put_word.eq(value),
            ]

        m.d.comb += [
            first.eq(Cat(C(0, chunk_bits), chunk)),
            sequencer.classes.eq(self.classes),
            sequencer.label.eq(label),
            sequencer.read_word.eq(read.data),
            read.addr.eq(Mux(packs, position, sequencer.read_class)),
            write.en.eq((filled & inside) | sequencer.write),
            write.addr.eq(Mux(filled, position, sequencer.write_class)),
            write.data.eq(Mux(filled, word, sequencer.word)),
            self.logits.ready.eq(wants_beat),
            self.o.payload.eq(beat),
        ]
        m.d.sync += self.nonfinite.eq(sequencer.report & sequencer.word[23:31].all())
        with m.If(sequencer.report):
            # The mean is the last word that is reported.
            m.d.sync += mean.eq(sequencer.word)

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

            with m.State("IDLE"):
                m.d.sync += [image.eq(0), correct.eq(0)]
                with m.If(self.start):
                    put(SCALE, self.scale)
                    run(Segment.START)
                    m.next = "START"

            with m.State("START"):
                with m.If(sequencer.done):
                    m.next = "LABELS"

            with m.State("LABELS"):
                # One beat for four images; the others find their label in what is left of it.
                fetch = image[:2] == 0
                m.d.comb += self.labels.ready.eq(fetch)
                with m.If(self.labels.valid | ~fetch):
                    source = Mux(fetch, self.labels.payload, labels)
                    m.d.sync += [label.eq(source[:32]), labels.eq(source >> 32), position.eq(0)]
                    m.next = "CHECK"

            with m.State("CHECK"):
                with m.If(label >= self.classes):
                    m.next = "FAILED"
                with m.Else():
                    m.d.sync += wants_beat.eq(1)
                    m.next = "LOGITS"

            with m.State("FAILED"):
                m.d.comb += self.label_error.eq(1)

            with m.State("LOGITS"):
                with m.If(filled):
                    m.d.sync += [beat.eq(beat >> 32), position.eq(position + 1)]
                    with m.If(inside & (position == label)):
                        m.d.sync += x_label.eq(word)
                    with m.If((position[:2] == 2) & ~last_beat):
                        m.d.sync += wants_beat.eq(1)
                    with m.If(position[:2] == 3):
                        m.d.sync += filled.eq(0)
                        with m.If(last_beat):
                            m.next = "LABEL LOGIT"
                with m.If(self.logits.valid & wants_beat):
                    m.d.sync += [beat.eq(self.logits.payload), filled.eq(1), wants_beat.eq(0)]

            with m.State("LABEL LOGIT"):
                # Meanwhile the last word is compared.
                put(X_LABEL, x_label)
                m.next = "MAXIMUM"

            with m.State("MAXIMUM"):
                put(NEGATIVE_MAXIMUM, maximum ^ (1 << 31))
                m.d.sync += image.eq(image + 1)
                run(Segment.CLEAR)
                m.next = "CLEAR"

            with m.State("CLEAR"):
                m.d.sync += chunk.eq(0)
                with m.If(sequencer.done):
                    m.next = "CHUNK"

            with m.State("CHUNK"):
                run(Segment.EXPONENTIALS)
                m.next = "EXPONENTIALS"

            with m.State("EXPONENTIALS"):
                with m.If(sequencer.done):
                    m.d.sync += chunk.eq(chunk + 1)
                    m.next = "CHUNK"
                    with m.If(last_chunk):
                        run(Segment.LOSS)
                        m.next = "LOSS"

            with m.State("LOSS"):
                m.d.sync += [chunk.eq(0), position.eq(0)]
                with m.If(sequencer.done):
                    m.next = "NEXT"
                    with m.If(self.gradient):
                        m.next = "GRADIENT CHUNK"

            with m.State("GRADIENT CHUNK"):
                run(Segment.GRADIENT)
                m.next = "GRADIENT"

            with m.State("GRADIENT"):
                with m.If(sequencer.done):
                    m.d.sync += chunk.eq(chunk + 1)
                    m.next = "GRADIENT CHUNK"
                    with m.If(last_chunk):
                        m.d.sync += packs.eq(1)
                        m.next = "FETCH"

            with m.State("FETCH"):
                m.d.sync += position.eq(position + 1)
                m.next = "PACK"

            with m.State("PACK"):
                # The word of the position before is here, the next one is fetched.
                m.d.sync += beat.eq(Cat(beat[32:], Mux(was_inside, read.data, C(0, 32))))
                with m.If(position[:2] == 0):
                    m.next = "GRADIENT BEAT"
                with m.Else():
                    m.d.sync += position.eq(position + 1)

            with m.State("GRADIENT BEAT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FETCH"
                    with m.If((position[:group_bits] == 0) & ~inside):
                        m.next = "NEXT"

            with m.State("NEXT"):
                m.d.sync += [packs.eq(0), correct.eq(correct + is_right)]
                m.next = "LABELS"
                with m.If(all_images):
                    run(Segment.END)
                    m.next = "END"

            with m.State("END"):
                with m.If(sequencer.done):
                    m.next = "RECORD"

            with m.State("RECORD"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(
                        Cat(mean, correct, C(0, 16), self.images, C(0, 16), self.record)
                    ),
                ]
                with m.If(self.o.ready):
                    m.next = "IDLE"

        return m

    model = staticmethod(softmax_model)
