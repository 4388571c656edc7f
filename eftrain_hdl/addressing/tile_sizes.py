"""The rectangle of a tile on both grids, and how many vectors it has."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.descriptor import descriptor_layout
from ..isa import Flag
from .divide import RECIPROCAL_BITS, reciprocal
from .tile import TILE_BITS, tile_layout

__all__ = ["TileSizes"]

COMPUTED = (
    "rows", "cols", "small_area", "big_area", "groups", "stream_vectors", "stationary_vectors",
    "pixel_vectors", "block_vectors",
)  # fmt: skip
"""Fields of a tile that are found here."""

# The program: cycles in which something is chosen as operands, from those of an axis on. The
# product may be used two cycles later, what is made of it and stored three cycles later.
_AXIS = 5
"""Cycles from one axis to the next."""
_CHOOSE, _END, _BEGIN, _TAPS, _CLIP_END = range(_AXIS)
_BIG_AREA = 2 * _AXIS + 2
_SMALL_AREA = _BIG_AREA + 1
_OF_BIG_AREA = _BIG_AREA + 3
_OF_SMALL_AREA = _SMALL_AREA + 3
_OF_WEIGHTS = _OF_SMALL_AREA + 1
_OF_BLOCKS = _OF_SMALL_AREA + 3
_CHECK = _OF_BLOCKS + 3


class TileSizes(wiring.Component):
    """Sizes of one tile from its place on the iteration grid: a program for one multiplier.

    *Latency*: ``done`` is high for the one cycle :attr:`latency` cycles after ``start``; the
    results stay until the next ``start``.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptor : In(descriptor_layout)
        Like all inputs below, stable from ``start`` to ``done``.
    is_bp, is_wu : In(1)
        The descriptor cuts the big grid into tiles; it computes a weight gradient.
    rows, cols : In(struct)
        The tile on the iteration grid, ``begin`` to ``end``.
    images, out_blocks : In(16)
        Of the tile.
    start : In(1)
        Pulse.
    o : Out(struct)
        The fields ``COMPUTED`` of :func:`tile_layout`.
    done : Out(1)
    overflow : Out(1)
        While ``done``: the tile does not fit a buffer.
    """

    latency = _CHECK + 1

    def __init__(self, config):
        self.config = config
        axis = data.StructLayout({"begin": TILE_BITS, "end": TILE_BITS})
        fields = dict(tile_layout())
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "is_bp": In(1),
                "is_wu": In(1),
                "rows": In(axis),
                "cols": In(axis),
                "images": In(TILE_BITS),
                "out_blocks": In(TILE_BITS),
                "start": In(1),
                "o": Out(data.StructLayout({name: fields[name].shape for name in COMPUTED})),
                "done": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, o = self.descriptor, self.o
        is_wu = self.is_wu
        group_bits = ceil_log2(self.config.group)
        # One-hot: a cycle of the program is one bit, and none is high when it is over.
        now = Signal(_CHECK + 1)
        m.d.sync += now.eq(Cat(self.start, now))

        left = Signal(TILE_BITS + 1)
        right = Signal(RECIPROCAL_BITS + 1)
        product = Signal(len(left) + len(right))
        m.d.sync += product.eq(left * right)
        ends, begins, factor = self._axes(m, now, product)

        # -- sizes ---------------------------------------------------------------------------------
        # WU fills the last group of pixels of a row up, all images behind one another.
        groups = (o.small_area + self.config.group - 1) >> group_bits
        m.d.sync += o.groups.eq(groups)
        operands = {
            _END: (ends, factor),
            _BEGIN: (begins, factor),
            _TAPS: (d.kernel_rows, d.kernel_cols),
            _BIG_AREA: (o.rows.big, o.cols.big),
            _SMALL_AREA: (Mux(is_wu, self.images, o.rows.small), o.cols.small),
            _OF_BIG_AREA: (self.images, o.big_area),
            _OF_SMALL_AREA: (
                Mux(is_wu, o.rows.small, self.images),
                Mux(is_wu, groups << group_bits, o.small_area),
            ),
            _OF_WEIGHTS: (self.out_blocks, o.block_vectors),
            _OF_BLOCKS: (self.out_blocks, Mux(is_wu, o.pixel_vectors, o.block_vectors)),
        }
        chosen = [now[cycle] for cycle in operands]
        for index, cycle in enumerate(operands):
            if cycle in (_END, _BEGIN):
                chosen[index] |= now[_AXIS + cycle]
        for operand, values in zip(
            (left, right), zip(*operands.values(), strict=True), strict=True
        ):
            terms = [Mux(choose, value, 0) for choose, value in zip(chosen, values, strict=True)]
            m.d.sync += operand.eq(reduce(or_, terms))

        # Every size must fit its buffer, hence 16 bits: larger products are an overflow.
        accumulators = Signal(TILE_BITS)
        backward = self.is_bp
        forward = ~is_wu & ~backward
        destinations = {
            _BIG_AREA: [(Const(1), o.big_area)],
            _SMALL_AREA: [(Const(1), o.small_area)],
            _OF_BIG_AREA: [
                (is_wu, o.stationary_vectors),
                (forward, o.stream_vectors),
                (backward, o.block_vectors),
            ],
            _OF_SMALL_AREA: [
                (is_wu, o.pixel_vectors),
                (forward, o.block_vectors),
                (backward, o.stream_vectors),
            ],
            _OF_WEIGHTS: [(is_wu, accumulators)],
            _OF_BLOCKS: [(is_wu, o.stream_vectors), (~is_wu, accumulators)],
        }
        too_large = Signal()
        with m.If(now[_TAPS + 2]):
            m.d.sync += too_large.eq(0)
            with m.If(is_wu):
                weights = product[:8] + d.flags[Flag.BIAS]
                m.d.sync += o.block_vectors.eq(weights << group_bits)
            with m.Else():
                m.d.sync += o.stationary_vectors.eq(0)
        for cycle, stores in destinations.items():
            for used, destination in stores:
                with m.If(now[cycle + 2] & used):
                    m.d.sync += destination.eq(product)
                    with m.If(product[TILE_BITS:].any()):
                        m.d.sync += too_large.eq(1)
        m.d.comb += [
            self.done.eq(now[_CHECK]),
            self.overflow.eq(
                too_large
                | (o.stream_vectors > self.config.stream_depth)
                | (o.stationary_vectors > self.config.stationary_depth)
                | (accumulators > self.config.accumulator_depth)
            ),
        ]
        return m

    def _axes(self, m, now, product):
        """Both axes, one behind the other: from the iteration grid to the other one.

        Small to big: what the taps reach. Big to small: which pixels reach it, a division, rounded
        up. Returns the operands for the end and the begin, and the factor of both.
        """
        d, o, is_bp = self.descriptor, self.o, self.is_bp
        tile = Signal(self.rows.shape())
        stride = Signal(3)
        # What a window reaches before and after its pixel; the quotient is to be rounded up.
        before = Signal(5)
        after = Signal(4)
        limit = Signal(TILE_BITS)
        bound = Signal(signed(TILE_BITS + 4))
        begin, end = Signal(TILE_BITS), Signal(TILE_BITS)
        is_begin = Signal()
        for name, offset in (("rows", 0), ("cols", _AXIS)):
            axis = o[name]
            kernel, pad = d[f"kernel_{name}"][:4], d[f"pad_{name}"][:4]
            with m.If(now[offset + _CHOOSE]):
                m.d.sync += [
                    tile.eq(getattr(self, name)),
                    stride.eq(d[f"stride_{name}"]),
                    before.eq(pad + Mux(is_bp, d[f"stride_{name}"][:3] - 1, 0)),
                    after.eq(kernel - pad),
                    limit.eq(Mux(is_bp, d[f"small_{name}"], d[f"big_{name}"])),
                ]
            with m.If(now[offset + _CLIP_END]):
                m.d.sync += end.eq(Mux(bound > limit, limit, bound))
            with m.If(now[offset + _AXIS]):
                m.d.sync += [
                    axis.small0.eq(Mux(is_bp, begin, tile.begin)),
                    axis.small1.eq(Mux(is_bp, end, tile.end)),
                    axis.big0.eq(Mux(is_bp, tile.begin, begin)),
                    axis.big1.eq(Mux(is_bp, tile.end, end)),
                ]
            m.d.sync += [
                axis.small.eq(axis.small1 - axis.small0),
                axis.big.eq(axis.big1 - axis.big0),
            ]
        m.d.sync += is_begin.eq(now[_BEGIN + 1] | now[_AXIS + _BEGIN + 1])
        with m.If(is_bp):
            m.d.sync += bound.eq(product[RECIPROCAL_BITS:])
        with m.Else():
            m.d.sync += bound.eq(product[: TILE_BITS + 2] + Mux(is_begin, -before, after))
        # A tile that no small pixel reaches has an empty range at its end.
        m.d.comb += begin.eq(Mux(bound < 0, 0, Mux(bound > end, end, bound)))

        # Negative quotients are clipped before dividing.
        low = Signal(signed(TILE_BITS + 2))
        m.d.comb += low.eq(tile.begin + 1 - after)
        return (
            Mux(is_bp, tile.end + before, tile.end - 1),
            Mux(is_bp, Mux(low < 0, 0, low) + (stride - 1)[:3], tile.begin),
            Mux(is_bp, reciprocal(stride), stride),
        )
