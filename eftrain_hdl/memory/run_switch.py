"""Takes the data of a writer's runs from one of two sources."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import RunLayout

__all__ = ["RunSwitch"]


class RunSwitch(wiring.Component):
    """Stands in front of a writer: runs with the tag ``tee`` get their data from ``tee``, all
    others from ``i``.

    Two descriptors may be in flight, the data of the later one waits for its runs.

    *Latency*: none for runs, one cycle from a run to its data. *Throughput*: one run and one beat a
    cycle. *Backpressure*: any stalls; runs may be ``runs_ahead`` runs ahead of their data.

    Parameters
    ----------
    address_bits, data_bits, runs_ahead : :class:`int`

    Members
    -------
    run, o_run : :py:`In(stream of RunLayout)`, :py:`Out(stream of RunLayout)`
        From the run generator, to the writer.
    i, tee, o : :py:`In(stream of data_bits)` twice, :py:`Out(stream of data_bits)`
        From the sources, to the writer.
    idle : :py:`Out(1)`
        All data of all runs has passed.
    """

    def __init__(self, *, address_bits=32, data_bits=128, runs_ahead=8):
        self._runs_ahead = runs_ahead
        run = stream.Signature(RunLayout(address_bits))
        words = stream.Signature(data_bits)
        super().__init__(
            {
                "run": In(run),
                "o_run": Out(run),
                "i": In(words),
                "tee": In(words),
                "o": Out(words),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"beats": 16, "tee": 1})
        m.submodules.runs = runs = fifo.SyncFIFO(width=layout.size, depth=self._runs_ahead)
        current = data.View(layout, runs.r_data)
        m.d.comb += [
            self.o_run.p.eq(self.run.p),
            self.o_run.valid.eq(self.run.valid & runs.w_rdy),
            self.run.ready.eq(self.o_run.ready & runs.w_rdy),
            runs.w_data.eq(Cat(self.run.p.beats, self.run.p.tag.tee)),
            runs.w_en.eq(self.run.valid & self.run.ready),
        ]

        sent = Signal(16)
        moves = Signal()
        m.d.comb += [
            self.o.payload.eq(Mux(current.tee, self.tee.payload, self.i.payload)),
            self.o.valid.eq(runs.r_rdy & Mux(current.tee, self.tee.valid, self.i.valid)),
            self.i.ready.eq(self.o.ready & runs.r_rdy & ~current.tee),
            self.tee.ready.eq(self.o.ready & runs.r_rdy & current.tee),
            moves.eq(self.o.valid & self.o.ready),
            runs.r_en.eq(moves & (sent == current.beats - 1)),
            self.idle.eq(~runs.r_rdy),
        ]
        with m.If(moves):
            m.d.sync += sent.eq(Mux(runs.r_en, 0, sent + 1))
        return m
