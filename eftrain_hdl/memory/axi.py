"""AXI4 bus signatures, the layouts of runs and beats, and flat port names for a Verilog top.

The memory side of the core talks AXI4 to DRAM and speaks *runs* and *beats* inwards: a run is one
contiguous piece of memory, a beat is one bus word of it. Buses are split into a read and a write
half, because every port of the core uses one half only.
"""

import enum

from amaranth.hdl import Const, Module, Shape, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "AXI_BURST_INCR",
    "AXI_CACHE",
    "AXI_PAGE_BYTES",
    "AxiLiteSignature",
    "AxiReadSignature",
    "AxiWriteSignature",
    "BeatLayout",
    "BusError",
    "FlatPorts",
    "RunLayout",
    "RunTag",
    "check_bus_parameters",
]

AXI_PAGE_BYTES = 4096
"""No AXI burst may cross an address that is a multiple of this (AXI4, A3.4.1)."""

AXI_BURST_INCR = 0b01
"""``arburst``/``awburst`` of a burst whose address increments by one bus word a beat."""

AXI_CACHE = 0b0011
"""``arcache``/``awcache``: normal, non-cacheable, bufferable memory."""


def check_bus_parameters(*, address_bits, data_bits, id_bits):
    """Raise :exc:`ValueError` unless the three widths describe a legal AXI4 bus."""
    if not isinstance(address_bits, int) or not 13 <= address_bits <= 64:
        raise ValueError(f"address_bits must be an integer from 13 to 64, not {address_bits!r}.")
    if data_bits not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise ValueError(f"data_bits must be a power of two from 8 to 1024, not {data_bits!r}.")
    if not isinstance(id_bits, int) or not 1 <= id_bits <= 32:
        raise ValueError(f"id_bits must be an integer from 1 to 32, not {id_bits!r}.")


class BusError(enum.IntEnum):
    """Values of the ``error`` port of readers and writers."""

    NONE = 0
    MISALIGNED = 1
    """The address of a run is no multiple of the bus width."""
    OUT_OF_WINDOW = 2
    """A run is empty, or not entirely inside the window."""
    BUS_RESPONSE = 3
    """The bus answered SLVERR or DECERR."""


class RunTag(data.StructLayout):
    """What is to be done with the beats of a run, decided by whoever asked for it.

    The units behind a reader look at nothing else, so runs of two descriptors may follow each
    other without a gap.

    Members
    -------
    mark
        The last run of an array row of the WU stream.
    coefficients
        A coefficient record (k0, k1, k2 of one channel block), for the prologue.
    affine
        Every word x becomes k0*x + k2.
    pair
        With ``affine``: every word x becomes k0*x + (k1*c + k2), with a companion word c.
    relu
        With ``affine``: negative results become +0.
    tee
        The beats also go to the second writer.
    transpose
        Groups of T vectors are transposed.
    alternate
        Use the second of the two buses that a :class:`ReadSteer` chooses from.
    """

    FIELDS = ("mark", "coefficients", "affine", "pair", "relu", "tee", "transpose", "alternate")

    def __init__(self):
        super().__init__(dict.fromkeys(self.FIELDS, 1))


class RunLayout(data.StructLayout):
    """Payload of a stream of runs, one contiguous piece of memory each.

    Members
    -------
    address : :py:`unsigned(address_bits)`
        Byte address of the first beat; a multiple of the bus width.
    beats : :py:`unsigned(16)`
        Length in bus beats, at least 1.
    tag : :class:`RunTag`
        Chosen by the requester; a reader repeats it on every beat of the run.
    """

    def __init__(self, address_bits=32):
        super().__init__({"address": address_bits, "beats": 16, "tag": RunTag()})


class BeatLayout(data.StructLayout):
    """Payload of a stream of beats that a reader returns.

    Members
    -------
    data : :py:`unsigned(data_bits)`
        One bus word, lowest address in the lowest byte.
    tag : :class:`RunTag`
        Tag of the run this beat belongs to.
    last : :py:`unsigned(1)`
        Set on the final beat of the *run* (not of a burst).
    """

    def __init__(self, data_bits=128):
        super().__init__({"data": data_bits, "tag": RunTag(), "last": 1})


