"""What the maps of all memory chains share: the walk through a table of boxes, and its words."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.descriptor import descriptor_layout
from ..isa import COEFFICIENT_VECTORS, Flag, Opcode
from ..records import pack
from .run_generator import LEVELS, request_layout
from .tile import TILE_BITS, tile_layout

__all__ = ["PortMap"]

PROLOGUE_VECTORS = 3
"""Vectors of a coefficient record that the prologue needs: k0, k1, k2."""


class PortMap(wiring.Component):
    """Walks a table of boxes for each tile step; a subclass gives the table.

    A box that is not wanted costs a cycle, and a new tile two, in which registers take what opcode
    and flags say of it. Both hide behind the runs of the box before.

    Members
    -------
    descriptor : In(descriptor_layout)
        That of the tile at the head of ``i``.
    i : In(stream of tile_layout)
    o : Out(stream of request_layout)
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "i": In(stream.Signature(tile_layout())),
                "o": Out(stream.Signature(request_layout(address_bits=config.address_bits))),
            }
        )

    def boxes(self, out_block):
        """The table: pairs of a condition and a box, in order, for one out block of the tile."""
        raise NotImplementedError

    def repeats(self):
        """How many out blocks of a tile have boxes of their own."""
        return self.tile.out_blocks

    def elaborate(self, platform):
        m = Module()
        self._held = {}
        out_block = Signal(TILE_BITS)
        boxes = self.boxes(out_block)
        repeats = self.repeats()
        m.d.sync += [held.eq(value) for held, value in self._held.values()]

        # A tile has been here for one cycle, for two. What is held is right then, and what is made
        # of that, too.
        held, walking = Signal(), Signal()
        m.d.sync += [
            held.eq(self.i.valid & ~self.i.ready),
            walking.eq(held & ~self.i.ready),
        ]

        # Whether the box at the front is wanted; those behind it wait in turn.
        wanted = Signal(len(boxes))
        left = Signal(TILE_BITS)
        last_block = Signal()
        m.d.sync += last_block.eq(left == 1)
        # ``last_box`` goes with ``place``, which is busy choosing the payload.
        place, last_box = Signal(range(len(boxes))), Signal(init=len(boxes) == 1)
        with m.Switch(place):
            for index, (_, box) in enumerate(boxes):
                with m.Case(index):
                    m.d.comb += self.o.payload.eq(pack(self.o.payload.shape(), box))
        m.d.comb += self.o.valid.eq(walking & wanted[0])
        with m.If(~walking):
            m.d.sync += [
                wanted.eq(Cat(condition for condition, _ in boxes)),
                out_block.eq(self.tile.out_block0),
                left.eq(repeats),
            ]
        with m.Elif(self.o.ready | ~wanted[0]):
            m.d.sync += [
                wanted.eq(wanted.rotate_right(1)),
                place.eq(place + 1),
                last_box.eq(place == len(boxes) - 2),
            ]
            with m.If(last_box):
                m.d.sync += [
                    place.eq(0),
                    last_box.eq(len(boxes) == 1),
                    out_block.eq(out_block + 1),
                    left.eq(left - 1),
                ]
                m.d.comb += self.i.ready.eq(last_block)
        return m

    # -- what descriptor and tile say --------------------------------------------------------------

    @property
    def tile(self):
        return self.i.payload

    def hold(self, name, value):
        """A register for what is the same as long as a tile is here."""
        if name not in self._held:
            self._held[name] = Signal(Value.cast(value).shape(), name=name), value
        return self._held[name][0]

    def is_any(self, *opcodes):
        name = "_or_".join(opcode.name.lower() for opcode in opcodes)
        return self.hold(f"is_{name}", self.descriptor.opcode.matches(*opcodes))

    def any_flag(self, *flags):
        name = "_or_".join(flag.name.lower() for flag in flags)
        return self.hold(f"has_{name}", Cat(self.descriptor.flags[flag] for flag in flags).any())

    @property
    def is_wu(self):
        return self.is_any(Opcode.CONV_WU)

    @property
    def normalises_stream(self):
        return self.any_flag(Flag.NORM_DY) | (self.any_flag(Flag.NORM_X) & ~self.is_wu)

    @property
    def pairs(self):
        return self.any_flag(Flag.NORM_DY, Flag.X_PAIR)

    @property
    def tees(self):
        """Each X once: FP streams it again for later out blocks, PASS has other X for them."""
        is_first = self.hold("is_first", self.tile.out_block0 == 0)
        return self.any_flag(Flag.TEE) & (self.is_any(Opcode.PASS) | is_first)

    @property
    def sums_gradient(self):
        """With y and the coefficients beside it, which SUMS does without."""
        return self.any_flag(Flag.STATISTICS) & ~self.is_any(Opcode.CONV_FP)

    @property
    def updates_bias(self):
        """WU computes the bias gradient with the first of the other blocks."""
        is_first = self.hold("is_first_in_block", self.tile.in_block == 0)
        return self.any_flag(Flag.BIAS) & self.is_wu & is_first

    def strides(self, port):
        """Byte strides of a tensor: of images, of channel blocks, of rows."""
        return [self.descriptor[f"{port}_{name}_stride"] for name in ("image", "block", "row")]

    def grid(self, *big_for):
        """First pixel and number of pixels, on rows and on columns.

        Of the big grid for the opcodes given, else of the small one.
        """
        is_big = self.is_any(*big_for)
        return [
            (Mux(is_big, axis.big0, axis.small0), Mux(is_big, axis.big, axis.small))
            for axis in (self.tile.rows, self.tile.cols)
        ]

    @property
    def result_grid(self):
        return self.grid(Opcode.CONV_BP, Opcode.PASS_BP)

    def stream_block(self, out_block):
        """Channel block of the streamed operand: FP and BP reduce over theirs."""
        reduces = self.is_any(Opcode.CONV_FP, Opcode.CONV_BP)
        return Mux(reduces, self.tile.in_block, out_block)

    # -- boxes -------------------------------------------------------------------------------------

    def box(self, base, terms, levels, *, beats, tag=None):
        """A request: ``terms`` of (index, stride), ``levels`` of (count, stride), outermost first.
        Missing outer levels run once."""
        levels = [*[(1, 0)] * (LEVELS - len(levels)), *levels]
        return {
            "base": base,
            "term": [{"index": index, "stride": stride} for index, stride in terms],
            "level": [{"count": count, "stride": stride} for count, stride in levels],
            "beats": beats,
            "tag": tag or {},
        }

    def vectors(self, count):
        """Beats of ``count`` vectors."""
        bits = ceil_log2(self.config.vector_beats)
        return count << bits

    def record(self, base, block, stride, beats, *, tag=None):
        """One of the records of a channel block each, ``stride`` bytes apart."""
        return self.box(base, [(block, stride)], [], beats=beats, tag=tag)

    def coefficients(self, base, block):
        """What the prologue needs for one channel block."""
        stride = COEFFICIENT_VECTORS * self.config.vector_bytes
        beats = PROLOGUE_VECTORS * self.config.vector_beats
        return self.record(base, block, stride, beats, tag={"coefficients": 1})

    def tensor(self, base, strides, block, grid, *, by_rows=False, copies=None, tag=None):
        """The pixels of the tile in one channel block: image by image (or row by row), each row.

        With ``copies``, the byte distance of a second tensor, their vectors alternate.
        """
        image, block_stride, row = strides
        (row0, rows), (col0, cols) = grid
        vector = self.config.vector_bytes
        levels = [(self.tile.images, image), (rows, row)]
        beats = self.vectors(cols)
        if by_rows:
            levels.reverse()
        if copies is not None:
            levels += [(cols, vector), (2, copies)]
            beats = self.vectors(1)
        terms = [(self.tile.image0, image), (block, block_stride), (row0, row), (col0, vector)]
        return self.box(base, terms, levels, beats=beats, tag=tag)

    def windows(self, base, strides, block, grid, *, halved=False):
        """The same in 2x2 windows of a tensor with twice the rows and columns of ``grid`` or, if
        ``halved``, with as many. Two runs of two vectors each, a row apart."""
        image, block_stride, row = strides
        (row0, rows), (col0, cols) = grid
        vector = self.config.vector_bytes
        if halved:
            rows, cols = rows >> 1, cols >> 1
        else:
            row0, col0 = row0 << 1, col0 << 1
        terms = [(self.tile.image0, image), (block, block_stride), (row0, row), (col0, vector)]
        levels = [(self.tile.images, image), (rows, row << 1), (cols, 2 * vector), (2, row)]
        return self.box(base, terms, levels, beats=self.vectors(2))

    def streamed(self, wanted, base, out_block, *, tag=None):
        """The streamed operand, or a tensor of its shape.

        WU orders pixels (row, image, column), so that the rows a tap cannot use are whole groups,
        and marks the end of each row, where the transposer pads the last group with zeros.
        """
        is_wu = self.is_wu
        grid = self.grid(Opcode.CONV_FP, Opcode.PASS)
        given = (base, self.strides("stream"), self.stream_block(out_block), grid)
        wu_tag = {**(tag or {}), "mark": 1, "transpose": 1}
        return [
            (wanted & ~is_wu, self.tensor(*given, tag=tag)),
            (wanted & is_wu, self.tensor(*given, by_rows=True, tag=wu_tag)),
        ]

    def weights(self, wanted, out_block):
        """WU: the weight blocks of all taps; with momentum, vector by vector in turn with it."""
        d, vector = self.descriptor, self.config.vector_bytes
        taps = self.hold("taps", (d.kernel_rows[:4] * d.kernel_cols[:4])[:8])
        count = taps << ceil_log2(self.config.group)
        two = self.any_flag(Flag.MOMENTUM)
        terms = [(out_block, d.output_block_stride), (self.tile.in_block, d.output_image_stride)]
        turns = [(count, vector), (2, d.side_base - d.output_base)]
        return [
            (wanted & ~two, self.box(d.output_base, terms, [], beats=self.vectors(count))),
            (wanted & two, self.box(d.output_base, terms, turns, beats=self.vectors(1))),
        ]

    def weights_bias(self, out_block):
        """WU: the bias behind the weights, with its momentum behind it."""
        d, vector = self.descriptor, self.config.vector_bytes
        turns = [(self.any_flag(Flag.MOMENTUM) + 1, d.bias_momentum_base - d.bias_base)]
        return self.box(d.bias_base, [(out_block, vector)], turns, beats=self.vectors(1))
