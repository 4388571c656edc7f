"""MAC array: T dot products against a stationary tile."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import DotProduct, get_format

__all__ = ["MacArray", "shadow_layout"]


def shadow_layout(*, lanes, element_bits):
    """One vector for the next S: a row, or with ``column`` a column, at ``index``."""
    return data.StructLayout(
        {
            "valid": 1,
            "column": 1,
            "index": unsigned(ceil_log2(lanes)),
            "data": lanes * element_bits,
        }
    )


class MacArray(wiring.Component):
    """``o = S · v`` with S double-buffered.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    shadow : In(shadow_layout)
        Write one row or column of the next S.
    swap : In(1)
        Make the next S the current one, for vectors from the following cycle on. A shadow write in
        the same cycle belongs to the S after that.
    v : In
        Vector of the current cycle.
    o : Out(32*rows)
        Sums of the vector that was in ``v`` :attr:`latency` cycles before.
    special : Out(1)
        One of these sums is Inf or NaN.
    """

    def __init__(self, config):
        self.config = config
        self.fmt = get_format(config.format)
        self._dots = [DotProduct(fmt=self.fmt, lanes=config.lanes) for _ in range(config.rows)]
        super().__init__(
            {
                "shadow": In(shadow_layout(lanes=config.lanes, element_bits=self.fmt.bits)),
                "swap": In(1),
                "v": In(config.lanes * self.fmt.bits),
                "o": Out(32 * config.rows),
                "special": Out(1),
            }
        )

    @property
    def latency(self):
        """Cycles from ``v`` to ``o``."""
        return self._dots[0].latency

    def elaborate(self, platform):
        m = Module()
        bits, lanes = self.fmt.bits, self.config.lanes
        specials = []
        for row, dot in enumerate(self._dots):
            m.submodules[f"row{row}"] = dot
            following = Signal(data.ArrayLayout(bits, lanes), name=f"shadow{row}", reset_less=True)
            current = Signal(data.ArrayLayout(bits, lanes), name=f"current{row}", reset_less=True)
            with m.If(self.shadow.valid):
                with m.If(~self.shadow.column):
                    with m.If(self.shadow.index == row):
                        m.d.sync += following.eq(self.shadow.data)
                with m.Else():
                    for lane in range(lanes):
                        with m.If(self.shadow.index == lane):
                            m.d.sync += following[lane].eq(self.shadow.data.word_select(row, bits))
            with m.If(self.swap):
                m.d.sync += current.eq(following)
            m.d.comb += [
                dot.s.eq(current),
                dot.v.eq(self.v),
                self.o.word_select(row, 32).eq(dot.o),
            ]
            specials.append(dot.special)
        any_special = 0
        for special in specials:
            any_special = any_special | special
        m.d.comb += self.special.eq(any_special)
        return m
