"""Samples as a trace that https://ui.perfetto.dev and chrome://tracing show.

The format is the *Trace Event Format*: complete events ("X") for what a unit works on, counter
events ("C") for rates. Time is in microseconds of the core's clock.
"""

from eftrain_hdl import isa

from .sampling import BEATS, UNITS

CLOCK_MHZ = 100
"""The clock at which cycles are shown as time."""

_PROCESS = 1


def trace(samples, labels):
    """The trace as a dictionary for ``json.dump``.

    Parameters
    ----------
    samples : list of Sample
        In order, at least one.
    labels : list of str
        Name of each descriptor of the program.
    """
    events = [_name("process_name", 0, "eftrain")]
    for thread, unit in enumerate(UNITS, 1):
        events.append(_name("thread_name", thread, unit))
        events += _slices(samples, labels, unit, thread)
    events += _rates(samples)
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _name(kind, thread, name):
    return {"ph": "M", "pid": _PROCESS, "tid": thread, "name": kind, "args": {"name": name}}


def _microseconds(cycles):
    return cycles / CLOCK_MHZ


def _slices(samples, labels, unit, thread):
    """One event for each stretch of samples in which the unit works on the same descriptor."""
    begin, current = 0, samples[0].units[unit]
    for sample, following in zip(samples, [*samples[1:], None], strict=True):
        if following is not None and following.units[unit] == current:
            continue
        label = labels[current] if current < len(labels) else f"descriptor {current}"
        yield {
            "ph": "X",
            "pid": _PROCESS,
            "tid": thread,
            "name": label,
            "ts": _microseconds(begin),
            "dur": _microseconds(sample.cycles - begin),
            "args": {"descriptor": current},
        }
        if following is not None:
            begin, current = sample.cycles, following.units[unit]


def _rates(samples):
    """What happened since the sample before, in percent of its cycles."""
    previous = dict.fromkeys(samples[0].counts, 0)
    for sample in samples:
        moved = {name: value - previous[name] for name, value in sample.counts.items()}
        cycles = moved["CYCLES"]
        if cycles:
            begin = _microseconds(previous["CYCLES"])
            shares = {name: 100 * value / cycles for name, value in moved.items()}
            waits = {name.removeprefix("STALL_").lower(): shares[name] for name in isa.STALLS}
            ports = {name.removeprefix("BEATS_").lower(): shares[name] for name in BEATS}
            for track, values in (
                ("array %", {"active": shares["ACTIVE"]}),
                ("waiting %", waits),
                ("ports %", ports),
            ):
                yield {"ph": "C", "pid": _PROCESS, "name": track, "ts": begin, "args": values}
        previous = sample.counts
