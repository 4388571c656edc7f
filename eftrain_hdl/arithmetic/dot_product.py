"""Dot product with one rounding: exact products, aligned and added as integers."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .convert import normalise, pack_model, register, round_float32

__all__ = ["DotProduct", "dot_product_model"]

LANES = (4, 8, 16, 32)

ADDERS_PER_STAGE = 3
"""Levels of the adder tree, and the absolute value behind it, that share a pipeline stage."""


class DotProduct(wiring.Component):
    """``o = sum(s[i] * v[i])`` of numbers in ``fmt``, rounded once to fp32.

    Takes a pair of vectors every cycle and has no handshake; ``o`` belongs to the operands of
    ``latency`` cycles before. The inputs go straight into the multipliers: registers belong in
    front of them.

    Every product is computed exactly as an integer P of 2(mantissa_bits+1) bits. It is cut to the
    upper ``fmt.window`` bits, W (or widened to W with zeros), and shifted right by the
    difference between the largest product exponent of the vector and its own, where the product
    exponent is the sum of both operands' exponent fields. Bits below the window are dropped from
    the magnitude (truncation towards zero, no sticky bit); then the W-bit integers are added with
    their signs, exactly, and the sum is rounded to nearest, ties to even. Hence:

    * the result does not depend on the order of the lanes, and negating one vector negates it;
    * one term is lost or cut by less than 2**(2-W) times the largest magnitude among the products,
      the largest product itself is cut by nothing if 2(mantissa_bits+1) <= W;
    * an intermediate sum never overflows or underflows.

    A subnormal operand counts as zero; products with a zero take no part in the alignment. A sum of
    zero gives +0 always. Any NaN, an infinity times zero, or infinities of both signs give NaN; any
    other infinity gives infinity. A result below 2**-126 after rounding is zero of its sign.

    Stages: multiply; find the largest exponent; align; add (two stages from 8 lanes on);
    normalise; round.

    Parameters
    ----------
    fmt : NumberFormat
        Format of the operands.
    lanes : int
        Length of the vectors: 4, 8, 16 or 32.

    Members
    -------
    s, v : In(ArrayLayout(fmt.bits, lanes))
        Operands.
    o : Out(32)
        fp32 result.
    special : Out(1)
        ``o`` is infinite or not a number.

    Raises
    ------
    ValueError
        If ``lanes`` is not supported.
    """

    def __init__(self, *, fmt, lanes):
        if lanes not in LANES:
            nearest = min(LANES, key=lambda supported: abs(supported - lanes))
            raise ValueError(
                f"A dot product of {lanes!r} lanes is not supported; the nearest is {nearest} "
                "lanes (4, 8, 16 or 32 can be had)"
            )
        self.fmt = fmt
        self.lanes = lanes
        super().__init__(
            {
                "s": In(data.ArrayLayout(fmt.bits, lanes)),
                "v": In(data.ArrayLayout(fmt.bits, lanes)),
                "o": Out(32),
                "special": Out(1),
            }
        )

    @property
    def latency(self):
        """Cycles from the operands to the result."""
        return 5 + self._add_stages

    @property
    def _add_stages(self):
        levels = self.lanes.bit_length()
        return -(-levels // ADDERS_PER_STAGE)

    def elaborate(self, platform):
        m = Module()

        fmt = self.fmt
        lanes = range(self.lanes)
        fraction_bits, exponent_bits, window = fmt.mantissa_bits, fmt.exponent_bits, fmt.window
        product_bits = 2 * (fraction_bits + 1)
        top = (1 << exponent_bits) - 1

        # Stage 1: multiply, add exponents, compare them in pairs.
        significands, exponents, signs, nans, plus, minus = [], [], [], [], [], []
        for i in lanes:
            s, v = self.s[i], self.v[i]
            s_fraction, v_fraction = s[:fraction_bits], v[:fraction_bits]
            s_exponent, v_exponent = s[fraction_bits:-1], v[fraction_bits:-1]
            s_dead, v_dead = s_exponent == 0, v_exponent == 0
            s_top, v_top = s_exponent == top, v_exponent == top

            product = Signal(product_bits, name=f"product_{i}")
            exponent = Signal(exponent_bits + 2, name=f"exponent_{i}")
            sign = Signal(name=f"sign_{i}")
            inf = Signal(name=f"inf_{i}")
            m.d.comb += [
                # One expression: 24 x 24 bits take two DSP48E2, 8 x 8 bits one.
                product.eq(Cat(s_fraction, Const(1, 1)) * Cat(v_fraction, Const(1, 1))),
                # The top bit marks a product that is not zero. It lets every such exponent win
                # over every other, by more than any shift that leaves something.
                exponent.eq(
                    Cat((s_exponent + v_exponent)[: exponent_bits + 1], ~(s_dead | v_dead))
                ),
                sign.eq(s[-1] ^ v[-1]),
                inf.eq(s_top | v_top),
            ]
            nans.append(
                (s_top & (s_fraction.any() | v_dead)) | (v_top & (v_fraction.any() | s_dead))
            )
            plus.append(inf & ~sign)
            minus.append(inf & sign)
            signs.append(sign)
            exponents.append(exponent)
            significands.append(
                product[product_bits - window :]
                if product_bits >= window
                else Cat(Const(0, window - product_bits), product)
            )

        maxima = [
            register(m, maximum, f"maximum_{i}")
            for i, maximum in enumerate(_maxima(m, exponents, "maximum_pair"))
        ]
        significands = [register(m, x, f"significand_{i}") for i, x in enumerate(significands)]
        exponents = [register(m, x, f"exponent_multiplied_{i}") for i, x in enumerate(exponents)]
        signs = register(m, Cat(signs), "signs_multiplied")
        nan, plus, minus = register(
            m, Cat(Cat(nans).any(), Cat(plus).any(), Cat(minus).any()), "flags_multiplied"
        )

        # Stage 2: the largest exponent.
        while len(maxima) > 1:
            maxima = _maxima(m, maxima, f"maximum_of_{len(maxima)}")
        maximum = register(m, maxima[0], "maximum")
        significands = [register(m, x, f"significand_late_{i}") for i, x in enumerate(significands)]
        exponents = [register(m, x, f"exponent_late_{i}") for i, x in enumerate(exponents)]
        # Lane 0 is always added, the others are subtracted if their sign differs from its sign:
        # then the adders of the tree have just enough carry inputs, one for each other lane.
        relative = register(m, (signs[1:] ^ signs[0].replicate(self.lanes - 1)), "relative")
        sign = register(m, signs[0], "sign_largest")
        nan, inf, inf_sign = register(
            m, Cat(nan | (plus & minus), plus | minus, minus), "flags_largest"
        )

        # Stage 3: align. A subtracted lane is inverted here; the missing one is a carry input.
        places_bits = (window - 1).bit_length()
        aligned = []
        for i in lanes:
            places = Signal(exponent_bits + 2, name=f"places_{i}")
            shifted = Signal(window, name=f"shifted_{i}")
            m.d.comb += [
                places.eq(maximum - exponents[i]),
                shifted.eq(
                    Mux(
                        places[places_bits:].any() | ~maximum[-1],
                        0,
                        significands[i] >> places[:places_bits],
                    )
                ),
            ]
            if i == 0:
                aligned.append(register(m, Cat(shifted, Const(0, 1)).as_signed(), "aligned_0"))
            else:
                term = shifted ^ relative[i - 1].as_signed()
                aligned.append(register(m, term, f"aligned_{i}"))
        carries = register(m, relative, "carries")

        # Stages 4 and 5: add, and take the absolute value.
        terms, level = aligned, 0
        add_stages = 0
        while len(terms) > 1:
            if level and level % ADDERS_PER_STAGE == 0:
                terms = [register(m, x, f"partial_{level}_{i}") for i, x in enumerate(terms)]
                carries = register(m, carries, f"carries_{level}")
                add_stages += 1
            sums = []
            for i in range(len(terms) // 2):
                bits = len(terms[0]) + 1
                total = Signal(signed(bits + 1), name=f"sum_{level}_{i}")
                # The lowest position only makes the carry.
                x, y = Cat(Const(1, 1), terms[2 * i]), Cat(carries[i], terms[2 * i + 1])
                m.d.comb += total.eq(x.as_signed() + y.as_signed())
                sums.append(total[1:].as_signed())
            carries = carries[len(sums) :]
            terms = sums
            level += 1
        total = terms[0]
        if level % ADDERS_PER_STAGE == 0:
            total = register(m, total, "total")
            add_stages += 1
        negative = total[-1]
        magnitude = register(
            m, ((total ^ negative.as_signed()) + negative)[: len(total) - 1], "magnitude"
        )
        add_stages += 1
        assert add_stages == self._add_stages

        negative = register(m, negative, "negative")
        base = register(m, maximum[:-1], "base", stages=add_stages)
        base = register(m, base + _exponent_offset(fmt, self.lanes) - 1, "exponent_added")
        sign = register(m, sign, "sign_added", stages=1 + add_stages) ^ negative
        nan, inf, inf_sign = register(
            m, Cat(nan, inf, inf_sign), "flags_added", stages=1 + add_stages
        )

        # Stage 6: normalise. The exponent is left to the next stage, where it has time.
        normal, count = normalise(m, magnitude)
        normal = register(m, normal, "normalised")
        count = register(m, count, "count")
        base = register(m, base, "exponent_normalised")
        sign = register(m, Mux(inf, inf_sign, sign), "sign_normalised")
        nan, inf = register(m, Cat(nan, inf), "flags_normalised")

        # Stage 7: round.
        zero = normal[-2:] == 0
        packed = round_float32(
            m, sign & (inf | ~zero), base - count, normal, zero=zero, inf=inf, nan=nan
        )
        m.d.sync += [
            self.o.eq(packed),
            self.special.eq(packed[23:31] == 255),
        ]

        return m

    def model(self, s, v):
        """Bit-exact model: :func:`dot_product_model` in this format."""
        return dot_product_model(self.fmt, s, v)


def dot_product_model(fmt, s, v):
    """Bit-exact model of :class:`DotProduct`.

    Parameters
    ----------
    fmt : NumberFormat
        Format of the operands.
    s, v : uint32 or uint16 array, (..., lanes)
        Bit patterns in ``fmt``; broadcast together.

    Returns
    -------
    uint32 array, (...)
        Bit patterns of fp32 numbers.
    """
    s, v = np.broadcast_arrays(s, v)
    shape, lanes = s.shape[:-1], s.shape[-1]
    s, v = s.reshape(-1, lanes), v.reshape(-1, lanes)
    result = np.empty(len(s), np.uint32)
    # Blocks that stay in a processor's cache are several times faster than whole arrays.
    block = 65536 // lanes
    for start in range(0, len(s), block):
        part = slice(start, start + block)
        result[part] = _model_block(fmt, s[part], v[part])
    return result.reshape(shape)


def _model_block(fmt, s, v):
    window, lanes = fmt.window, s.shape[-1]
    top = (1 << fmt.exponent_bits) - 1
    fraction, hidden = (1 << fmt.mantissa_bits) - 1, 1 << fmt.mantissa_bits
    s, v = s.astype(np.int64), v.astype(np.int64)

    s_exponent, v_exponent = (s >> fmt.mantissa_bits) & top, (v >> fmt.mantissa_bits) & top
    dead = (s_exponent == 0) | (v_exponent == 0)
    exponent = np.where(dead, 0, s_exponent + v_exponent)
    largest = exponent.max(axis=-1, keepdims=True)
    places = np.minimum(largest - exponent, window)
    product = ((s & fraction) | hidden) * ((v & fraction) | hidden)
    product = np.where(dead, 0, product)
    cut = 2 * (fmt.mantissa_bits + 1) - window
    if cut >= 0:
        product >>= places + cut
    else:
        product = (product << -cut) >> places
    minus = ((s ^ v) >> (fmt.bits - 1)) != 0
    total = np.where(minus, -product, product).sum(axis=-1)

    negative = total < 0
    magnitude = np.abs(total)
    bits = window + lanes.bit_length() - 1
    # Of exact integers below 2**53, frexp gives the length in bits.
    count = bits - np.frexp(magnitude.astype(np.float64))[1].astype(np.int64)

    s_top, v_top = s_exponent == top, v_exponent == top
    infs = s_top | v_top
    inf = infs.any(axis=-1)
    nan = np.zeros_like(inf)
    sign = negative.astype(np.int64)
    if inf.any():
        plus, inf_minus = (infs & ~minus).any(axis=-1), (infs & minus).any(axis=-1)
        nans = (infs & dead) | (s_top & (s & fraction != 0)) | (v_top & (v & fraction != 0))
        nan = nans.any(axis=-1) | (plus & inf_minus)
        sign = np.where(inf, inf_minus, sign)
    return pack_model(
        sign,
        largest[:, 0] + _exponent_offset(fmt, lanes) - count,
        magnitude << count,
        bits,
        inf=inf,
        nan=nan,
    )


def _exponent_offset(fmt, lanes):
    """From the sum of two exponent fields to the exponent field of the result in fp32, when the
    leading one of the sum is in its top place: worth 2 * lanes times a product of two ones."""
    return 127 - 2 * fmt.bias + lanes.bit_length()


def _maxima(m, values, name):
    """The larger of every two neighbours, half as many signals as there are ``values``."""
    result = []
    for i in range(0, len(values), 2):
        larger = Signal.like(values[i], name=f"{name}_{i // 2}")
        x, y = values[i], values[i + 1]
        m.d.comb += larger.eq(Mux(x > y, x, y))
        result.append(larger)
    return result
