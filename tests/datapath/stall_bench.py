"""Drives blocks with streams at every edge in Amaranth's simulator, with random stalls."""

import random

import numpy as np
from amaranth.sim import Simulator


class Case:
    """One job of a block under test.

    Parameters
    ----------
    controls : dict
        Values of input ports, by name, held through the job.
    sources : dict
        Payloads to send, by the name of the input stream.
    beats : int
        Beats to expect from ``o``.
    stalls : float
        Chance for each stream in each cycle not to move.
    pulse : str, optional
        A port that is high in the first cycle only.
    done : str, optional
        ``name`` or ``~name`` of a port that must be high, or low, at the end of the job.

    After the run ``output`` has the beats, ``cycles`` the cycles from the first in which a source
    was valid up to the last beat, and ``seen`` for each watched port the number of cycles it was
    high.
    """

    def __init__(self, controls, sources, beats, stalls=0.0, *, pulse=None, done=None):
        self.controls = controls
        self.sources = sources
        self.beats = beats
        self.stalls = stalls
        self.pulse = pulse
        self.done = done
        self.output = []
        self.cycles = 0
        self.seen = {}


def simulate(dut, cases, *, seed, watch=(), timeout=20000):
    """Run ``cases`` one after another, without a reset in between."""
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def bench(ctx):
        for case in cases:
            await _run(ctx, dut, case, rng, watch, timeout)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


async def _run(ctx, dut, case, rng, watch, timeout):
    for name, value in case.controls.items():
        ctx.set(getattr(dut, name), value)
    if case.pulse:
        ctx.set(getattr(dut, case.pulse), 1)
        await ctx.tick()
        ctx.set(getattr(dut, case.pulse), 0)

    pending = {name: list(payloads) for name, payloads in case.sources.items()}
    names = list(pending)
    offered = dict.fromkeys(names, False)
    case.seen = dict.fromkeys(watch, 0)
    held = None
    # A few cycles past the end show whether anything more comes.
    tail = 20
    for cycle in range(timeout):
        for name in names:
            port = getattr(dut, name)
            if not offered[name] and pending[name] and rng.random() >= case.stalls:
                offered[name] = True
                ctx.set(port.payload, pending[name][0])
            ctx.set(port.valid, offered[name])
        ctx.set(dut.o.ready, rng.random() >= case.stalls)
        signals = [getattr(dut, name).ready for name in names]
        signals += [getattr(dut, name) for name in watch]
        _, _, o_valid, o_ready, o_payload, *values = await ctx.tick().sample(
            dut.o.valid, dut.o.ready, dut.o.payload, *signals
        )
        for name, ready in zip(names, values[: len(names)], strict=True):
            if offered[name] and ready:
                pending[name].pop(0)
                offered[name] = False
        for name, value in zip(watch, values[len(names) :], strict=True):
            case.seen[name] += value
        assert held is None or (o_valid and o_payload == held), "o changed while it had to wait"
        held = o_payload if o_valid and not o_ready else None
        if o_valid and o_ready:
            case.output.append(o_payload)
            case.cycles = cycle + 1
        if len(case.output) >= case.beats and not any(pending.values()):
            tail -= 1
            if not tail:
                break
    else:
        raise AssertionError(
            f"no end after {timeout} cycles: {len(case.output)} of {case.beats} beats came, "
            f"{ {name: len(rest) for name, rest in pending.items()} } were not taken"
        )
    for name in names:
        ctx.set(getattr(dut, name).valid, 0)
    if case.done:
        level = ctx.get(getattr(dut, case.done.lstrip("~")))
        assert level != case.done.startswith("~"), f"{case.done} does not hold at the end"


def to_beats(words):
    """uint32 array -> list of 128-bit integers, four words each."""
    raw = np.ascontiguousarray(words, dtype="<u4").tobytes()
    return [int.from_bytes(raw[k : k + 16], "little") for k in range(0, len(raw), 16)]


def from_beats(beats, columns):
    """The inverse of :func:`to_beats`, as rows of ``columns`` words."""
    raw = b"".join(beat.to_bytes(16, "little") for beat in beats)
    return np.frombuffer(raw, "<u4").reshape(-1, columns)
