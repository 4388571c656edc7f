"""Port chain: tile steps in, bursts on a bus, with the order of two descriptors kept."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from .addressing.run_generator import RunGenerator, request_layout
from .addressing.tile import tile_layout
from .control.descriptor import descriptor_layout
from .memory.axi import BusError
from .memory.burst_writer import BurstWriter
from .memory.read_steer import ReadSteer
from .memory.run_switch import RunSwitch

__all__ = ["STEPS_AHEAD", "PortChain"]

STEPS_AHEAD = 4
"""Tile steps that a unit may lag behind the tile walker."""

_OPEN_BITS = 12
"""For the number of runs in a master: in its splitter, on the bus, and those that have landed."""


class PortChain(wiring.Component):
    """Queue of tile steps, port map, run generator and burst master of one memory port.

    A tile of the newer of two descriptors in flight waits at the head of the queue until the older
    one is done, unless its descriptor has the flag ``ahead``. A request that the map has made holds
    addresses of its own, so that nothing here looks at a descriptor but through a tile of it.

    Parameters
    ----------
    config : CoreConfig
    tile_map : Component
        From ``tile_layout`` and a descriptor to requests, such as
        :class:`~eftrain_hdl.addressing.port_maps.StreamMap`.
    master : BurstReader or BurstWriter
    ahead : isa.Flag or None
    has_tee : bool
        Of a writer: runs with the tag ``tee`` take their data from another stream.
    steered : bool
        Of a reader: runs with the tag ``alternate`` go to another bus.

    Members
    -------
    tiles : In(stream of tile_layout)
    requests : In(stream of request_layout)
        Of the vector unit, which works while no tile is here.
    descriptors : In(data.ArrayLayout(descriptor_layout(), 2)), oldest : In(1)
        Those in flight, by slot, and the slot of the oldest.
    bus, window_base, window_limit, halt, error, and o or i
        Of the master.
    tee : In(stream of data_bits)
        With ``has_tee``.
    alternate_bus
        With ``steered``.
    error_newer : Out(1)
        The error belongs to the newer of two descriptors in flight. Exact for what the bus answers;
        a run that is refused counts as the newer one's if the master holds a run of that.
    fenced : Out(1)
        A tile waits for the older descriptor.
    busy : Out(1)
        Work of the oldest descriptor is not finished: a tile, a request, a run; for a writer also
        an answer of the bus.
    idle : Out(1)
        Of the master: nothing is open on the bus.
    """

    def __init__(self, config, tile_map, master, *, ahead=None, has_tee=False, steered=False):
        self.tile_map = tile_map
        self.master = master
        self._ahead = ahead
        self._has_tee = has_tee
        self._steered = steered
        self._bits = {"address_bits": config.address_bits, "data_bits": config.data_bits}
        self._id_bits = config.id_bits
        members = master.signature.members
        request = stream.Signature(request_layout(address_bits=config.address_bits))
        super().__init__(
            {
                "tiles": In(stream.Signature(tile_layout())),
                "requests": In(request),
                "descriptors": In(data.ArrayLayout(descriptor_layout(), 2)),
                "oldest": In(1),
                **{name: members[name] for name in members if name != "run"},
                **({"tee": members["i"]} if has_tee else {}),
                **({"alternate_bus": members["bus"]} if steered else {}),
                "error_newer": Out(1),
                "fenced": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tile_map, master = self.tile_map, self.master
        m.submodules.map = tile_map
        m.submodules.master = master
        m.submodules.runs = runs = RunGenerator(address_bits=self._bits["address_bits"])
        m.submodules.queue = queue = SyncFIFOBuffered(width=tile_layout().size, depth=STEPS_AHEAD)

        # -- tiles, held back where the older descriptor must be done first ------------------------
        tile = tile_map.i.payload
        newer = Signal()
        allowed = Signal()
        m.d.comb += [
            queue.w_data.eq(self.tiles.payload),
            queue.w_en.eq(self.tiles.valid),
            self.tiles.ready.eq(queue.w_rdy),
            tile.eq(queue.r_data),
            tile_map.descriptor.eq(self.descriptors[tile.slot]),
            newer.eq(tile.slot != self.oldest),
            allowed.eq(~newer),
            self.fenced.eq(queue.r_rdy & ~allowed),
            tile_map.i.valid.eq(queue.r_rdy & allowed),
            queue.r_en.eq(tile_map.i.ready),
        ]
        if self._ahead is not None:
            m.d.comb += allowed.eq(~newer | tile_map.descriptor.flags[self._ahead])

        # -- requests: of the map, or of the vector unit -------------------------------------------
        m.d.comb += [
            runs.i.payload.eq(Mux(self.requests.valid, self.requests.payload, tile_map.o.payload)),
            runs.i.valid.eq(self.requests.valid | tile_map.o.valid),
            self.requests.ready.eq(runs.i.ready),
            tile_map.o.ready.eq(runs.i.ready & ~self.requests.valid),
        ]
        outer = set(master.signature.members) - {"run"}
        if self._has_tee:
            m.submodules.switch = switch = RunSwitch(**self._bits)
            connect(m, runs.o, switch.run)
            connect(m, switch.o_run, master.run)
            connect(m, switch.o, master.i)
            for name in ("i", "tee"):
                _forward(m, self, switch, name)
            outer.remove("i")
        elif self._steered:
            m.submodules.steer = steer = ReadSteer(**self._bits, id_bits=self._id_bits)
            connect(m, runs.o, steer.run)
            connect(m, steer.o_run, master.run)
            connect(m, master.bus, steer.client)
            connect(m, steer.bus0, flipped(self.bus))
            connect(m, steer.bus1, flipped(self.alternate_bus))
            m.d.comb += steer.idle.eq(master.idle)
            outer.remove("bus")
        else:
            connect(m, runs.o, master.run)
        for name in sorted(outer):
            _forward(m, self, master, name)

        # -- what is under way, by descriptor ------------------------------------------------------
        queued = queue.r_rdy & ~newer
        if isinstance(master, BurstWriter):
            # Nothing of the newer descriptor is ever here.
            m.d.comb += self.busy.eq(queued | ~runs.idle | ~master.idle)
        else:
            request_slot = Signal()
            with m.If(runs.i.valid & runs.i.ready):
                m.d.sync += request_slot.eq(Mux(self.requests.valid, self.oldest, tile.slot))
            # The end of a run is counted a cycle late, off the path through the consumer's ready.
            # An error is judged by what closes in that cycle, too.
            began, ended = Signal(), Signal()
            ended_slot = Signal()
            is_open = Array(Signal(name=f"is_open{slot}") for slot in range(2))
            closes = Array(Signal(name=f"closes{slot}") for slot in range(2))
            older, newer_slot = self.oldest, ~self.oldest
            m.d.sync += ended.eq(master.o.valid & master.o.ready & master.o.p.last)
            m.d.comb += [
                began.eq(runs.o.valid & runs.o.ready),
                # Runs come back in order.
                ended_slot.eq(Mux(is_open[older], older, newer_slot)),
                self.busy.eq(queued | (~runs.idle & (request_slot == older)) | is_open[older]),
                self.error_newer.eq(
                    Mux(
                        self.error == BusError.BUS_RESPONSE,
                        ~is_open[older] | closes[older],
                        is_open[newer_slot] & ~closes[newer_slot],
                    )
                ),
            ]
            for slot in range(2):
                count = Signal(_OPEN_BITS, name=f"open_runs{slot}")
                begins = began & (request_slot == slot)
                ends = ended & (ended_slot == slot)
                m.d.comb += closes[slot].eq(ends & (count == 1))
                with m.If(begins ^ ends):
                    m.d.sync += count.eq(count + Mux(begins, 1, -1))
                with m.If(begins):
                    m.d.sync += is_open[slot].eq(1)
                with m.Elif(closes[slot]):
                    m.d.sync += is_open[slot].eq(0)
        return m


def _forward(m, outer, inner, name):
    """Make the member ``name`` of ``inner`` one of ``outer``."""
    member = outer.signature.members[name]
    mine, its = getattr(outer, name), getattr(inner, name)
    if member.is_signature:
        connect(m, its, flipped(mine))
    elif member.flow is In:
        m.d.comb += its.eq(mine)
    else:
        m.d.comb += mine.eq(its)
