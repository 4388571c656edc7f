"""Accumulators: two banks of fp32 sums, one computing while the other drains."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """``bank[address] += sums``, one vector of T sums a cycle.

    Draining an entry also clears it, so a bank is all zero whenever it is handed over: the first
    sweep of a tile needs no special case, whatever pixels it leaves out. After reset both banks
    are cleared, an entry a cycle. Each bank is a simple dual-port memory, because computing and
    draining never meet in one bank.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    valid, bank, address : In
        Where the sums of the cycle after next go.
    sums : In(32*T)
    drain_bank, drain_address : In, drain_read : In(1)
        Fetch an entry into ``drain_data``, where it stays until the next ``drain_read``; clears it.
    drain_data : Out(32*T)
    ready : Out(1)
        The clearing after reset is over.
    """

    hazard = FloatAdd.latency + 2
    """Two vectors of one address must be issued more than this many cycles apart."""

    latency = FloatAdd.latency + 3
    """Cycles from ``valid`` until the sum can be drained."""

    def __init__(self, config):
        self.config = config
        self.depth = config.accumulator_depth
        bits = ceil_log2(self.depth)
        width = 32 * config.rows
        super().__init__(
            {
                "valid": In(1),
                "bank": In(1),
                "address": In(bits),
                "sums": In(width),
                "drain_bank": In(1),
                "drain_address": In(bits),
                "drain_read": In(1),
                "drain_data": Out(width),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = ceil_log2(self.depth)
        width = 32 * self.config.rows

        clearing = Signal(range(self.depth + 1))
        m.d.comb += self.ready.eq(clearing == self.depth)
        with m.If(~self.ready):
            m.d.sync += clearing.eq(clearing + 1)

        # The place of each sum travels beside the memories and the adder.
        stages = FloatAdd.latency + 2
        place = Cat(self.valid, self.bank, self.address)
        for stage in range(stages):
            held = Signal(len(place), name=f"place{stage}")
            m.d.sync += held.eq(place)
            place = held
            if stage == 0:
                reading_bank = Signal()
                m.d.comb += reading_bank.eq(held[1])
        write_valid, write_bank, write_address = place[0], place[1], place[2:]

        clear_valid = Signal()
        clear_bank = Signal()
        clear_address = Signal(bits)
        m.d.sync += [
            clear_valid.eq(self.drain_read),
            clear_bank.eq(self.drain_bank),
            clear_address.eq(self.drain_address),
        ]

        total = Signal(width)
        outputs = []
        for b in range(2):
            storage = memory.Memory(shape=width, depth=self.depth, init=[])
            m.submodules[f"bank{b}"] = storage
            read = storage.read_port(domain="sync", transparent_for=())
            write = storage.write_port()
            draining = self.drain_read & (self.drain_bank == b)
            summing = self.valid & (self.bank == b)
            m.d.comb += [
                read.addr.eq(Mux(draining, self.drain_address, self.address)),
                # Without a request the output holds: the drain slices it over several cycles.
                read.en.eq(draining | summing),
            ]
            with m.If(~self.ready):
                m.d.comb += [write.addr.eq(clearing), write.en.eq(1)]
            with m.Elif(clear_valid & (clear_bank == b)):
                m.d.comb += [write.addr.eq(clear_address), write.en.eq(1)]
            with m.Else():
                m.d.comb += [
                    write.addr.eq(write_address),
                    write.data.eq(total),
                    write.en.eq(write_valid & (write_bank == b)),
                ]
            outputs.append(read.data)
        banks = Array(outputs)
        # A register of its own: memories answer late in a cycle.
        old = Signal(width)
        m.d.sync += old.eq(banks[reading_bank])
        drained_bank = Signal()
        with m.If(self.drain_read):
            m.d.sync += drained_bank.eq(self.drain_bank)
        m.d.comb += self.drain_data.eq(banks[drained_bank])

        for row in range(self.config.rows):
            m.submodules[f"add{row}"] = adder = FloatAdd()
            m.d.comb += [
                adder.a.eq(old.word_select(row, 32)),
                adder.b.eq(self.sums.word_select(row, 32)),
                total.word_select(row, 32).eq(adder.o),
            ]
        return m
