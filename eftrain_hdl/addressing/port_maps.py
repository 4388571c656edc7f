"""What each memory chain moves for one tile step: the address patterns of the seven chains.

Every map takes tile records and emits boxes for a :class:`RunGenerator`. The tables in ``boxes``
are the whole difference between the opcodes and flags as far as DRAM is concerned; boxes that two
chains walk beside each other (stream and companion, results and what the epilogue needs for them)
come from the same function and cannot disagree.
"""

from amaranth.hdl import Const, Mux

from ..isa import COEFFICIENT_VECTORS, PARTIAL_BEATS, Flag, Opcode
from .port_map import PortMap

__all__ = [
    "AuxiliaryMap",
    "CompanionMap",
    "OutputMap",
    "SecondMap",
    "SideMap",
    "StationaryMap",
    "StreamMap",
]


class StreamMap(PortMap):
    """The streamed operand, X (FP, PASS) or dY (BP, PASS_BP, WU), behind its coefficients."""

    def repeats(self):
        return Mux(self.is_wu, self.tile.out_blocks, 1)

    def boxes(self, out_block):
        d, normalises = self.descriptor, self.normalises_stream
        tag = {
            "affine": normalises,
            "pair": self.pairs,
            "relu": self.any_flag(Flag.X_RELU) & ~self.is_wu,
            "tee": self.tees,
        }
        block = self.stream_block(out_block)
        return [
            (normalises, self.coefficients(d.stream_coefficients_base, block)),
            *self.streamed(Const(1), d.stream_base, out_block, tag=tag),
        ]


class CompanionMap(PortMap):
    """The second tensor of a pair (X_PAIR, NORM_DY), in the order of the stream.

    WU reads it beside the weights' updates, which are few, because X keeps the stationary bus busy;
    the others read it beside the weight blocks, because masks keep the side bus busy.
    """

    repeats = StreamMap.repeats

    def boxes(self, out_block):
        tag = {"alternate": self.is_wu}
        return self.streamed(self.pairs, self.descriptor.companion_base, out_block, tag=tag)


class StationaryMap(PortMap):
    """Weight blocks in the order of use (FP, BP) or X behind its coefficients (WU)."""

    def repeats(self):
        return Const(1)

    def boxes(self, out_block):
        d, tile, config = self.descriptor, self.tile, self.config
        is_wu, normalises = self.is_wu, self.any_flag(Flag.NORM_X)
        outer, block, _ = strides = self.strides("stationary")
        weights = self.box(
            d.stationary_base,
            [(tile.out_block0, outer), (tile.in_block, block)],
            [
                (d.kernel_rows, d.kernel_cols * config.block_bytes),
                (d.kernel_cols, config.block_bytes),
                (tile.out_blocks, outer),
            ],
            beats=self.vectors(config.group),
        )
        x = self.tensor(
            d.stationary_base,
            strides,
            tile.in_block,
            self.grid(Opcode.CONV_WU),
            tag={"affine": normalises, "relu": self.any_flag(Flag.X_RELU)},
        )
        return [
            (self.is_any(Opcode.CONV_FP, Opcode.CONV_BP), weights),
            (
                is_wu & normalises,
                self.coefficients(d.stationary_coefficients_base, tile.in_block),
            ),
            (is_wu, x),
        ]


class SideMap(PortMap):
    """What the epilogue needs beside a finished tile.

    Ahead of each block the bias, gamma or coefficient record; then the mask tensor, y, or both in
    turn vector by vector. WU with UPDATE: weights and momentum as they are written.
    """

    def boxes(self, out_block):
        d, is_wu = self.descriptor, self.is_wu
        bias, masks, update = (
            self.any_flag(flag) & enabled
            for flag, enabled in (
                (Flag.BIAS, ~is_wu),
                (Flag.SIDE_MASK, ~is_wu),
                (Flag.UPDATE, is_wu),
            )
        )
        sums = self.sums_gradient
        gamma = self.any_flag(Flag.STATISTICS) & self.any_flag(Flag.POOL)
        vectors = Mux(sums, COEFFICIENT_VECTORS, 1)
        given = (self.strides("side"), out_block, self.result_grid)
        return [
            (
                bias | gamma | sums,
                self.record(d.bias_base, out_block, d.bias_block_stride, self.vectors(vectors)),
            ),
            (masks ^ sums, self.tensor(Mux(masks, d.side_base, d.norm_base), *given)),
            (masks & sums, self.tensor(d.side_base, *given, copies=d.norm_base - d.side_base)),
            *self.weights(update, out_block),
            (update & self.updates_bias, self.weights_bias(out_block)),
        ]


class AuxiliaryMap(PortMap):
    """The second operand of the epilogue: the addend (ADD) or the windows (UNPOOL)."""

    def boxes(self, out_block):
        base = self.descriptor.auxiliary_base
        given = (base, self.strides("auxiliary"), out_block, self.result_grid)
        return [
            (self.any_flag(Flag.ADD), self.tensor(*given)),
            (self.any_flag(Flag.UNPOOL), self.windows(*given)),
        ]


class OutputMap(PortMap):
    """The results in the order of the drain, and behind each block its statistics record."""

    def boxes(self, out_block):
        d, is_wu = self.descriptor, self.is_wu
        unpools, pools = self.any_flag(Flag.UNPOOL), self.any_flag(Flag.POOL)
        given = (d.output_base, self.strides("output"), out_block)
        pooled = [(first >> pools, count >> pools) for first, count in self.result_grid]
        beats = self.config.vector_beats + 2 * PARTIAL_BEATS
        statistics = self.record(
            d.statistics_base, out_block, beats * self.config.beat_bytes, beats
        )
        return [
            *self.weights(is_wu, out_block),
            (self.updates_bias, self.weights_bias(out_block)),
            (~is_wu & ~unpools, self.tensor(*given, pooled)),
            (~is_wu & unpools, self.windows(*given, self.result_grid)),
            (self.any_flag(Flag.STATISTICS, Flag.SUMS) & self.tile.group_last, statistics),
        ]


class SecondMap(PortMap):
    """The second output: results before pooling (KEEP), or X as the array sees it (TEE).

    Takes every step; KEEP writes in the last steps of a reduction. Runs of TEE have that tag.
    """

    def repeats(self):
        return Mux(self.any_flag(Flag.KEEP), self.tile.out_blocks, 1)

    def boxes(self, out_block):
        d = self.descriptor
        kept = self.windows(
            d.second_base, self.strides("second"), out_block, self.result_grid, halved=True
        )
        return [
            (self.any_flag(Flag.KEEP) & self.tile.last, kept),
            # There is no TEE in WU.
            self.streamed(self.tees, d.second_base, out_block, tag={"tee": 1})[0],
        ]
