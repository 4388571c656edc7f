"""The interpreter's memory: the window, and whether a read may overtake a write.

The device keeps two descriptors in flight. The interpreter runs one after another, so it would
never see a read that came too early; instead it remembers who wrote each word last and fails the
test where the device could have read the word before.
"""

import numpy as np

from eftrain_hdl.isa import ErrorCode, ErrorUnit, Flag

PORTS = {
    # name: (unit that reports errors, flag that lets its reads run ahead)
    "stream": (ErrorUnit.STREAM, Flag.AHEAD_STREAM),
    "companion": (ErrorUnit.COMPANION, Flag.AHEAD_STREAM),
    "stationary": (ErrorUnit.STATIONARY, Flag.AHEAD_STATIONARY),
    "side": (ErrorUnit.SIDE, Flag.AHEAD_SIDE),
    "auxiliary": (ErrorUnit.AUXILIARY, Flag.AHEAD_SIDE),
    "output": (ErrorUnit.WRITE, None),
    "second": (ErrorUnit.SECOND, None),
    "fetch": (ErrorUnit.FETCH, None),
}


class ProgramStop(Exception):
    """The device would stop here."""

    def __init__(self, code, unit=ErrorUnit.CONTROL):
        super().__init__(code, unit)
        self.code, self.unit = code, unit


class HazardError(AssertionError):
    """What this program computes depends on timing.

    ``position`` is the descriptor's index, ``flag`` the one that lets it, None if none does.
    """

    def __init__(self, text, position, flag=None):
        super().__init__(f"Descriptor {position} {text}.")
        self.position, self.flag = position, flag


class Memory:
    """fp32 words with byte addresses.

    Parameters
    ----------
    base, size : int
        First byte and number of bytes.

    Attributes
    ----------
    hazards : list or None
        Where to collect each ``HazardError`` that an AHEAD flag makes possible; None: raise it.
    """

    def __init__(self, base, size):
        self.base, self.size = base, size
        # NaN everywhere: what nobody wrote must not matter.
        self.words = np.full(size // 4, np.nan, np.float32)
        self.window = (0, 0)
        self.hazards = None
        self._flags, self._position, self._was_exclusive = set(), 0, True
        self._turn = 2
        self._written = np.zeros(size // 4, np.int32)
        self._read_late = np.zeros(size // 4, np.int32)
        """Turn of the last descriptor that read a word through a port other than the stream."""

    @property
    def bytes(self):
        return self.words.view(np.uint8)

    def start(self, window):
        """A program begins: nothing is in flight."""
        self.window, self._was_exclusive = window, True

    def begin(self, position, flags, exclusive):
        """The next descriptor; ``exclusive``: LOSS and NORM, which overlap with no other."""
        self._turn += 2 if exclusive or self._was_exclusive else 1
        self._was_exclusive = exclusive
        self._flags, self._position = flags, position

    def read(self, port, addresses):
        """Words at an array of byte addresses."""
        where = self._index(addresses, PORTS[port][0])
        if port == "fetch":
            return self.words[where]
        writers = self._written[where]
        if (writers == self._turn).any():
            self._hazard(f"reads through {port} what it wrote itself")
        ahead = PORTS[port][1]
        if ahead in self._flags and (writers == self._turn - 1).any():
            self._hazard(f"reads ahead through {port} what the one before it writes", ahead)
        if ahead is not Flag.AHEAD_STREAM:
            self._read_late[where] = self._turn
        return self.words[where]

    def write(self, port, addresses, values):
        where = self._index(addresses, PORTS[port][0])
        # A TEE follows the reads of the stream; all else leaves behind the descriptor before.
        if Flag.TEE in self._flags and port == "second" and Flag.AHEAD_STREAM in self._flags:
            for turns in (self._written, self._read_late):
                if (turns[where] == self._turn - 1).any():
                    self._hazard("tees over data of the one before it", Flag.AHEAD_STREAM)
        self._written[where] = self._turn
        self.words[where] = values

    def _hazard(self, text, flag=None):
        error = HazardError(text, self._position, flag)
        if flag is None or self.hazards is None:
            raise error
        self.hazards.append(error)

    def _index(self, addresses, unit):
        """Word indices of byte addresses, after the window check."""
        if not addresses.size:
            return addresses
        low, high = int(addresses.min()), int(addresses.max()) + 4
        if low < self.window[0] or high > self.window[1]:
            raise ProgramStop(ErrorCode.ADDRESS_OUT_OF_WINDOW, unit)
        if low < self.base or high > self.base + self.size:
            raise ProgramStop(ErrorCode.BUS_RESPONSE, unit)
        return (addresses - self.base) // 4
