"""The microprogram of NORM, declared once: the gateware and its model both run it.

Of each channel, with the sums ``S1`` and ``S2`` that the drain left (``1/N`` is a scalar):

*Forward*: ``d = S1/N``, mean = shift + d, variance = S2/N - d*d, which the shift, a value of the
channel itself, keeps from cancelling; below 0 it becomes 0. rstd = 1/sqrt(variance + epsilon). Then
k0 = gamma*rstd, k1 = the pair's k0, k2 = (beta - mean*k0) + the pair's k2, and each running
statistic r becomes ``r + m*(s - r)``.

*Backward* (Ioffe and Szegedy, "Batch Normalization", ICML 2015, section 3): dbeta = S1, dgamma =
S2*rstd, and with the gamma before its update k0 = gamma*rstd, k1 = -k0*rstd^2*S2/N,
k2 = -k0*S1/N - k1*mean.

*1/sqrt*: a first guess by an integer subtraction from half the number's bits, 3.5 % off at most,
then three Newton steps ``y += y*(1/2 - (x/2)*y*y)``: 2 ulp at most, for 2**-125 and above.
"""

from ..isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS
from .softmax_program import REGISTERS as SOFTMAX_REGISTERS
from .vector_program import Clamp, Constants, Machine, Operand, Segment, Step, View

__all__ = ["NormProgram"]

SET_WORDS = 32
"""Words of one set of partial sums, whatever the group."""
WORK_VECTORS = 5


class NormProgram:
    """Registers and steps for vectors of ``group`` channels.

    What a block reads lies in the order in which it comes: shift, two sets of partial sums,
    parameters, the pair's coefficients. The coefficients that are computed take the place of the
    pair's, so that what is written lies in order too.

    Attributes
    ----------
    scalars : dict
        Register of each number of the descriptor, by the name of its field. ``learning_rate`` is to
        be negated.
    shift, parameters, coefficients : int
        First register of these vectors. The partial sums follow the shift.
    segments : dict
        Steps by segment.
    constants : Constants
    registers : int
        Size of the register file that holds LOSS's registers and these: a power of two.
    """

    def __init__(self, group):
        names = (
            "scale", "unbias", "epsilon", "statistics_momentum", "learning_rate", "momentum",
            "weight_decay",
        )  # fmt: skip
        self.group = group
        self.scalars = {name: Operand(SOFTMAX_REGISTERS + k) for k, name in enumerate(names)}
        self.constants = constant = Constants(SOFTMAX_REGISTERS + len(names))
        none, one, minus_one = constant(-0.0), constant(1.0), constant(-1.0)
        half, minus_half = constant(0.5), constant(-0.5)

        # The sets are aligned to their 32 words, and the shift ends where the first begins.
        sums = -(-(constant.end + group) // SET_WORDS) * SET_WORDS
        self.shift = sums - group
        self.parameters = sums + 2 * SET_WORDS
        self.coefficients = self.parameters + PARAMETER_VECTORS * group
        work = self.coefficients + COEFFICIENT_VECTORS * group
        end = work + WORK_VECTORS * group
        self.registers = 1 << (end - 1).bit_length()

        def vectors(first, count):
            return [Operand(first + k * group, vector=True) for k in range(count)]

        (shift,) = vectors(self.shift, 1)
        sum1, sum2 = Operand(sums, vector=True), Operand(sums + SET_WORDS, vector=True)
        gamma, beta, running_mean, running_variance, v_gamma, v_beta, mean, rstd = vectors(
            self.parameters, PARAMETER_VECTORS
        )
        k0, k1, k2, k3 = vectors(self.coefficients, COEFFICIENT_VECTORS)
        mean1, mean2, variance, x, y = vectors(work, WORK_VECTORS)
        scalar = self.scalars

        def step(target, a, b, c=none, **options):
            return Step(target, a, b, c, **{"length": group, **options})

        def copy(target, source, **options):
            return step(target, source, one, **options)

        def newton():
            yield step(x, rstd, variance)
            yield step(x, x, rstd, half)
            yield step(rstd, rstd, x, rstd)

        # Slots of one set are summed while the last results of the other are still on their way.
        halves = [SET_WORDS >> k for k in range(1, 4) if SET_WORDS >> k >= group]
        self.segments = {
            Segment.IDENTITY: [copy(k0, one), copy(k2, none)],
            Segment.REDUCE: [
                *(
                    step(total, total.upper(width), one, total, length=width)
                    for width in halves
                    for total in (sum1, sum2)
                ),
                step(mean1, sum1, scalar["scale"]),
                step(mean2, sum2, scalar["scale"]),
            ],
            Segment.BATCH: [
                step(x, mean1, minus_one),
                step(variance, x, mean1, mean2, clamp=Clamp.ZERO),
                step(mean, mean1, one, shift),
                step(x, running_mean, minus_one, mean),
                step(running_mean, x, scalar["statistics_momentum"], running_mean),
                step(x, running_variance, minus_one),
                step(x, variance, scalar["unbias"], x),
                step(running_variance, x, scalar["statistics_momentum"], running_variance),
            ],
            Segment.FROZEN: [
                copy(mean, running_mean),
                copy(variance, running_variance, clamp=Clamp.ZERO),
            ],
            Segment.FORWARD: [
                step(variance, variance, one, scalar["epsilon"]),
                step(rstd, one, variance, view=View.RSQRT),
                step(variance, variance, minus_half),
                *(s for _ in range(3) for s in newton()),
                copy(k1, k0),
                step(k0, gamma, rstd),
                step(x, mean, minus_one),
                step(x, x, k0, beta),
                step(k2, k2, one, x),
                copy(k3, mean),
            ],
            Segment.BACKWARD: [
                step(k0, gamma, rstd),
                step(x, k0, minus_one),
                step(y, mean2, rstd),
                step(y, y, rstd),
                step(k1, y, x),
                step(x, x, mean1),
                step(y, mean, minus_one),
                step(k2, k1, y, x),
                copy(k3, mean),
                step(sum2, sum2, rstd),
            ],
            Segment.DECAY: [
                step(sum2, gamma, scalar["weight_decay"], sum2),
                step(sum1, beta, scalar["weight_decay"], sum1),
            ],
            Segment.VELOCITY: [
                step(sum2, v_gamma, scalar["momentum"], sum2),
                step(sum1, v_beta, scalar["momentum"], sum1),
                copy(v_gamma, sum2),
                copy(v_beta, sum1),
            ],
            Segment.DESCENT: [
                step(gamma, sum2, scalar["learning_rate"], gamma),
                step(beta, sum1, scalar["learning_rate"], beta),
            ],
        }

    @property
    def end(self):
        """The first register behind the coefficients."""
        return self.coefficients + COEFFICIENT_VECTORS * self.group

    def machine(self):
        """A :class:`Machine` that runs this program."""
        return Machine(self.segments, self.constants, self.registers)
