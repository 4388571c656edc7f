"""Decides whether a descriptor is legal, before anything acts on it."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .. import isa
from ..isa import ErrorCode, Flag, Opcode
from .descriptor import descriptor_layout

__all__ = ["ADDRESSES_USED", "DescriptorChecker"]

MAPPED = (Opcode.CONV_FP, Opcode.CONV_BP, Opcode.PASS, Opcode.PASS_BP)
"""Opcodes whose result is a feature map."""
GRIDDED = (*MAPPED, Opcode.CONV_WU)
BIG_GRID = (Opcode.CONV_BP, Opcode.PASS_BP)
"""Opcodes that iterate over the big grid."""
ONE_BLOCK = (Opcode.PASS, Opcode.PASS_BP)

_GRID = ("base", "image_stride", "block_stride", "row_stride")


def _addresses(port, parts=_GRID):
    return tuple(f"{port}_{part}" for part in parts)


def _with(*flags, but=()):
    """All of ``flags`` and none of ``but``."""
    return dict.fromkeys(flags, 1) | dict.fromkeys(but, 0)


def _used():
    """``(opcode, alternatives, fields)``: fields that hold addresses or strides, and when: if all
    flags of one of the alternatives are as it says."""
    always = (_with(),)
    statistics = (_with(Flag.STATISTICS),)
    for opcode in MAPPED:
        yield opcode, always, _addresses("stream") + _addresses("output")
        yield opcode, (_with(Flag.ADD), _with(Flag.UNPOOL)), _addresses("auxiliary")
        yield opcode, (*statistics, _with(Flag.SUMS)), ("statistics_base",)
    for opcode in (Opcode.CONV_FP, Opcode.CONV_BP):
        yield opcode, always, _addresses("stationary", _GRID[:3])
    for opcode in (Opcode.CONV_BP, Opcode.PASS, Opcode.PASS_BP):
        yield opcode, statistics, ("norm_base", "bias_base", "bias_block_stride")
        yield opcode, (_with(Flag.SIDE_MASK),), ("side_base",)
        yield opcode, (_with(Flag.SIDE_MASK), *statistics), _addresses("side", _GRID[1:])
    bias = (_with(Flag.BIAS), _with(Flag.STATISTICS, Flag.POOL))
    yield Opcode.CONV_FP, bias, ("bias_base", "bias_block_stride")
    for opcode in (Opcode.CONV_FP, Opcode.PASS):
        yield opcode, (_with(Flag.NORM_X),), ("stream_coefficients_base",)
        yield opcode, (_with(Flag.X_PAIR),), ("companion_base",)
        yield opcode, (_with(Flag.TEE),), ("second_base",)
        yield opcode, (_with(Flag.KEEP),), _addresses("second")
    for opcode in (Opcode.CONV_BP, Opcode.CONV_WU):
        yield opcode, (_with(Flag.NORM_DY),), ("stream_coefficients_base", "companion_base")
    yield Opcode.CONV_WU, always, _addresses("stream") + _addresses("stationary")
    yield Opcode.CONV_WU, always, _addresses("output", _GRID[:3])
    yield Opcode.CONV_WU, (_with(Flag.NORM_X),), ("stationary_coefficients_base",)
    yield Opcode.CONV_WU, (_with(Flag.MOMENTUM),), ("side_base", "bias_momentum_base")
    yield Opcode.CONV_WU, (_with(Flag.BIAS),), ("bias_base",)
    yield Opcode.LOSS, always, ("stream_base", "side_base", "bias_base")
    yield Opcode.LOSS, (_with(Flag.GRADIENT),), ("output_base",)
    yield Opcode.NORM, always, ("parameters_base", "coefficients_base")
    yield Opcode.NORM, (_with(but=(Flag.FROZEN,)),), ("statistics_base",)
    yield Opcode.NORM, (_with(Flag.X_PAIR),), ("pair_base",)


ADDRESSES_USED = tuple(_used())

ORDER = (
    ErrorCode.UNKNOWN_OPCODE,
    ErrorCode.ILLEGAL_FLAGS,
    ErrorCode.ZERO_DIMENSION,
    ErrorCode.OVERSIZED_DIMENSION,
    ErrorCode.MISALIGNED_ADDRESS,
)
"""Of several errors in one descriptor, the first of this order is reported."""


class DescriptorChecker(wiring.Component):
    """Finds the first error of a descriptor: opcode, flags, sizes, alignment.

    What only the tile walker knows (a tile that overflows a buffer) and what only the memory side
    knows (addresses outside the window) is checked there.

    *Latency*: ``code`` belongs to the ``descriptor`` of ``latency`` cycles before. No handshake.

    Parameters
    ----------
    max_classes : int
        Largest number of classes of LOSS.
    batch_norm : bool
        Whether the core has batch-norm; else what needs it is illegal.

    Members
    -------
    descriptor : In(descriptor_layout())
        With resolved addresses. Must be constant for ``latency`` cycles.
    code : Out(isa.ErrorCode)
        Eight bits; ``NONE`` if the descriptor is legal.
    """

    latency = 4

    def __init__(self, *, max_classes, batch_norm=True):
        self._max_classes = max_classes
        self._batch_norm = batch_norm
        super().__init__({"descriptor": In(descriptor_layout()), "code": Out(8)})

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor
        flags = d.flags

        # Stage 1: which opcode, and what comparisons need.
        opcodes = [op for op in Opcode if self._batch_norm or op is not Opcode.NORM]
        known = {op: Signal(name=f"is_{op.name}") for op in opcodes}
        for op, is_op in known.items():
            m.d.sync += is_op.eq(d.opcode == op)

        def any_of(opcodes):
            return Cat(known[op] for op in opcodes).any()

        iteration = {}
        for axis in ("rows", "cols"):
            iteration[axis] = Signal(16, name=f"iteration_{axis}")
            m.d.sync += iteration[axis].eq(
                Mux(
                    Cat(d.opcode == op for op in BIG_GRID).any(),
                    d[f"big_{axis}"],
                    d[f"small_{axis}"],
                )
            )

        # Stage 2: one bit a rule. Rules of one code are joined in stage 3.
        found = {code: [] for code in ORDER}

        def rule(code, condition, name):
            bit = Signal(name=f"{code.name.lower()}_{name}")
            m.d.sync += bit.eq(condition)
            found[code].append(bit)

        rule(ErrorCode.UNKNOWN_OPCODE, ~any_of(opcodes), "opcode")

        for op in opcodes:
            legal = set(isa.LEGAL_FLAGS[op])
            if not self._batch_norm:
                legal -= set(isa.BATCH_NORM_FLAGS)
            mask = sum(1 << flag for flag in legal)
            illegal = Cat(flags[i] for i in range(len(flags)) if not mask >> i & 1)
            rule(ErrorCode.ILLEGAL_FLAGS, known[op] & illegal.any(), op.name.lower())
        exclusive = Cat(flags[a] & flags[b] for a, b in isa.EXCLUSIVE_FLAGS).any()
        rule(ErrorCode.ILLEGAL_FLAGS, exclusive, "pair")
        alone = Cat(flags[a] & ~flags[b] for a, b in isa.REQUIRED_FLAGS).any()
        rule(ErrorCode.ILLEGAL_FLAGS, alone, "alone")
        for op, pairs in isa.EXCLUSIVE_FLAGS_OF.items():
            both = Cat(flags[a] & flags[b] for a, b in pairs).any()
            rule(ErrorCode.ILLEGAL_FLAGS, known[op] & both, f"{op.name.lower()}_pair")
        for op, pairs in isa.REQUIRED_FLAGS_OF.items():
            alone = Cat(flags[a] & ~flags[b] for a, b in pairs).any()
            rule(ErrorCode.ILLEGAL_FLAGS, known[op] & alone, f"{op.name.lower()}_alone")
        halves = (d.tile_rows, d.tile_cols, d.small_rows, d.small_cols)
        odd = Cat(size[0] for size in halves).any()
        rule(ErrorCode.ILLEGAL_FLAGS, any_of(GRIDDED) & flags[Flag.POOL] & odd, "pool_of_odd")

        sizes = [
            f"{what}_{axis}"
            for what in ("kernel", "stride", "big", "small", "tile")
            for axis in ("rows", "cols")
        ]
        sizes += ["tile_images", "out_blocks", "tile_out_blocks", "in_blocks"]
        for size in sizes:
            rule(ErrorCode.ZERO_DIMENSION, any_of(GRIDDED) & (d[size] == 0), size)
        rule(ErrorCode.ZERO_DIMENSION, any_of((*GRIDDED, Opcode.LOSS)) & (d.images == 0), "images")
        rule(ErrorCode.ZERO_DIMENSION, known[Opcode.LOSS] & (d.classes == 0), "classes")
        if self._batch_norm:
            rule(ErrorCode.ZERO_DIMENSION, known[Opcode.NORM] & (d.out_blocks == 0), "norm_blocks")
        rule(ErrorCode.ZERO_DIMENSION, known[Opcode.LOOP] & (d["count"] == 0), "count")

        too_large = ErrorCode.OVERSIZED_DIMENSION
        gridded = any_of(GRIDDED)
        for axis in ("rows", "cols"):
            kernel, stride, pad = (d[f"{what}_{axis}"] for what in ("kernel", "stride", "pad"))
            rule(too_large, gridded & (kernel > isa.MAX_KERNEL), f"kernel_{axis}")
            rule(too_large, gridded & (stride > isa.MAX_STRIDE), f"stride_{axis}")
            rule(too_large, gridded & (pad >= kernel), f"pad_{axis}")
            rule(too_large, gridded & (d[f"tile_{axis}"] > iteration[axis]), f"tile_{axis}")
        rule(too_large, gridded & (d.tile_images > d.images), "tile_images")
        rule(too_large, gridded & (d.tile_out_blocks > d.out_blocks), "tile_out_blocks")
        one_block = (d.tile_out_blocks == 1) & (d.in_blocks == 1)
        rule(too_large, any_of(ONE_BLOCK) & ~one_block, "pass_blocks")
        many_blocks = d.tile_out_blocks > isa.MAX_STATISTICS_BLOCKS
        sums = flags[Flag.STATISTICS] | flags[Flag.SUMS]
        rule(too_large, any_of(MAPPED) & sums & many_blocks, "statistics_blocks")
        rule(too_large, known[Opcode.LOSS] & (d.classes > self._max_classes), "classes")
        for axis in ("rows", "cols"):
            rule(too_large, self._beyond_big(m, d, axis) & gridded, f"small_{axis}")

        low_bits = isa.ALIGNMENT.bit_length() - 1
        for i, (op, alternatives, fields) in enumerate(ADDRESSES_USED):
            if op not in known:
                continue
            used = Cat(
                Cat(1, *(flags[flag] == bit for flag, bit in wanted.items())).all()
                for wanted in alternatives
            ).any()
            low = Cat(d[field][:low_bits] for field in fields)
            rule(
                ErrorCode.MISALIGNED_ADDRESS, known[op] & used & low.any(), f"{op.name.lower()}_{i}"
            )

        # Stages 3 and 4.
        joined = {}
        for code, bits in found.items():
            joined[code] = Signal(name=f"any_{code.name.lower()}")
            m.d.sync += joined[code].eq(Cat(bits).any())
        verdict = ErrorCode.NONE
        for code in reversed(ORDER):
            verdict = Mux(joined[code], code, verdict)
        m.d.sync += self.code.eq(verdict)
        return m

    @staticmethod
    def _beyond_big(m, d, axis):
        """The last small pixel's window starts past the last big pixel:
        (small - 1) * stride >= big + pad. One register stage."""
        # Strides above 4 are refused by a rule of their own, so three bits do.
        stride = d[f"stride_{axis}"][: isa.MAX_STRIDE.bit_length()]
        small = d[f"small_{axis}"]
        covered = Signal(19, name=f"covered_{axis}")
        limit = Signal(18, name=f"limit_{axis}")
        # One stride added on both sides saves the subtraction.
        m.d.sync += [
            covered.eq(sum(Mux(stride[i], small, 0) << i for i in range(len(stride)))),
            limit.eq(d[f"big_{axis}"] + (d[f"pad_{axis}"] + stride)),
        ]
        return covered >= limit
