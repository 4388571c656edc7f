"""The bits of a descriptor as an Amaranth layout."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from .. import isa

__all__ = ["descriptor_layout"]


def descriptor_layout():
    """Layout of one descriptor: every field of every format of :mod:`eftrain_hdl.isa`.

    Fields of different formats overlap, as in a C union; the opcode says which ones hold. Floats
    are their 32 bits.
    """
    fields = {}
    for field in sum(isa.DESCRIPTORS.values(), ()):
        shape = signed(field.width) if field.kind == "signed" else unsigned(field.width)
        placed = data.Field(shape, field.word * 32 + field.lsb)
        assert fields.setdefault(field.name, placed) == placed, (
            f"Field {field.name} lies in two places."
        )
    return data.FlexibleLayout(isa.DESCRIPTOR_BYTES * 8, fields)
