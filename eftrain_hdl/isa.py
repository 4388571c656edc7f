"""The instruction set: descriptors, registers and error codes, declared once.

Gateware, host package, simulator and the generated pages ``docs/isa.md`` and ``docs/registers.md``
all read this module. It imports nothing but the standard library, so a board needs no Amaranth.

Vocabulary used by every field below:

* *Group* ``T``: the number of channels stored next to each other, equal to the side of the array.
* *Vector*: ``T`` fp32 words, one pixel of one channel block; ``4*T`` bytes.
* *Big grid* and *small grid*: the pixels of a convolution's input and of its output. Small pixel
  ``p`` and kernel tap ``k`` meet big pixel ``p*stride + k - padding``.
* *Iteration grid*: the grid that is cut into tiles. Big for ``CONV_BP`` and ``PASS_BP``, small otherwise.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

ISA_VERSION = 2

WORD_BYTES = 4
DESCRIPTOR_WORDS = 64
DESCRIPTOR_BYTES = DESCRIPTOR_WORDS * WORD_BYTES
ALIGNMENT = 16
"""Every base address and stride is a multiple of this many bytes, one beat of the 128-bit bus."""

LOOP_DEPTH = 4
POINTERS = 4
"""Pointer registers a base address can add. Pointer 0 always reads zero; ``NEXT`` advances 1 to 3."""

MAX_KERNEL = 11
MAX_STRIDE = 4
RESULT_WORDS = 4

COEFFICIENT_VECTORS = 4
"""Vectors of the coefficient record of one channel block: k0, k1, k2, mean."""
PARAMETER_VECTORS = 8
"""Vectors of the batch-norm parameter record of one channel block: gamma, beta, running mean,
running variance, velocity of gamma, velocity of beta, batch mean, batch 1/sqrt(variance + eps)."""
PARTIAL_BEATS = 8
"""Bus beats of one set of partial sums in a statistics record, whatever the group T."""
MAX_STATISTICS_BLOCKS = 16
"""Largest `tile_out_blocks` with STATISTICS or SUMS."""


class Opcode(IntEnum):
    """What one descriptor asks for."""

    END = 0x01
    LOOP = 0x02
    NEXT = 0x03
    CONV_FP = 0x10
    CONV_BP = 0x11
    CONV_WU = 0x12
    PASS = 0x13
    PASS_BP = 0x14
    LOSS = 0x20
    NORM = 0x21


class Format(IntEnum):
    """Operand formats of the array, as the FORMAT register reports them."""

    FP32 = 0
    BF16 = 1


class ErrorCode(IntEnum):
    """Why the device stopped. The ERROR register holds the code."""

    NONE = 0
    UNKNOWN_OPCODE = 1
    ZERO_DIMENSION = 2
    OVERSIZED_DIMENSION = 3
    TILE_OVERFLOW = 4
    MISALIGNED_ADDRESS = 5
    ADDRESS_OUT_OF_WINDOW = 6
    BUS_RESPONSE = 7
    LABEL_OUT_OF_RANGE = 8
    LOOP_NESTING = 9
    PROGRAM_OVERRUN = 10
    ILLEGAL_FLAGS = 11
    WATCHDOG = 12


class ErrorUnit(IntEnum):
    """Which unit found the error; bits 15:8 of the ERROR register."""

    CONTROL = 0
    STATIONARY = 1
    STREAM = 2
    SIDE = 3
    WRITE = 4
    FETCH = 5
    LOSS = 6
    COMPANION = 7
    AUXILIARY = 8
    SECOND = 9


ERROR_HELP = {
    ErrorCode.UNKNOWN_OPCODE: "the descriptor's opcode is not one of this ISA version",
    ErrorCode.ZERO_DIMENSION: "a size, count, kernel or stride is zero",
    ErrorCode.OVERSIZED_DIMENSION: (
        "a kernel, stride or padding is larger than the device supports, a tile is larger than "
        "its layer, or there are more classes than the loss unit can hold"
    ),
    ErrorCode.TILE_OVERFLOW: "a tile needs more vectors than one of the on-chip buffers holds",
    ErrorCode.MISALIGNED_ADDRESS: "an address or stride is not a multiple of 16 bytes",
    ErrorCode.ADDRESS_OUT_OF_WINDOW: "an access lies outside WINDOW_BASE to WINDOW_LIMIT",
    ErrorCode.BUS_RESPONSE: "the memory answered SLVERR or DECERR",
    ErrorCode.LABEL_OUT_OF_RANGE: "a label is not below the number of classes",
    ErrorCode.LOOP_NESTING: "a NEXT without LOOP, or loops nested deeper than four",
    ErrorCode.PROGRAM_OVERRUN: "the program ran past PROGRAM_LENGTH without an END",
    ErrorCode.ILLEGAL_FLAGS: "a flag that this opcode does not take, or two that exclude each other",
    ErrorCode.WATCHDOG: "no unit made progress for WATCHDOG cycles",
}


@dataclass(frozen=True)
class Field:
    """A bit field: ``width`` bits from bit ``lsb`` of 32-bit word ``word``."""

    name: str
    word: int
    lsb: int
    width: int
    doc: str
    kind: str = "unsigned"

    @property
    def mask(self):
        return (1 << self.width) - 1


def _f(name, word, doc, lsb=0, width=32, kind="unsigned"):
    return Field(name, word, lsb, width, doc, kind)


class Flag(IntEnum):
    """Bits of the ``flags`` field (bit positions within the field)."""

    RELU = 0
    BIAS = 1
    SIDE_MASK = 2
    ADD = 3
    POOL = 4
    UNPOOL = 5
    UPDATE = 6
    MOMENTUM = 7
    GRADIENT = 8
    AHEAD_STREAM = 9
    AHEAD_STATIONARY = 10
    AHEAD_SIDE = 11
    NORM_X = 12
    X_RELU = 13
    X_PAIR = 14
    NORM_DY = 15
    TEE = 16
    STATISTICS = 17
    NORM_MASK = 18
    KEEP = 19
    FROZEN = 20
    SUMS = 21


FLAG_HELP = {
    Flag.RELU: "Replace negative results by +0 on the drain.",
    Flag.BIAS: (
        "CONV_FP: add the bias vector of the block (`bias_base`, `bias_block_stride`) to every "
        "pixel. CONV_WU: also compute (and with UPDATE, apply) the bias gradient, while the first "
        "input block is computed."
    ),
    Flag.SIDE_MASK: (
        "Pass a result only where the side tensor is greater than zero (the ReLU backward mask); "
        "+0 elsewhere."
    ),
    Flag.ADD: "Add the auxiliary tensor to the result (before mask and RELU).",
    Flag.POOL: (
        "Drain in 2x2 windows of the small grid and write the maximum of each: the output has half "
        "the rows and columns. Tiles have even rows and columns. With STATISTICS the minimum, in "
        "those channels where the block's vector at `bias_base` (gamma) is negative: what is "
        "largest after the normalisation."
    ),
    Flag.UNPOOL: (
        "Last of all, write each result to the first maximum (row-major) of the 2x2 window of the "
        "auxiliary tensor and +0 to the other three: auxiliary and output have twice the rows and "
        "columns. With STATISTICS to the first minimum where k0 of the block is negative."
    ),
    Flag.UPDATE: (
        "Apply SGD in place. g' = g + weight_decay*w; v = momentum*v + g' (g' itself "
        "without MOMENTUM); w = w - learning_rate*v. CONV_WU without UPDATE writes the raw gradient."
    ),
    Flag.MOMENTUM: "With UPDATE: read and write the momentum buffers.",
    Flag.GRADIENT: (
        "LOSS: write the gradient of the logits. NORM: the backward half; else the forward half."
    ),
    Flag.AHEAD_STREAM: (
        "Reads of stream, companion and stream coefficients may begin before the writes of the "
        "descriptor before this one are acknowledged."
    ),
    Flag.AHEAD_STATIONARY: "The same for the stationary operand and its coefficients.",
    Flag.AHEAD_SIDE: "The same for side, auxiliary, norm and bias reads.",
    Flag.NORM_X: (
        "Batch-norm on load: every X vector x of block b becomes k0*x + k2 with the record b of "
        "the coefficients (FP, PASS: `stream_coefficients_base`; WU: "
        "`stationary_coefficients_base`)."
    ),
    Flag.X_RELU: "With NORM_X: then replace negative values by +0.",
    Flag.X_PAIR: (
        "With NORM_X in CONV_FP and PASS: k0*x + (k1*c + k2), c from the companion tensor (a "
        "residual sum). NORM: join the record at `pair_base`: k1 becomes its k0 and its k2 is added."
    ),
    Flag.NORM_DY: (
        "Batch-norm backward on load: every dY vector z becomes k0*z + (k1*y + k2), y from the "
        "companion tensor (the convolution's result before the normalisation)."
    ),
    Flag.TEE: (
        "With NORM_X in CONV_FP and PASS: also write the vectors that come out of the prologue to "
        "`second_base` with the strides of the stream: CONV_FP while the first out blocks are "
        "computed, PASS every block. They wait, and hold up the reads behind them, until the "
        "descriptor before this one is done."
    ),
    Flag.STATISTICS: (
        "Sum on the drain, for each channel. CONV_FP: d and d*d with d = y - shift, shift being "
        "the first vector drained. CONV_BP, PASS, PASS_BP: z and z*(y - mean) of the results z "
        "(after ADD and the mask), y from the tensor at `norm_base`, mean from the block's record "
        "at `bias_base`. One record a block, written behind the block's last result."
    ),
    Flag.NORM_MASK: (
        "With STATISTICS, not CONV_FP: pass a result only where k0*y + k2 > 0 with the record at "
        "`bias_base`; +0 elsewhere."
    ),
    Flag.KEEP: (
        "With POOL: also write the results before pooling, to the second output at full resolution."
    ),
    Flag.SUMS: (
        "Like STATISTICS of a gradient, but the second sum is left out (zeros), and with it the "
        "reads of the tensor at `norm_base` and of the records: the gradient of a bias."
    ),
    Flag.FROZEN: "NORM, forward: use the running statistics and leave them alone.",
}

_AHEAD = (Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY, Flag.AHEAD_SIDE)
_GRADIENT_DRAIN = (
    Flag.SIDE_MASK,
    Flag.ADD,
    Flag.UNPOOL,
    Flag.STATISTICS,
    Flag.NORM_MASK,
    Flag.SUMS,
)
_X_PROLOGUE = (Flag.NORM_X, Flag.X_RELU, Flag.X_PAIR, Flag.TEE)
LEGAL_FLAGS = {
    Opcode.END: (),
    Opcode.LOOP: (),
    Opcode.NEXT: (),
    Opcode.CONV_FP: (
        Flag.RELU, Flag.BIAS, Flag.ADD, Flag.POOL, Flag.KEEP, Flag.STATISTICS, *_X_PROLOGUE, *_AHEAD,
    ),
    Opcode.CONV_BP: (*_GRADIENT_DRAIN, Flag.NORM_DY, *_AHEAD),
    Opcode.CONV_WU: (
        Flag.BIAS, Flag.UPDATE, Flag.MOMENTUM, Flag.NORM_X, Flag.X_RELU, Flag.NORM_DY, *_AHEAD,
    ),
    Opcode.PASS: (
        Flag.RELU, Flag.POOL, Flag.KEEP, *_GRADIENT_DRAIN, *_X_PROLOGUE, *_AHEAD,
    ),
    Opcode.PASS_BP: (*_GRADIENT_DRAIN, *_AHEAD),
    Opcode.LOSS: (Flag.GRADIENT,),
    Opcode.NORM: (Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM, Flag.FROZEN, Flag.X_PAIR),
}  # fmt: skip
EXCLUSIVE_FLAGS = (
    (Flag.POOL, Flag.ADD),
    (Flag.POOL, Flag.SIDE_MASK),
    (Flag.POOL, Flag.UNPOOL),
    (Flag.POOL, Flag.NORM_MASK),
    (Flag.UNPOOL, Flag.ADD),
    (Flag.UNPOOL, Flag.RELU),
    (Flag.BIAS, Flag.STATISTICS),
    (Flag.RELU, Flag.STATISTICS),
    (Flag.SIDE_MASK, Flag.NORM_MASK),
    (Flag.STATISTICS, Flag.SUMS),
    (Flag.POOL, Flag.SUMS),
    (Flag.KEEP, Flag.TEE),
    (Flag.FROZEN, Flag.GRADIENT),
    (Flag.X_PAIR, Flag.GRADIENT),
)
"""Pairs of which a descriptor may set at most one."""
EXCLUSIVE_FLAGS_OF = {Opcode.PASS: ((Flag.POOL, Flag.STATISTICS),)}
"""Such pairs of one opcode only."""
REQUIRED_FLAGS = (
    (Flag.KEEP, Flag.POOL),
    (Flag.X_RELU, Flag.NORM_X),
    (Flag.TEE, Flag.NORM_X),
    (Flag.NORM_MASK, Flag.STATISTICS),
    (Flag.MOMENTUM, Flag.UPDATE),
)
"""Pairs: the first may be set only together with the second."""
BATCH_NORM_FLAGS = (
    Flag.NORM_X,
    Flag.X_RELU,
    Flag.X_PAIR,
    Flag.NORM_DY,
    Flag.TEE,
    Flag.STATISTICS,
    Flag.NORM_MASK,
    Flag.SUMS,
)
"""A core without batch-norm (FEATURES) refuses these, as illegal flags, and NORM, as unknown."""
REQUIRED_FLAGS_OF = dict.fromkeys((Opcode.CONV_FP, Opcode.PASS), ((Flag.X_PAIR, Flag.NORM_X),))
"""Such pairs of one opcode only."""

HEADER = (
    _f("opcode", 0, "The operation.", 0, 8),
    _f("flags", 0, "See *Flags*.", 8, 24),
)

_POINTER_FIELDS = tuple(
    _f(f"{name}_pointer", 9, f"Pointer register added to `{name}_base`.", lsb, 2)
    for name, lsb in (
        ("stream", 0),
        ("stationary", 2),
        ("output", 4),
        ("side", 6),
        ("bias", 8),
    )
)

CONV_FIELDS = HEADER + (
    _f("kernel_rows", 1, "Kernel rows, 1 to 11.", 0, 8),
    _f("kernel_cols", 1, "Kernel columns, 1 to 11.", 8, 8),
    _f("stride_rows", 1, "Row stride, 1 to 4.", 16, 8),
    _f("stride_cols", 1, "Column stride, 1 to 4.", 24, 8),
    _f("pad_rows", 2, "Row padding, below kernel_rows.", 0, 8),
    _f("pad_cols", 2, "Column padding, below kernel_cols.", 8, 8),
    _f("big_rows", 3, "Rows of the big grid.", 0, 16),
    _f("big_cols", 3, "Columns of the big grid.", 16, 16),
    _f("small_rows", 4, "Rows of the small grid.", 0, 16),
    _f("small_cols", 4, "Columns of the small grid.", 16, 16),
    _f("images", 5, "Images of the batch.", 0, 16),
    _f("tile_images", 5, "Images a tile.", 16, 16),
    _f("tile_rows", 6, "Rows a tile, on the iteration grid.", 0, 16),
    _f("tile_cols", 6, "Columns a tile, on the iteration grid.", 16, 16),
    _f(
        "out_blocks",
        7,
        "Channel blocks of the result: FP and WU blocks of m, BP blocks of n, PASS blocks.",
        0,
        16,
    ),
    _f("tile_out_blocks", 7, "Of these, how many a tile (PASS: 1).", 16, 16),
    _f(
        "in_blocks",
        8,
        "The other channel blocks: FP and WU blocks of n, BP blocks of m, PASS and PASS_BP 1.",
        0,
        16,
    ),
    *_POINTER_FIELDS,
    _f("stream_base", 10, "Streamed operand: FP and PASS X, BP, PASS_BP and WU dY."),
    _f("stream_image_stride", 11, "Bytes from one image to the next."),
    _f("stream_block_stride", 12, "Bytes from one channel block to the next."),
    _f("stream_row_stride", 13, "Bytes from one row to the next."),
    _f("stationary_base", 14, "Stationary operand: FP and BP weights, WU X. PASS: unused."),
    _f(
        "stationary_image_stride",
        15,
        "WU: bytes from one image to the next. FP, BP: bytes from one out block to the next.",
    ),
    _f("stationary_block_stride", 16, "Bytes from one in block to the next."),
    _f("stationary_row_stride", 17, "WU: bytes from one row to the next."),
    _f("output_base", 18, "Result. WU: the weights with UPDATE, else the gradient."),
    _f(
        "output_image_stride",
        19,
        "Bytes from one image to the next. WU: bytes from one in block to the next.",
    ),
    _f("output_block_stride", 20, "Bytes from one out block to the next."),
    _f("output_row_stride", 21, "Bytes from one row to the next. WU: unused."),
    _f("side_base", 22, "Side operand. WU: the momentum buffer, laid out like the output."),
    _f("side_image_stride", 23, "Bytes from one image to the next. WU: unused."),
    _f("side_block_stride", 24, "Bytes from one out block to the next. WU: unused."),
    _f("side_row_stride", 25, "Bytes from one row to the next. WU: unused."),
    _f(
        "bias_base",
        26,
        "FP: bias, or gamma with STATISTICS and POOL. STATISTICS of a gradient: coefficient records "
        "of y. WU: bias with UPDATE, else its gradient.",
    ),
    _f("bias_momentum_base", 27, "WU with MOMENTUM: momentum of the bias (adds `bias_pointer`)."),
    _f("learning_rate", 28, "SGD learning rate.", kind="float"),
    _f("momentum", 29, "SGD momentum.", kind="float"),
    _f("weight_decay", 30, "SGD weight decay.", kind="float"),
    _f("scale", 31, "PASS, PASS_BP: the factor on the identity (1.0 copies).", kind="float"),
    _f("stream_coefficients_base", 32, "NORM_X of FP and PASS, NORM_DY: records of the stream."),
    _f("stationary_coefficients_base", 33, "NORM_X of WU: records of X."),
    _f("companion_base", 34, "X_PAIR, NORM_DY: the tensor beside the stream, with its strides."),
    _f("second_base", 35, "KEEP: results before pooling. TEE: X as the array sees it."),
    _f("second_image_stride", 36, "KEEP: bytes from one image to the next."),
    _f("second_block_stride", 37, "KEEP: bytes from one out block to the next."),
    _f("second_row_stride", 38, "KEEP: bytes from one row to the next."),
    _f(
        "auxiliary_base",
        39,
        "ADD: the addend. UNPOOL: the windows, with twice the rows and columns.",
    ),
    _f("auxiliary_image_stride", 40, "Bytes from one image to the next."),
    _f("auxiliary_block_stride", 41, "Bytes from one out block to the next."),
    _f("auxiliary_row_stride", 42, "Bytes from one row to the next."),
    _f("norm_base", 43, "STATISTICS of a gradient: y, with the strides of the side tensor."),
    _f("statistics_base", 44, "STATISTICS, SUMS: one record an out block, one behind the other."),
    _f(
        "bias_block_stride",
        45,
        "Not WU: bytes from the `bias_base` vectors of one block to the next.",
    ),
)

NORM_FIELDS = HEADER + (
    _f("out_blocks", 7, "Channel blocks.", 0, 16),
    _f("learning_rate", 28, "GRADIENT: SGD learning rate.", kind="float"),
    _f("momentum", 29, "GRADIENT: SGD momentum.", kind="float"),
    _f("weight_decay", 30, "GRADIENT: SGD weight decay.", kind="float"),
    _f("scale", 31, "One over the pixels of a channel, N = images * rows * columns.", kind="float"),
    _f("statistics_base", 44, "Records that STATISTICS or SUMS left (FROZEN: unused)."),
    _f("unbias", 46, "N/(N-1), for the running variance.", kind="float"),
    _f("epsilon", 47, "Added to the variance.", kind="float"),
    _f("statistics_momentum", 48, "Weight of this batch in the running statistics.", kind="float"),
    _f("pair_base", 49, "X_PAIR: coefficient records to join."),
    _f("parameters_base", 50, "Parameter records, read and written."),
    _f("coefficients_base", 51, "Coefficient records to write."),
)

LOSS_FIELDS = HEADER + (
    _f("images", 5, "Images of the batch.", 0, 16),
    _f("classes", 5, "Number of classes, at most MAX_CLASSES.", 16, 16),
    *_POINTER_FIELDS,
    _f(
        "stream_base",
        10,
        "Logits `[images][ceil(classes/T)*T]`, fp32; lanes past `classes` are ignored.",
    ),
    _f("output_base", 18, "Gradient of the logits, same layout, +0 in lanes past `classes`."),
    _f("side_base", 22, "Labels, one unsigned 32-bit word an image."),
    _f("bias_base", 26, "Where the result record is written (adds `bias_pointer`)."),
    _f("scale", 31, "1/images: factor on the loss sum and on the gradient.", kind="float"),
)

LOOP_FIELDS = HEADER + (_f("count", 1, "How often the body up to the matching NEXT runs."),)

NEXT_FIELDS = HEADER + tuple(
    _f(
        f"increment_{i}",
        9 + i,
        f"Bytes added to pointer {i} at the end of every iteration.",
        kind="signed",
    )
    for i in range(1, POINTERS)
)

DESCRIPTORS = {
    Opcode.END: HEADER,
    Opcode.LOOP: LOOP_FIELDS,
    Opcode.NEXT: NEXT_FIELDS,
    Opcode.CONV_FP: CONV_FIELDS,
    Opcode.CONV_BP: CONV_FIELDS,
    Opcode.CONV_WU: CONV_FIELDS,
    Opcode.PASS: CONV_FIELDS,
    Opcode.PASS_BP: CONV_FIELDS,
    Opcode.LOSS: LOSS_FIELDS,
    Opcode.NORM: NORM_FIELDS,
}

OPCODE_HELP = {
    Opcode.END: "Stop; raise the interrupt once every write has been acknowledged.",
    Opcode.LOOP: "Begin a loop. Loops nest four deep.",
    Opcode.NEXT: "Add the increments to the pointer registers, then repeat the body or fall through.",
    Opcode.CONV_FP: "Forward: Y[m,p] = sum over n, k of W[m,n,k] X[n, p*s+k-q].",
    Opcode.CONV_BP: "Input gradient: dX[n, p*s+k-q] = sum over m, k, p of W[m,n,k] dY[m,p].",
    Opcode.CONV_WU: "Weight gradient: dW[m,n,k] = sum over images and p of dY[m,p] X[n, p*s+k-q].",
    Opcode.PASS: (
        "Copy: Y[c,p] = scale * X[c, p*s+k-q] summed over the taps, channel by channel. With a 1x1 "
        "kernel it carries pooling, un-pooling, ReLU and additions that no convolution carries."
    ),
    Opcode.PASS_BP: (
        "The transpose of PASS: dX[c, p*s+k-q] = scale * sum of dY[c,p] over the pixels p and taps "
        "k that meet there; the input gradient of average pooling."
    ),
    Opcode.NORM: (
        "Batch-norm between two layers, for each channel. Forward: mean and variance from the "
        "statistics, running statistics, coefficients with which the reader normalises; a variance "
        "below zero counts as zero. Backward (GRADIENT): update of gamma and beta, coefficients "
        "that turn the gradient of the normalised map into that of the convolution's result."
    ),
    Opcode.LOSS: (
        "Softmax cross-entropy of each image; optionally the gradient; one 16-byte result record: "
        "mean loss (fp32), correct count, images, running number of the record (from 1)."
    ),
}


@dataclass(frozen=True)
class Register:
    """One 32-bit register of the control port at byte ``address``. Access: ro, rw, wo or w1c."""

    name: str
    address: int
    access: str
    doc: str
    fields: tuple = ()
    reset: int = 0


def _r(name, address, access, doc, fields=(), reset=0):
    return Register(name, address, access, doc, tuple(fields), reset)


def _b(name, lsb, doc, width=1):
    return Field(name, 0, lsb, width, doc)


PRODUCT_ID = int.from_bytes(b"EFTR", "big")

STALLS = {
    "STALL_STREAM": "waited for the stream buffer",
    "STALL_STATIONARY": "waited for its stationary operand",
    "STALL_HAZARD": "waited for a sum still in the adder",
    "STALL_WRITE": "waited for a free accumulator bank while the write port held up the drain",
    "STALL_SIDE": "waited for a free accumulator bank while the drain waited for a side operand",
    "STALL_DRAIN": "waited for a free accumulator bank that was being drained",
    "STALL_FENCE": "had no work because reads waited for the writes of an earlier descriptor",
    "STALL_VECTOR": "had no work because LOSS or NORM was executed",
    "STALL_CONTROL": "had no work for any other reason: fetching, tile bounds, the end of a step",
}
"""Registers that count why no vector entered the array. With ACTIVE they add up to CYCLES."""

_EVENTS = (
    _b("done", 0, "END reached."),
    _b("error", 1, "Program stopped."),
    _b("descriptor", 2, "A descriptor was completed, its writes included."),
)

REGISTERS = (
    _r("ID", 0x000, "ro", "Product: the letters EFTR."),
    _r(
        "VERSION",
        0x004,
        "ro",
        "Gateware version.",
        (_b("patch", 0, "Patch.", 8), _b("minor", 8, "Minor.", 8), _b("major", 16, "Major.", 16)),
    ),
    _r("ISA_VERSION", 0x008, "ro", "Version of the descriptor format."),
    _r(
        "ARRAY",
        0x00C,
        "ro",
        "Size of the array; its side is the channel group.",
        (_b("rows", 0, "Rows.", 16), _b("lanes", 16, "Lanes.", 16)),
    ),
    _r(
        "FORMAT",
        0x010,
        "ro",
        "Operand format of the array and width of the memory ports.",
        (_b("format", 0, "0 fp32, 1 bf16.", 16), _b("bus_bits", 16, "Bits a beat.", 16)),
    ),
    _r("STREAM_DEPTH", 0x014, "ro", "Vectors of the stream buffer."),
    _r("STATIONARY_DEPTH", 0x018, "ro", "Vectors of the stationary buffer."),
    _r("ACCUMULATOR_DEPTH", 0x01C, "ro", "Vectors of one of the two accumulator banks."),
    _r("MAX_CLASSES", 0x020, "ro", "Largest number of classes of LOSS."),
    _r(
        "BUILD",
        0x024,
        "ro",
        "First 32 bits of the SHA-256 of the core's Verilog, as a board's top level gives them; 0: unknown.",
    ),
    _r("UPTIME", 0x028, "ro", "Clock cycles since the hardware reset, modulo 2^32."),
    _r(
        "FEATURES",
        0x02C,
        "ro",
        "Units that a core may have been built without.",
        (_b("batch_norm", 0, "Batch-norm, and bias gradients summed on the drain."),),
    ),
    _r(
        "CONTROL",
        0x040,
        "wo",
        "Commands; each bit acts once when written as 1.",
        (
            _b(
                "start",
                0,
                "The doorbell: run the program from its first descriptor. Ignored while one runs; waits after a reset.",
            ),
            _b("soft_reset", 1, "Finish open bus transfers, then return every unit to idle."),
            _b("lock_window", 2, "Ignore writes to the window registers until a hardware reset."),
        ),
    ),
    _r(
        "STATUS",
        0x044,
        "ro",
        "State.",
        (
            _b("busy", 0, "A program runs, or a reset is in progress."),
            _b("done", 1, "The last program reached END."),
            _b("error", 2, "The last program stopped with ERROR."),
            _b(
                "nonfinite",
                3,
                "An Inf or NaN left the array or the vector unit since the doorbell.",
            ),
            _b("window_locked", 4, "The window registers are locked."),
        ),
    ),
    _r(
        "ERROR",
        0x048,
        "ro",
        "Why the program stopped.",
        (_b("code", 0, "An error code.", 8), _b("unit", 8, "The unit that found it.", 8)),
    ),
    _r("ERROR_DESCRIPTOR", 0x04C, "ro", "Index of the descriptor that stopped the program."),
    _r("PROGRAM_ADDRESS", 0x050, "rw", "Address of descriptor 0."),
    _r("PROGRAM_LENGTH", 0x054, "rw", "Number of descriptors."),
    _r("WINDOW_BASE", 0x058, "rw", "First byte the device may access; sampled at the doorbell."),
    _r("WINDOW_LIMIT", 0x05C, "rw", "First byte past the window; sampled at the doorbell."),
    _r(
        "IRQ_ENABLE",
        0x060,
        "rw",
        "Which events raise the interrupt line.",
        _EVENTS,
    ),
    _r(
        "IRQ_STATUS",
        0x064,
        "w1c",
        "Events since they were last cleared.",
        _EVENTS,
    ),
    _r(
        "WATCHDOG",
        0x068,
        "rw",
        "Cycles without any bus beat or vector after which the program stops; 0: never.",
    ),
    _r("CURRENT_DESCRIPTOR", 0x06C, "ro", "Index of the oldest descriptor being executed."),
    _r("RESULTS", 0x070, "ro", "Result records written since the doorbell."),
    _r(
        "CYCLES_LOW",
        0x080,
        "ro",
        "Cycles since the doorbell while busy, low word; reading it latches every counter below, so "
        "that they belong together.",
    ),
    _r("CYCLES_HIGH", 0x084, "ro", "High word, as latched."),
    _r("ACTIVE_LOW", 0x088, "ro", "Cycles in which a vector entered the array, low word."),
    _r("ACTIVE_HIGH", 0x08C, "ro", "High word, as latched."),
    *(
        _r(name, 0x090 + 4 * index, "ro", f"Cycles in which the array {doc}.")
        for index, (name, doc) in enumerate(STALLS.items())
    ),
    _r("BEATS_STATIONARY", 0x0C0, "ro", "Beats read through the stationary port."),
    _r("BEATS_STREAM", 0x0C4, "ro", "Beats read through the stream port."),
    _r("BEATS_SIDE", 0x0C8, "ro", "Beats read through the side port."),
    _r("BEATS_WRITE", 0x0CC, "ro", "Beats written."),
    _r("READ_DESCRIPTOR", 0x0D0, "ro", "Index of the descriptor whose tiles are being handed out."),
    _r("COMPUTE_DESCRIPTOR", 0x0D4, "ro", "Index of the descriptor whose vectors enter the array."),
    _r("DRAIN_DESCRIPTOR", 0x0D8, "ro", "Index of the descriptor whose results are drained."),
)
REGISTER = {register.name: register for register in REGISTERS}
REGISTER_SPACE = 0x1000


def encode(opcode, flags=(), **values):
    """Pack one descriptor into ``DESCRIPTOR_BYTES`` little-endian bytes.

    Parameters
    ----------
    opcode : Opcode
    flags : iterable of Flag
    values : field name to value; fields that are left out are zero. Floats are given as numbers.

    Raises
    ------
    ValueError
        If a field is unknown to the opcode or its value does not fit.
    """
    fields = {field.name: field for field in DESCRIPTORS[opcode]}
    values = {"opcode": int(opcode), "flags": sum(1 << int(flag) for flag in set(flags)), **values}
    words = [0] * DESCRIPTOR_WORDS
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{Opcode(opcode).name} has no field {name!r}.")
        field = fields[name]
        if field.kind == "float":
            value = struct.unpack("<I", struct.pack("<f", value))[0]
        elif field.kind == "signed":
            if not -(1 << 31) <= value < 1 << 31:
                raise ValueError(f"{name}={value} does not fit a signed 32-bit field.")
            value &= field.mask
        if not 0 <= value <= field.mask:
            raise ValueError(
                f"{Opcode(opcode).name} field {name}={value} does not fit {field.width} bits."
            )
        words[field.word] |= int(value) << field.lsb
    return struct.pack(f"<{DESCRIPTOR_WORDS}I", *words)


def decode(blob):
    """Unpack one descriptor: ``(opcode, set of Flag, {field: value})``; the inverse of ``encode``.

    Raises
    ------
    ValueError
        If the opcode is unknown.
    """
    words = struct.unpack(f"<{DESCRIPTOR_WORDS}I", blob)
    opcode = Opcode(words[0] & 0xFF)
    values = {}
    for field in DESCRIPTORS[opcode]:
        value = (words[field.word] >> field.lsb) & field.mask
        if field.kind == "float":
            value = struct.unpack("<f", struct.pack("<I", value))[0]
        elif field.kind == "signed":
            value -= (value >> 31) << 32
        values[field.name] = value
    values.pop("opcode")
    flags = values.pop("flags")
    return opcode, {flag for flag in Flag if flags >> flag & 1}, values
