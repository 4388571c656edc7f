"""The model's clock against a memory that is looked at cycle by cycle."""

import numpy as np
import pytest

from eftrain.plan.model import BENCHMARK_MEMORY as MEMORY
from eftrain.plan.model_clock import Clock, Seen

PERIOD, MOVING = MEMORY.refresh_period, MEMORY.refresh_period - MEMORY.refresh
PHASES = [0, 1, 300, MOVING - 20, MOVING - 1, MOVING, MOVING + 9, PERIOD - 1]


def beats(gone, first, count):
    """Cycles of the beats that follow ``first``."""
    times, time = [], first
    while len(times) < count:
        if (time + gone) % PERIOD < MOVING:
            times.append(time)
        time += 1
    return times


@pytest.mark.parametrize("gone", PHASES)
@pytest.mark.parametrize("first", [0, 17, 5000])
def test_beats_wait_for_the_refresh(gone, first):
    clock = Clock(MEMORY, Seen(gone))
    for count in (1, 4, 64, 753, 754, 755, 4000):
        times = beats(gone, first, count)
        begin = clock.next_beat(first)
        assert begin == times[0]
        end = clock.after(begin, count * MEMORY.beat)
        assert end == pytest.approx(times[-1] + 1, abs=1e-6)


@pytest.mark.parametrize("lead", [None, 3])
def test_what_waits_for_its_beats(lead):
    """A unit that takes beats as fast as they come, then one every ``lead`` + 1 cycles."""
    needed, more = 16, 30
    for gone in range(PERIOD):
        times = beats(gone, 100, needed + (more if lead else 0))
        wanted = 100 + np.arange(needed)
        if lead:
            wanted = np.append(wanted, wanted[-1] + 1 + (lead + 1) * np.arange(more))
        late = (np.array(times) - wanted).max()
        assert Clock(MEMORY, Seen(gone)).wait(100, needed, lead) == late


def test_what_is_left_out_and_what_was_seen_move_the_refresh():
    clock = Clock(MEMORY, Seen(0, (1000,)))
    assert clock.next_beat(MOVING) == PERIOD
    clock.skipped = 10
    assert clock.next_beat(MOVING) == MOVING + PERIOD - MOVING - 10
    # The first pass was completed five cycles later than here.
    assert clock.end(985) == 995
    assert clock.next_beat(MOVING) == MOVING + PERIOD - MOVING - 15
    # Nothing is known of later ones.
    assert clock.end(2000) == 2010
    assert clock.next_beat(MOVING) == MOVING + PERIOD - MOVING - 15


def test_a_planner_spreads_refreshes():
    for clock in (Clock(MEMORY), Clock(MEMORY, Seen(0))):
        clock.begin(leaves_out=True)
        assert clock.next_beat(MOVING) == MOVING and clock.after(MOVING, 64) == MOVING + 64
        assert clock.wait(MOVING, 16) == 0
    clock.begin(leaves_out=False)
    assert clock.next_beat(MOVING) == PERIOD
