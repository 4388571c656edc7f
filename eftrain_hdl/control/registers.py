"""The control port: an AXI4-Lite register block made from a declaration."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .. import isa
from ..memory.axi import AxiLiteSignature

__all__ = ["RegisterBlock", "register_layout"]

OKAY, SLVERR = 0b00, 0b10
ADDRESS_BITS = isa.REGISTER_SPACE.bit_length() - 1


def register_layout(register):
    """Shape of a register: 32 bits, with named fields if its declaration has some."""
    if not register.fields:
        return unsigned(32)
    fields = {field.name: data.Field(field.width, field.lsb) for field in register.fields}
    return data.FlexibleLayout(32, fields)


def _written_bits(register):
    """Mask of the bits that can be written; bits between fields read as zero."""
    if not register.fields:
        return (1 << 32) - 1
    return sum(field.mask << field.lsb for field in register.fields)


def _members(register, constants):
    """Ports of one register, by its access."""
    layout = register_layout(register)
    if register.access == "ro":
        return {} if register.name in constants else {"value": In(layout)}
    if register.access == "rw":
        init = register.reset
        if register.fields:
            init = {field.name: init >> field.lsb & field.mask for field in register.fields}
        return {"value": Out(layout, init=init), "locked": In(1)}
    if register.access == "wo":
        return {"written": Out(layout)}
    if register.access == "w1c":
        return {"value": Out(layout), "set": In(layout), "clear": In(1)}
    raise ValueError(f"Register {register.name} has unknown access {register.access!r}.")


class RegisterBlock(wiring.Component):
    """AXI4-Lite subordinate with the registers of a declaration like :data:`isa.REGISTERS`.

    Address and data of a write may come in either order. Byte strobes are honoured. The two lowest
    address bits are ignored. Every access to an address without a register, and every write to a
    read-only register, is answered SLVERR and has no effect; the former read as zero, as do
    write-only registers.

    *Latency*: reads 2 cycles from ``arvalid`` to ``rvalid``, writes 2 cycles from the later of
    ``awvalid`` and ``wvalid`` to ``bvalid``; one read and one write are open at a time.

    Parameters
    ----------
    registers : iterable of isa.Register
    constants : dict from str to int
        Read-only registers that never change, with their values. Those get no port.
    latched : dict from str to iterable of str
        Registers and those that a read of them latches: the latter read as they were then.

    Members
    -------
    ctrl : In(AxiLiteSignature(12))
        To the host.
    ports : In/Out, one sub-interface a register, in lower case
        ``ro``: ``value`` in. ``rw``: ``value`` out, ``locked`` in (ignore writes). ``wo``:
        ``written`` out, the written bits for one cycle, else zero. ``w1c``: ``value`` out, ``set``
        in (sets bits), ``clear`` in (clears all of them).
    """

    def __init__(self, *, registers=isa.REGISTERS, constants=None, latched=None):
        self._registers = tuple(registers)
        self._constants = dict(constants or {})
        self._latched = dict(latched or {})
        members = {"ctrl": In(AxiLiteSignature(ADDRESS_BITS))}
        for register in self._registers:
            if ports := _members(register, self._constants):
                members[register.name.lower()] = Out(wiring.Signature(ports))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        self._read(m)
        self._write(m)
        return m

    def _read(self, m):
        ctrl = self.ctrl
        names = {register.name: register for register in self._registers}

        address = Signal(ADDRESS_BITS - 2)
        pending = Signal()
        m.d.comb += ctrl.arready.eq(~pending & ~ctrl.rvalid)
        with m.If(ctrl.rready):
            m.d.sync += ctrl.rvalid.eq(0)
        with m.If(ctrl.arvalid & ctrl.arready):
            m.d.sync += [pending.eq(1), address.eq(ctrl.araddr[2:])]

        # What a register reads as.
        values = {}
        for name, register in names.items():
            if register.access == "wo":
                values[name] = 0
            elif name in self._constants:
                values[name] = self._constants[name]
            else:
                values[name] = getattr(self, name.lower()).value
        for trigger, latched in self._latched.items():
            with m.If(pending & (address == names[trigger].address >> 2)):
                for name in latched:
                    kept = Signal(32, name=f"kept_{name.lower()}")
                    m.d.sync += kept.eq(values[name])
                    values[name] = kept

        with m.If(pending):
            m.d.sync += [pending.eq(0), ctrl.rvalid.eq(1), ctrl.rdata.eq(0), ctrl.rresp.eq(SLVERR)]
            with m.Switch(address):
                for name, register in names.items():
                    with m.Case(register.address >> 2):
                        m.d.sync += [ctrl.rresp.eq(OKAY), ctrl.rdata.eq(values[name])]

    def _write(self, m):
        ctrl = self.ctrl
        address = Signal(ADDRESS_BITS - 2)
        word = Signal(32)
        strobes = Signal(4)
        has_address = Signal()
        has_word = Signal()
        act = Signal()
        m.d.comb += [
            ctrl.awready.eq(~has_address),
            ctrl.wready.eq(~has_word),
            act.eq(has_address & has_word & ~ctrl.bvalid),
        ]
        with m.If(ctrl.bready):
            m.d.sync += ctrl.bvalid.eq(0)
        with m.If(ctrl.awvalid & ctrl.awready):
            m.d.sync += [has_address.eq(1), address.eq(ctrl.awaddr[2:])]
        with m.If(ctrl.wvalid & ctrl.wready):
            m.d.sync += [has_word.eq(1), word.eq(ctrl.wdata), strobes.eq(ctrl.wstrb)]

        mask = Cat(strobe.replicate(8) for strobe in strobes)
        ones = word & mask
        with m.If(act):
            m.d.sync += [
                has_address.eq(0),
                has_word.eq(0),
                ctrl.bvalid.eq(1),
                ctrl.bresp.eq(SLVERR),
            ]
        for register in self._registers:
            if register.access == "ro":
                continue
            ports = getattr(self, register.name.lower())
            bits = _written_bits(register)
            here = Signal(name=f"{register.name.lower()}_here")
            m.d.comb += here.eq(act & (address == register.address >> 2))
            with m.If(here):
                m.d.sync += ctrl.bresp.eq(OKAY)
            if register.access == "rw":
                value = _bits_of(ports.value)
                with m.If(here & ~ports.locked):
                    m.d.sync += value.eq(((value & ~mask) | ones) & bits)
            elif register.access == "wo":
                m.d.comb += _bits_of(ports.written).eq(Mux(here, ones & bits, 0))
            else:
                value = _bits_of(ports.value)
                kept = Mux(ports.clear, 0, value & ~Mux(here, ones, 0))
                m.d.sync += value.eq((kept | _bits_of(ports.set)) & bits)


def _bits_of(value):
    """The 32 bits of a register's port, whether it has fields or not."""
    return value.as_value() if isinstance(value, data.View) else value
