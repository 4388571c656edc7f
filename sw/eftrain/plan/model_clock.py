"""The model's clock: steps that are left out, and when the memory refreshes."""

from collections import deque
from dataclasses import dataclass
from math import ceil

__all__ = ["Clock", "Seen"]

ROUNDING = 1e-9
"""What is no part of a beat."""


@dataclass(frozen=True)
class Seen:
    """What is known of a program's run.

    gone : int
        Cycles of the memory's refresh period that had gone at the doorbell.
    completed : tuple of int
        When each pass was completed, in cycles since the doorbell.
    """

    gone: int
    completed: tuple = ()


class Clock:
    """Times of the model, which counts from the doorbell and leaves steps out, and real ones.

    A planner cannot know where in the memory's refresh period its program will begin. So beats take
    a little longer, ``Memory.beat`` cycles on the average. For a program that has run it is known
    when the memory refreshed: then the passes that are followed step by step meet the refreshes
    that they met in the run.

    Parameters
    ----------
    memory : Memory
    seen : Seen, optional
        Its ``completed`` serve to find the refreshes only.

    Attributes
    ----------
    skipped : float
        Cycles that were left out so far.
    spread : bool
        Refreshes are spread over the beats.
    """

    def __init__(self, memory, seen=None):
        self._period = memory.refresh_period
        self._moving = memory.refresh_period - memory.refresh
        self._known = seen is not None
        self._gone = seen.gone if seen else 0
        self._completed = deque(seen.completed if seen else ())
        self._late = 0.0
        self.spread = not self._known
        self.skipped = 0.0

    def real(self, time):
        """Cycles since the doorbell."""
        return time + self.skipped

    def begin(self, *, leaves_out):
        """A pass begins. If it ``leaves_out`` steps, its refreshes are spread: that steps take the
        same time shows which ones can be left out."""
        self.spread = leaves_out or not self._known

    def end(self, time):
        """The oldest pass is completed; returns the real time."""
        ended = self.real(time)
        if self._completed:
            self._late = self._completed.popleft() - ended
        return ended

    def next_beat(self, time):
        """When a beat can move, at ``time`` or later."""
        if self.spread:
            return time
        place = self._place(time)
        return time if place < self._moving else time + self._period - place

    def after(self, first, cycles):
        """When beats have moved that take ``cycles`` on the average, the first one at ``first``."""
        if self.spread:
            return first + cycles
        moving = cycles * self._moving / self._period
        behind = moving - (self._moving - self._place(first))
        refreshes = max(0, ceil(behind / self._moving - ROUNDING))
        return first + moving + refreshes * (self._period - self._moving)

    def wait(self, first, beats, lead=None):
        """Cycles by which a refresh delays what needs ``beats`` beats, one a cycle from ``first``.

        Parameters
        ----------
        first : float
        beats : int
        lead : int, optional
            Each beat behind them gains so many cycles on what needs it; None: there are none.
        """
        if self.spread:
            return 0
        place = self._place(first)
        if place >= self._moving:
            return self._period - place
        refresh = self._period - self._moving
        more = self._moving - place - beats
        if more < 0:
            return refresh
        return max(0, refresh - lead * more) if lead else 0

    def _place(self, time):
        """In the refresh period, which ends with the refresh."""
        return (self.real(time) + self._late + self._gone) % self._period
