"""Writes the pages ``docs/isa.md`` and ``docs/registers.md`` from :mod:`eftrain_hdl.isa`.

``python -m eftrain_hdl.isa_docs`` writes both; a test fails if they are out of date.
"""

from pathlib import Path

from . import isa
from .isa import Flag, Opcode

__all__ = ["PAGES", "render_isa", "render_registers"]

GENERATED = (
    "<!-- Generated from eftrain_hdl/isa.py by `python -m eftrain_hdl.isa_docs`; do not edit. -->"
)

FORMATS = (
    (
        "Convolutions and PASS",
        (Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS, Opcode.PASS_BP),
        isa.CONV_FIELDS,
    ),
    ("NORM", (Opcode.NORM,), isa.NORM_FIELDS),
    ("LOSS", (Opcode.LOSS,), isa.LOSS_FIELDS),
    ("LOOP", (Opcode.LOOP,), isa.LOOP_FIELDS),
    ("NEXT", (Opcode.NEXT,), isa.NEXT_FIELDS),
    ("END", (Opcode.END,), isa.HEADER),
)

ISA_INTRO = f"""\
# Programs

A program is an array of descriptors of {isa.DESCRIPTOR_BYTES} bytes in memory. One descriptor is
one layer pass of a whole batch, or it controls the flow. The device reads descriptor 0 when the
host writes `CONTROL.start` and goes on until END, without the host. This page describes version
{isa.ISA_VERSION} of the format, as the register ISA_VERSION reports it;
[registers.md](registers.md) describes the host's side.

A descriptor has {isa.DESCRIPTOR_WORDS} little-endian words of 32 bits. Word 0 holds the opcode
and the flags, and the opcode says what the rest means. Bits that a format does not name should be
zero. Integers are unsigned, addresses and strides are in bytes and multiples of {isa.ALIGNMENT},
floats are IEEE 754 single precision.

- **T**, the channel group: how many channels lie next to each other in memory; the side of the
  array.
- **Vector**: T fp32 words, one pixel of one block of T channels.
- **Big grid**, **small grid**: the pixels of a convolution's input and of its output. Small pixel
  `p` and kernel tap `k` meet big pixel `p*stride + k - padding`.
- **Iteration grid**: the grid that is cut into tiles. Big for CONV_BP and PASS_BP, else small.
- **Record**: what batch-norm keeps of one channel block, one block behind the other in memory. A
  coefficient record has {isa.COEFFICIENT_VECTORS} vectors: k0, k1, k2, mean. A parameter record has
  {isa.PARAMETER_VECTORS}: gamma, beta, running mean, running variance, velocity of gamma, velocity
  of beta, batch mean, batch 1/sqrt(variance + epsilon). A statistics record is one vector, the
  shift, and two sets of partial sums, {isa.PARTIAL_BEATS} beats each, of which beat `e` adds up
  those of the channels of beat `e mod (T/4)`.
"""

PROGRAM_FLOW = f"""\
## Loops and pointers

LOOP and NEXT enclose a body, which runs `count` times; loops nest {isa.LOOP_DEPTH} deep. There
are {isa.POINTERS - 1} pointer registers, numbered from 1, which the doorbell sets to zero. At the
end of *every* iteration, the last one included, NEXT adds its increments to them. They may be
negative, so that an outer loop can rewind what an inner one advanced.

A descriptor names a pointer for each of five base addresses in the `*_pointer` fields; its value
is added to the address when the descriptor is read. Pointer 0 always reads as zero. So a program
holds one descriptor for each layer and pass, however many batches and epochs it runs:

| index | descriptor | |
|---|---|---|
| 0 | LOOP count=5 | epochs |
| 1 | LOOP count=390 | batches of an epoch |
| 2 | CONV_FP stream_base=pictures stream_pointer=1 … | first layer, reads this batch's pictures |
| … | | the other layers |
| 9 | LOSS side_base=labels side_pointer=2 bias_base=results bias_pointer=3 … | one record a batch |
| … | | backward and update |
| 20 | NEXT increment_1=1572864 increment_2=512 increment_3=16 | to the next batch and record |
| 21 | NEXT increment_1=-613416960 increment_2=-199680 | back to the first batch; records go on |
| 22 | END | |

## Order

Two descriptors are in flight: while one is computed, drained and written, the tiles of the next one
follow it through the array. Every write of a descriptor comes after those of the one before have
reached memory, and so does every read, except where an AHEAD flag lets the reads of a group of
operands begin earlier. Setting one promises that the descriptor before this one writes nothing that
these reads touch; without flags every program is safe. LOSS and NORM are executed alone.

The device reads and checks descriptors further ahead than that. An illegal descriptor stops the
program only after everything before it has been executed, and so does a tile that does not fit a
buffer; only a descriptor that cannot be read at all, and an access that memory or the window
refuses, stop it at once. Descriptors in memory must not change while the program runs.
"""