def _address_channel(prefix, address_bits, id_bits):
    """Members of an AR or AW channel, seen by the bus's initiator."""
    return {
        f"{prefix}id": Out(id_bits),
        f"{prefix}addr": Out(address_bits),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


class AxiReadSignature(wiring.Signature):
    """Read half (AR and R channels) of an AXI4 bus, seen by the initiator.

    Parameters
    ----------
    address_bits, data_bits, id_bits : :class:`int`
        Widths of ``araddr``, ``rdata`` and ``arid``/``rid``.

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4.
    """

    def __init__(self, address_bits=32, data_bits=128, id_bits=1):
        check_bus_parameters(address_bits=address_bits, data_bits=data_bits, id_bits=id_bits)
        super().__init__(
            {
                **_address_channel("ar", address_bits, id_bits),
                "rid": In(id_bits),
                "rdata": In(data_bits),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class AxiWriteSignature(wiring.Signature):
    """Write half (AW, W and B channels) of an AXI4 bus, seen by the initiator.

    Parameters
    ----------
    address_bits, data_bits, id_bits : :class:`int`
        Widths of ``awaddr``, ``wdata`` and ``awid``/``bid``.

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4.
    """

    def __init__(self, address_bits=32, data_bits=128, id_bits=1):
        check_bus_parameters(address_bits=address_bits, data_bits=data_bits, id_bits=id_bits)
        super().__init__(
            {
                **_address_channel("aw", address_bits, id_bits),
                "wdata": Out(data_bits),
                "wstrb": Out(data_bits // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(id_bits),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class AxiLiteSignature(wiring.Signature):
    """AXI4-Lite bus, read and write, seen by the initiator. A register block takes it flipped.

    Parameters
    ----------
    address_bits : :class:`int`
        Width of ``awaddr`` and ``araddr``.
    data_bits : :class:`int`
        Width of ``wdata`` and ``rdata``: 32 or 64.

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4-Lite.
    """

    def __init__(self, address_bits, data_bits=32):
        if not isinstance(address_bits, int) or not 1 <= address_bits <= 64:
            raise ValueError(f"address_bits must be an integer from 1 to 64, not {address_bits!r}.")
        if data_bits not in (32, 64):
            raise ValueError(f"data_bits of AXI4-Lite must be 32 or 64, not {data_bits!r}.")
        super().__init__(
            {
                "awaddr": Out(address_bits),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(data_bits),
                "wstrb": Out(data_bits // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(address_bits),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(data_bits),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class FlatPorts(wiring.Component):
    """Wraps a component so that its Verilog ports are called ``<prefix>_<signal>``.

    Amaranth names a nested port ``bus__araddr``; block designs, board files and testbenches look
    for ``m_axi_araddr``. The wrapper adds no logic. Fields of a struct (the payload of a stream,
    say) become ports of their own: stream ``run`` of :class:`RunLayout` becomes ``run_address``,
    ``run_beats``, ``run_tag``, ``run_valid`` and ``run_ready``; a payload that is no struct becomes
    ``<prefix>_payload``.

    Parameters
    ----------
    component : :class:`wiring.Component`
        What to wrap.
    prefixes : :class:`dict` from :class:`str` to :class:`str`
        New name for a port or, for a nested interface, for the prefix of its signals. Ports that
        are not listed keep theirs.

    Raises
    ------
    :exc:`ValueError`
        If ``prefixes`` names a port that the component does not have, or two ports end up with the
        same name.
    """

    def __init__(self, component, *, prefixes=None):
        prefixes = dict(prefixes or {})
        for name in prefixes:
            if name not in component.signature.members:
                raise ValueError(
                    f"The component has no port {name!r} to rename; its ports are "
                    f"{', '.join(component.signature.members)}."
                )
        self._component = component
        self._links = {}
        members = {}
        for path, member, value in component.signature.flatten(component):
            parts = [prefixes.get(path[0], path[0]), *map(str, path[1:])]
            if isinstance(member.shape, data.StructLayout):
                if parts[-1] == "payload":
                    parts.pop()
                leaves = [([*parts, field], value[field]) for field, _ in member.shape]
            else:
                leaves = [(parts, value)]
            for leaf_parts, leaf in leaves:
                leaf = Value.cast(leaf)
                if isinstance(leaf, Const):
                    # An always-ready or always-valid stream has nothing to bring out.
                    continue
                name = "_".join(leaf_parts)
                if name in members:
                    raise ValueError(f"Two ports of the component would both be named {name!r}.")
                members[name] = member.flow(Shape(len(leaf)))
                self._links[name] = leaf
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.component = self._component
        for name, leaf in self._links.items():
            if self.signature.members[name].flow is Out:
                m.d.comb += getattr(self, name).eq(leaf)
            else:
                m.d.comb += leaf.eq(getattr(self, name))
        return m
