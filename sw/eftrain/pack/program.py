"""The assembler: layer passes and sections to descriptors."""

from dataclasses import dataclass

from eftrain_hdl import isa

INPUT_POINTER, LABEL_POINTER, RESULT_POINTER = 1, 2, 3


@dataclass(frozen=True)
class Slots:
    """Where the tensors of a program lie.

    ``addresses`` maps tensor names to bytes; ``pointers`` maps those that move from batch to batch
    to the pointer register that is added.
    """

    addresses: dict
    pointers: dict

    def base(self, port, tensor):
        """The descriptor fields of one port's base address."""
        fields = {f"{port}_base": self.addresses[tensor]}
        if tensor in self.pointers:
            fields[f"{port}_pointer"] = self.pointers[tensor]
        return fields


@dataclass(frozen=True)
class Advance:
    """Bytes a batch moves the three pointers on."""

    input: int
    labels: int
    results: int

    def next(self, scale=1, results=None):
        """A NEXT that moves input and labels by ``scale`` batches, results by one or as given."""
        return isa.encode(
            isa.Opcode.NEXT,
            increment_1=scale * self.input,
            increment_2=scale * self.labels,
            increment_3=self.results if results is None else results,
        )


def encode_pass(layer_pass, slots):
    """One layer pass as ``DESCRIPTOR_BYTES`` bytes."""
    fields = dict(layer_pass.scalars)
    for port in ("stream", "stationary", "output", "side"):
        operand = getattr(layer_pass, port)
        if operand is None:
            continue
        fields.update(slots.base(port, operand.tensor))
        if layer_pass.opcode is not isa.Opcode.LOSS:
            fields[f"{port}_image_stride"] = operand.image_stride
            fields[f"{port}_block_stride"] = operand.block_stride
            fields[f"{port}_row_stride"] = operand.row_stride
    if layer_pass.bias:
        fields.update(slots.base("bias", layer_pass.bias))
    if layer_pass.bias_momentum:
        fields["bias_momentum_base"] = slots.addresses[layer_pass.bias_momentum]
    if layer_pass.geometry:
        fields.update(_shape_fields(layer_pass))
    return isa.encode(layer_pass.opcode, layer_pass.flags, **fields)


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
    """Descriptors that run ``step`` over all batches of all epochs.

    The inner loop runs the full batches; a smaller last batch has descriptors of its own after it.
    The outer NEXT takes input and labels back to the first sample, so that the pointers are what
    they were when the section ends; only results go on.

    Parameters
    ----------
    count, samples, batch : int
        ``batch`` is at most ``samples``.
    advance : Advance
    step : callable
        ``step(images)`` returns the encoded descriptors of one batch as a list of bytes.
    """
    full, rest = divmod(samples, batch)
    program = [isa.encode(isa.Opcode.LOOP, count=count), isa.encode(isa.Opcode.LOOP, count=full)]
    program += [*step(batch), advance.next()]
    if rest:
        program += step(rest)
    program.append(advance.next(-full, advance.results if rest else 0))
    return program


def end():
    return isa.encode(isa.Opcode.END)
