"""Memory chains and the buses they share, burst by burst.

A chain turns the boxes of its steps into runs and the runs into bursts. Chains of one bus take
turns, a burst at a time; memory answers the bursts of a bus in order.
"""

from collections import deque

from .model_curve import Curve
from .model_machine import BURST_BEATS, LONG_AGO


class StepQueue:
    """Steps from the tile walker to one unit, with the times at which they were taken.

    The walker finds room ``depth`` steps behind the last one that was taken.

    Attributes
    ----------
    steps : deque of (time, step)
    took : int
        How many were taken.
    """

    def __init__(self, depth):
        self._depth = depth
        self.steps = deque()
        self._put = self.took = 0
        self._taken = deque(maxlen=depth)

    def room(self):
        """When a further step finds room; None while that is not known."""
        behind = self.took - (self._put - self._depth) - 1
        if self._put < self._depth:
            return LONG_AGO
        return self._taken[-1 - behind] + 2 if behind >= 0 else None

    def put(self, time, step):
        self._put += 1
        self.steps.append((time, step))

    def take(self, time):
        self.took += 1
        self._taken.append(time)
        self.steps.popleft()


class Chain:
    """What readers and writers have in common: steps, boxes, runs.

    Parameters
    ----------
    name : str
        In the table ``CHAINS`` of the engine.
    machine : Machine
    memory : Memory
    bundle : int
        Beats of runs that are looked at as one burst, where the chain has its bus to itself: beats
        follow each other just so.
    """

    RUNS_HELD = 3
    """Runs in the burst splitter."""

    def __init__(self, name, machine, memory, bundle):
        self.name, self._machine, self._memory = name, machine, memory
        self._bundle = bundle
        self.queue = StepQueue(machine.queue)
        self._boxes, self._mapped, self._free = (), LONG_AGO, LONG_AGO
        self._runs = self._beats = 0
        self._data, self._alone = True, False
        self._together, self._longest = 1, BURST_BEATS
        self._entry = LONG_AGO
        self._cut = deque([LONG_AGO] * self.RUNS_HELD, maxlen=self.RUNS_HELD)
        self.rest = 0
        self._available = LONG_AGO
        self._flight = deque([LONG_AGO] * memory.outstanding, maxlen=memory.outstanding)
        self.asked = None

    def _next_run(self):
        """Make ``rest`` the beats of the next run; whether that can be done yet."""
        while not self._runs:
            if not self._boxes:
                if not self.queue.steps:
                    return False
                handed, step = self.queue.steps[0]
                gate = self._gate(step)
                if gate is None:
                    return False
                self._mapped = max(handed + self._machine.map, gate, self._mapped + 1)
                self._boxes, self._alone = step.boxes(self.name), step.alone(self.name)
                self._opened(step, self._mapped)
                if not self._boxes:
                    self.queue.take(self._mapped)
                    continue
            box, *self._boxes = self._boxes
            self._mapped = max(self._mapped, self._free)
            self._together, self._longest = 1, BURST_BEATS
            if self._alone:
                self._together = max(1, self._bundle // box.beats)
                self._longest = max(BURST_BEATS, self._bundle)
            self._runs, self._beats, self._data = box.runs, box.beats, box.data
            self._entry = self._mapped + self._machine.address - 1
            if not self._boxes:
                self.queue.take(self._mapped)
        self._entry = max(self._entry, self._cut[0]) + 1
        together = min(self._together, self._runs)
        self._runs -= together
        if not self._runs:
            self._free = self._entry + together
        self.rest = self._beats * together
        # The one before may still wait for the bus.
        self._available = max(self._available, self._entry + self._machine.split)
        return True

    def _gate(self, step):
        """When the boxes of a step may begin; None while that is not known."""
        return step.gate(self.name)

    def _opened(self, step, time):
        """The boxes of a step begin."""

    def pace(self):
        """Cycles of a beat on the bus: few short bursts in flight do not hide the latency."""
        memory = self._memory
        if self._together == 1 or self._beats * memory.outstanding > 2 * memory.latency:
            return memory.beat
        return max(memory.beat, (memory.latency + 6) / (memory.outstanding * self._beats))

    def _claimed(self, size, time):
        """A burst has left the splitter."""
        self.rest -= size
        self._available = time + 1
        if not self.rest:
            self._cut.append(time)

    def busy(self, run):
        """Whether work of the pass ``run`` is left that has not been asked for."""
        steps = self.queue.steps
        return bool(self.rest or self._runs or self._boxes or (steps and steps[0][1].run is run))


class Reader(Chain):
    """A chain that reads: it asks only for what its landing buffer has room for.

    Attributes
    ----------
    landed : deque of (beats, first, last, data)
        Bursts that nothing has taken yet: the times of their beats.
    taken : Curve
        Beats that have left the buffer.
    """

    def __init__(self, name, machine, memory, bundle):
        super().__init__(name, machine, memory, bundle)
        self.landed = deque()
        self.taken = Curve()
        self._claims = 0

    def ask(self):
        """When the next burst asks for the bus; None if nothing is known to come."""
        if self.asked is None and (self.rest or self._next_run()):
            machine = self._machine
            room = self.taken.at(self._claims + machine.landing_room - machine.landing)
            if room is not None:
                self.asked = max(self._available, room + 2, self._flight[0] - machine.freed) + 1
        return self.asked

    def granted(self, time):
        """The burst has left for the bus: its beats."""
        size = min(self._longest, self.rest)
        # The next one moves up while this one leaves.
        self._claimed(size, max(self.asked - 1, self._available))
        self._available = max(self._available, time)
        self._claims += size
        self.taken.forget(self._claims - self._machine.landing)
        self.asked = None
        return size

    def landing(self, size, first, last):
        """The burst will come so."""
        self._flight.append(last)
        self.landed.append((size, first, last, self._data))

    def take(self, start, end):
        """The oldest burst leaves the buffer."""
        self.taken.add(self.landed.popleft()[0], start, end)


class Writer(Chain):
    """A chain that writes: a burst asks for the bus when all its data is in the store.

    Attributes
    ----------
    entered, sent : Curve
        Beats into the store and out of it.
    opened : deque
        When the runs of each step with a tee began, oldest first; the tee needs a run to write to.
    answered : float
        When the last burst was.
    """

    def __init__(self, name, machine, memory, bundle):
        super().__init__(name, machine, memory, bundle)
        self.entered, self.sent = Curve(), Curve()
        self.opened = deque()
        self.answered = LONG_AGO
        self._claims = 0

    def _opened(self, step, time):
        if step.tees and self._boxes and self.name == "second":
            self.opened.append(time + self._machine.address)

    def room(self, count):
        """When the store has room for ``count`` beats more; None while that is not known."""
        return self.sent.at(self.entered.total + count - self._machine.store)

    def ask(self):
        if self.asked is None and (self.rest or self._next_run()):
            size = min(self._longest, self.rest)
            complete = self.entered.at(self._claims + size)
            if complete is not None:
                ready = max(self._available, complete + self._machine.stored)
                self.asked = max(ready, self._flight[0] + 1) + 1
        return self.asked

    def granted(self, time):
        size = min(self._longest, self.rest)
        self._claimed(size, max(self.asked - 1, self._available))
        self._available = max(self._available, time)
        self._claims += size
        self.entered.forget(self._claims)
        self.asked = None
        return size

    def landing(self, size, first, last):
        self.sent.add(size, first, last)
        self.sent.forget(self.entered.total - self._machine.store - BURST_BEATS)
        self.answered = last + self._memory.write_latency
        self._flight.append(self.answered)

    def busy(self, run):
        return super().busy(run) or self.entered.total > self._claims


class Steered(Reader):
    """A reader that uses the second of two buses for some passes.

    It changes over when all that it asked for has been taken.

    Attributes
    ----------
    alternate : bool
        The next burst is for the second bus.
    """

    def __init__(self, name, machine, memory, bundle):
        super().__init__(name, machine, memory, bundle)
        self.alternate = False

    def _gate(self, step):
        gate = step.gate(self.name)
        if gate is None or not step.boxes(self.name) or step.run.is_update is self.alternate:
            return gate
        empty = self.taken.at(self._claims)
        if empty is None:
            return None
        self.alternate = step.run.is_update
        return max(gate, empty)


class Bus:
    """One port and the chains that share it, in the order of their identifiers.

    Parameters
    ----------
    chains : list of Chain
    machine : Machine
    memory : Memory
    clock : Clock
    writes : bool
    alternate : bool
        It is the second bus of the :class:`Steered` chain.
    """

    def __init__(self, chains, machine, memory, clock, *, writes=False, alternate=False):
        self.chains = chains
        self._alternate = alternate
        self._machine, self._memory, self._clock = machine, memory, clock
        self._writes = writes
        self._served = len(chains) - 1
        self._granted = LONG_AGO
        self._moved = LONG_AGO
        # Chosen requests that the memory has not accepted.
        self._requests = deque([LONG_AGO] * machine.requests, maxlen=machine.requests)
        self._slots = deque([LONG_AGO] * memory.outstanding, maxlen=memory.outstanding)
        self._order = deque([LONG_AGO] * machine.order, maxlen=machine.order)

    def next(self):
        """``(when, chain)`` of the next burst that the arbiter chooses; None if nobody asks."""
        asking = [
            (time, index)
            for index, chain in enumerate(self.chains)
            if (time := chain.asked or chain.ask()) is not None
            and getattr(chain, "alternate", self._alternate) is self._alternate
        ]
        if not asking:
            return None
        grant = max(min(asking)[0], self._granted + 1, self._requests[0])
        if self._writes:
            grant = max(grant, self._order[0] + 1)
        if len(asking) == 1:
            return grant, self.chains[asking[0][1]]
        count = len(self.chains)
        _, index = min(
            ((index - self._served - 1) % count, index) for time, index in asking if time <= grant
        )
        return grant, self.chains[index]

    def serve(self, grant, chain):
        """Move the burst chosen."""
        memory = self._memory
        self._served = self.chains.index(chain)
        size = chain.granted(grant)
        # A place in memory is free when the last beat leaves it, which lands later.
        freed = self._slots[0] + (1 if self._writes else -self._machine.slices)
        accepted = max(grant + 1, freed)
        self._granted = grant
        self._requests.append(accepted)
        latency = 0 if self._writes else memory.latency + self._machine.slices
        first = self._clock.next_beat(max(self._moved, accepted + latency))
        self._moved = last = self._clock.after(first, size * chain.pace())
        self._slots.append(last + memory.write_latency if self._writes else last)
        self._order.append(last)
        chain.landing(size, first, last)
