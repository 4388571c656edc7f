"""``eftrain profile``: one training step on the simulated device, sampled."""

from dataclasses import dataclass

from eftrain_hdl.isa import STALLS

from ..bench.rtl import MEMORY_SIZE, random_tensors, run_passes
from ..devices.sim import SimDevice
from ..driver import POLL_CYCLES
from ..errors import UserError
from ..plan.report import plan_step
from .sampling import SampledDevice, breakdown
from .trace import trace

__all__ = ["Profile", "profile", "plan_profile"]


@dataclass(frozen=True)
class Profile:
    """What a profiled step left behind.

    Attributes
    ----------
    cycles : int
        From the doorbell to END.
    breakdown : list
        ``(what the array did, cycles)``, the largest first; they add up to ``cycles``.
    trace : dict
        For ``json.dump``.
    """

    cycles: int
    breakdown: list
    trace: dict


def plan_profile(network, graph, config, batch):
    """The ``StepPlan`` that ``profile`` runs.

    Raises
    ------
    UserError
        If the step does not fit the core or the simulated memory.
    """
    step = plan_step(network, graph, config, batch)
    needed = sum(step.memory.values())
    if needed > MEMORY_SIZE:
        raise UserError(
            f"The step needs {needed / 2**20:.1f} MiB but the simulated memory has "
            f"{MEMORY_SIZE / 2**20:.1f} MiB; use a smaller --batch."
        )
    return step


def profile(step, interval, on_status=None, on_sample=None, open_device=SimDevice):
    """Run the step and sample the device's counters.

    Parameters
    ----------
    step : StepPlan
    interval : int
        Cycles between two samples.
    on_status, on_sample : callable, optional
        Called with lines of the device's build, and with each ``Sample``.
    open_device : callable
        ``open_device(config, memory_size=bytes, on_status=callable)`` gives the device.

    Raises
    ------
    DeviceError
        If the device fails, or its counters do not add up.
    """
    tensors = random_tensors(step.passes, step.config.group)
    with open_device(step.config, memory_size=MEMORY_SIZE, on_status=on_status) as device:
        sampled = SampledDevice(device, interval, on_sample)
        run = run_passes(sampled, step.passes, tensors, max(interval, POLL_CYCLES))
    names = [f"{row.layer} {row.kind}".removesuffix(" LOSS") for row in step.rows]
    parts = breakdown(run.counters)
    texts = {"ACTIVE": "computed"} | STALLS
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return Profile(
        run.cycles,
        [(texts[name], cycles) for name, cycles in ordered],
        trace([*sampled.samples, run.counters], [*names, "end"]),
    )
