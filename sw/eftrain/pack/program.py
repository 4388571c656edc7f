"""The assembler: layer passes and sections to descriptors."""

from dataclasses import dataclass

from eftrain_hdl import isa

from ..plan.layout import Operand
from ..plan.overlap import mark_ahead
from ..plan.passes import LayerPass

INPUT_POINTER, LABEL_POINTER, RESULT_POINTER = 1, 2, 3

PORTS = (
    "stream",
    "stationary",
    "output",
    "side",
    "companion",
    "second",
    "norm",
    "auxiliary",
)


@dataclass(frozen=True)
class Slots:
    """Where the tensors of a program lie.

    ``addresses`` maps tensor names to bytes; ``pointers`` maps those that move from batch to batch
    to the pointer register that is added.
    """

    addresses: dict
    pointers: dict

    def base(self, port, entry):
        """The descriptor fields of one port's base address; ``entry``: operand or tensor name."""
        operand = entry if isinstance(entry, Operand) else Operand(entry)
        fields = {f"{port}_base": self.addresses[operand.tensor] + operand.offset}
        if operand.tensor in self.pointers:
            fields[f"{port}_pointer"] = self.pointers[operand.tensor]
        return fields


@dataclass(frozen=True)
class Advance:
    """Bytes a batch moves the three pointers on."""

    input: int
    labels: int
    results: int

    def next(self, scale=1, results=None):
        """The end of a loop, where input and labels move by ``scale`` batches, results by one or as
        given."""
        return Next(
            scale * self.input, scale * self.labels, self.results if results is None else results
        )


@dataclass(frozen=True)
class Loop:
    """The begin of a loop."""

    count: int


@dataclass(frozen=True)
class Next:
    """The end of a loop: what pointers 1 to 3 move by."""

    input: int
    labels: int
    results: int


@dataclass(frozen=True)
class Step:
    """A layer pass, and where its tensors lie."""

    layer_pass: LayerPass
    slots: Slots


def assemble(items):
    """Descriptors of ``Loop``, ``Next`` and ``Step`` items and an END, as bytes.

    Sets the AHEAD flags: only the whole program says which pass may come before which.
    """
    before = _predecessors(items)
    code = []
    for index, item in enumerate(items):
        if isinstance(item, Loop):
            code.append(isa.encode(isa.Opcode.LOOP, count=item.count))
        elif isinstance(item, Next):
            increments = zip((1, 2, 3), (item.input, item.labels, item.results), strict=True)
            values = {f"increment_{pointer}": value for pointer, value in increments}
            code.append(isa.encode(isa.Opcode.NEXT, **values))
        else:
            others = [items[other].layer_pass for other in before[index]]
            code.append(encode_pass(mark_ahead(item.layer_pass, others), item.slots))
    return b"".join([*code, end()])


def _predecessors(items):
    """Index of each Step to those of the Steps that may run immediately before it."""
    before = {}
    loops, last = [], None
    for index, item in enumerate(items):
        if isinstance(item, Loop):
            loops.append(index)
        elif isinstance(item, Next):
            start = loops.pop()
            first = next(i for i in range(start, index) if i in before)
            before[first].append(last)
        else:
            before[index] = [] if last is None else [last]
            last = index
    return before


def encode_pass(layer_pass, slots):
    """One layer pass as ``DESCRIPTOR_BYTES`` bytes."""
    fields = dict(layer_pass.scalars)
    for port in PORTS:
        operand = getattr(layer_pass, port)
        if operand is None:
            continue
        fields.update(slots.base(port, operand))
        if layer_pass.opcode is not isa.Opcode.LOSS:
            fields.update(_stride_fields(layer_pass, port, operand))
    for name, entry in layer_pass.bases.items():
        fields.update(slots.base(name, entry))
    if layer_pass.geometry:
        fields.update(_shape_fields(layer_pass))
    elif layer_pass.opcode is isa.Opcode.NORM:
        fields["out_blocks"] = layer_pass.out_blocks
    return isa.encode(layer_pass.opcode, layer_pass.flags, **fields)


def _stride_fields(layer_pass, port, operand):
    """Strides of a port, or of the port whose strides it shares."""
    shared = {"companion": "stream", "norm": "side"}.get(port, port)
    if port == "second" and isa.Flag.TEE in layer_pass.flags:
        shared = "stream"
    names = ("image_stride", "block_stride", "row_stride")
    other = getattr(layer_pass, shared) or operand
    assert all(getattr(other, name) == getattr(operand, name) for name in names), port
    return {f"{shared}_{name}": getattr(operand, name) for name in names}


def _shape_fields(layer_pass):
    geometry, tile = layer_pass.geometry, layer_pass.tile
    fields = {
        "images": geometry.images,
        "tile_images": tile.images,
        "tile_rows": tile.rows,
        "tile_cols": tile.cols,
        "out_blocks": layer_pass.out_blocks,
        "tile_out_blocks": tile.out_blocks,
        "in_blocks": layer_pass.in_blocks,
    }
    for name in ("kernel", "stride", "pad", "big", "small"):
        rows, cols = getattr(geometry, name)
        fields |= {f"{name}_rows": rows, f"{name}_cols": cols}
    return fields


def epochs(count, samples, batch, advance, step):
    """Items that run ``step`` over all batches of all epochs.

    The inner loop runs the full batches; a smaller last batch has descriptors of its own after it.
    The outer Next takes input and labels back to the first sample, so that the pointers are what
    they were when the section ends; only results go on.

    Parameters
    ----------
    count, samples, batch : int
        ``batch`` is at most ``samples``.
    advance : Advance
    step : callable
        ``step(images)`` returns the items of one batch as a list.
    """
    full, rest = divmod(samples, batch)
    program = [Loop(count), Loop(full), *step(batch), advance.next()]
    if rest:
        program += step(rest)
    program.append(advance.next(-full, advance.results if rest else 0))
    return program


def end():
    return isa.encode(isa.Opcode.END)
