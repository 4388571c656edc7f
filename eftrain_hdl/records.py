"""Building a record as one value."""

from amaranth.hdl import Cat, Const, Shape, Value
from amaranth.lib import data

__all__ = ["pack"]


def pack(layout, value):
    """The bits of a record of ``layout`` as one value.

    Assigning fields one by one turns every constant field into an ``always`` block that waits for
    nothing, which a Verilog simulator never executes. One assignment of the whole record has no
    such block.

    Parameters
    ----------
    layout : ShapeCastable
        Struct and array layouts, nested at will, of unsigned fields.
    value : dict, list or ValueCastable
        Members left out of a dict are zero. Wider values are cut, narrower ones zero-extended.

    Raises
    ------
    KeyError
        If the layout has no such member.
    """
    if isinstance(layout, data.StructLayout) and isinstance(value, dict):
        unknown = set(value) - {name for name, _ in layout}
        if unknown:
            raise KeyError(f"The layout has no member {', '.join(sorted(unknown))}.")
        return Cat(*(pack(field.shape, value.get(name, 0)) for name, field in layout))
    if isinstance(layout, data.ArrayLayout) and isinstance(value, list):
        missing = layout.length - len(value)
        return Cat(*(pack(layout.elem_shape, item) for item in [*value, *[0] * missing]))
    width = Shape.cast(layout).width
    value = Value.cast(value)
    return Cat(value, Const(0, width - len(value))) if len(value) < width else value[:width]