REGISTERS_INTRO = f"""\
# Registers

The control port is AXI4-Lite with 32-bit data and {isa.REGISTER_SPACE} bytes of address space.
How a program looks in memory is described in [isa.md](isa.md).

- **ro** is read-only, **rw** can be read and written. **wo** acts when written and reads as zero.
  **w1c** bits are set by the device and cleared by writing 1.
- Byte strobes are honoured, the two lowest address bits are ignored, and bits that are not listed
  read as zero.
- Reads and writes of an address without a register, and writes to an ro register, are answered
  SLVERR and have no effect; such reads return zero.
- Reading CYCLES_LOW latches all counters, CYCLES to BEATS_WRITE, and the four `*_DESCRIPTOR`
  registers from CURRENT_DESCRIPTOR on; they read as they were at that moment until it is read
  again. ERROR_DESCRIPTOR is not among them.
- The PROGRAM and WINDOW registers are sampled when a program starts. Writing them while one runs
  affects the next one.
- The counters count while a program runs; each start sets them to zero.

## To run a program

1. Wait until `STATUS.busy` is 0. After power-on it is 1 until the device has cleared its
   memories.
2. Set WINDOW_BASE and WINDOW_LIMIT around everything that the program may touch, itself included.
   They are zero at first, and then every access is an error.
3. Set PROGRAM_ADDRESS, PROGRAM_LENGTH and, if wanted, IRQ_ENABLE and WATCHDOG.
4. Write `CONTROL.start`, and wait for the interrupt or until `STATUS.busy` is 0.
5. Look at STATUS. With `error`, ERROR and ERROR_DESCRIPTOR say what happened; see [the error
   codes](isa.md#errors). The device has then already reset itself and is ready for the next
   program.

A start is ignored from the start of a program until `STATUS.busy` is 0 again; after power-on and
after a soft reset it waits until the device is ready. A soft reset works at any time, except that
it waits for memory to answer the transfers that are open: a memory that never answers needs a
hardware reset.
"""


def _table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _bits(field):
    top = field.lsb + field.width - 1
    return f"{top}:{field.lsb}" if field.width > 1 else str(top)


def _names(opcodes):
    return ", ".join(opcode.name for opcode in opcodes)


def _opcodes():
    rows = [(f"0x{opcode:02X}", opcode.name, isa.OPCODE_HELP[opcode]) for opcode in Opcode]
    return "## Opcodes\n\n" + _table(("code", "name", "action"), rows)


def _flags():
    rows = []
    for flag in Flag:
        taken_by = [opcode for opcode, legal in isa.LEGAL_FLAGS.items() if flag in legal]
        # Flags are numbered within their field; the table shows bits of word 0, too.
        word_bit = isa.HEADER[1].lsb + flag
        rows.append((int(flag), word_bit, flag.name, _names(taken_by), isa.FLAG_HELP[flag]))
    table = _table(("flag", "bit of word 0", "name", "taken by", "meaning"), rows)
    pairs = ", ".join(f"{a.name} and {b.name}" for a, b in isa.EXCLUSIVE_FLAGS)
    pairs += "".join(
        f"; in {opcode.name} {a.name} and {b.name}"
        for opcode, more in isa.EXCLUSIVE_FLAGS_OF.items()
        for a, b in more
    )
    needs = ", ".join(f"{a.name} needs {b.name}" for a, b in isa.REQUIRED_FLAGS)
    needs += "".join(
        f"; in {opcode.name} {a.name} needs {b.name}"
        for opcode, more in isa.REQUIRED_FLAGS_OF.items()
        for a, b in more
    )
    return (
        f"## Flags\n\n{table}\n\nEvery other flag of an opcode must be zero. A descriptor may set "
        f"at most one of each of these pairs: {pairs}. Some go only with another one: {needs}."
    )


def _format(title, opcodes, fields):
    rows = []
    for field in sorted(fields, key=lambda field: (field.word, field.lsb)):
        doc = field.doc if field.kind == "unsigned" else f"{field.doc} ({field.kind})"
        rows.append((field.word, _bits(field), f"`{field.name}`", doc))
    heading = f"### {title}"
    if len(opcodes) > 1:
        heading += f"\n\nOf {_names(opcodes)}."
    return f"{heading}\n\n" + _table(("word", "bits", "field", "meaning"), rows)


def _errors():
    rows = [
        (int(code), code.name, f"{text[0].upper()}{text[1:]}.")
        for code, text in isa.ERROR_HELP.items()
    ]
    units = ", ".join(f"{int(unit)} {unit.name}" for unit in isa.ErrorUnit)
    return (
        "## Errors\n\nThe first error stops the program. Registers ERROR and ERROR_DESCRIPTOR hold "
        "its code, the unit that found it and the index of the descriptor. Nothing of an illegal "
        "descriptor is executed.\n\n"
        + _table(("code", "name", "cause"), rows)
        + f"\n\nUnits: {units}."
    )


def render_isa():
    """The text of ``docs/isa.md``."""
    formats = "\n\n".join(_format(*entry) for entry in FORMATS)
    sections = (
        GENERATED,
        ISA_INTRO,
        _opcodes(),
        _flags(),
        f"## Formats\n\n{formats}",
        PROGRAM_FLOW,
        _errors(),
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def render_registers():
    """The text of ``docs/registers.md``."""
    rows = []
    for register in isa.REGISTERS:
        rows.append(
            (f"0x{register.address:03X}", f"**{register.name}**", register.access, "", register.doc)
        )
        rows += [
            ("", "", "", _bits(field), f"`{field.name}`: {field.doc}") for field in register.fields
        ]
    table = _table(("address", "register", "access", "bits", "meaning"), rows)
    return "\n\n".join((GENERATED, REGISTERS_INTRO.strip(), "## Map", table)) + "\n"


PAGES = {"isa.md": render_isa, "registers.md": render_registers}
"""Name of each page in ``docs`` and what renders it."""


def main():
    folder = Path(__file__).resolve().parent.parent / "docs"
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")
        print(f"Wrote docs/{name}.")


if __name__ == "__main__":
    main()
