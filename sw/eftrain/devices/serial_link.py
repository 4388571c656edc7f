"""Requests and their replies over a line that loses, changes and repeats bytes."""

from dataclasses import dataclass

from eftrain_hdl.serial_protocol import NAK, REPLY, Status

from .base import DeviceError
from .frames import FrameReader, Reply, Request, line_bytes

__all__ = ["LineStatistics", "SerialLink"]

TRIES = 10
"""How often a request is sent before the line is given up."""

SETTLE_SECONDS = 0.02
"""Quiet on the line after damage, before the request is sent again; or 1/25 of the time-out."""

BITS_PER_BYTE = 10


def _any(reply):
    return True


@dataclass
class LineStatistics:
    """What happened on a line.

    Attributes
    ----------
    requests, retries : int
        Requests made; how often one was sent again.
    timeouts : int
        No reply in time.
    naks : int
        Requests that arrived damaged, as the device says.
    damaged : int
        Replies that arrived damaged.
    stale : int
        Replies to earlier tries and earlier requests, left out.
    """

    requests: int = 0
    retries: int = 0
    timeouts: int = 0
    naks: int = 0
    damaged: int = 0
    stale: int = 0


class SerialLink:
    """Makes requests, one at a time, and repeats each until its reply has arrived whole.

    The device does a request once, however often it is repeated, because the sequence number stays.
    A reply counts only with its CRC, the sequence number and the op of the request and the length
    that was asked for.

    Parameters
    ----------
    port : object
        ``write(data)``, ``read(seconds)`` and ``now()`` as in :class:`SerialPort`.
    name : str
        For messages.
    baud : int
    timeout : float
        Seconds of a try beyond those that the line needs for its bytes and the device for the
        cycles of a WAIT.
    """

    def __init__(self, port, *, name, baud, timeout):
        self.statistics = LineStatistics()
        self._port = port
        self._name = name
        self._baud = baud
        self._timeout = timeout
        self._settle = min(SETTLE_SECONDS, timeout / 25)
        self._reader = FrameReader()
        self._seq = 0

    def request(self, op, *, address=0, length=0, payload=b"", expect=0, seconds=0.0, accept=_any):
        """Send a request and return its :class:`Reply`.

        Parameters
        ----------
        op, address, length, payload
            As in :class:`Request`.
        expect : int
            Bytes of payload of the reply, if it is OKAY.
        seconds : float
            How long the device itself may take.
        accept : callable, optional
            Whether a reply with the right sequence number is indeed that to this request.

        Raises
        ------
        DeviceError
            If no reply came after ``TRIES`` tries, or the device has lost its session.
        """
        # Even an interrupted request has used its number up.
        self._seq = (self._seq + 1) & 0xFF
        request = Request(self._seq, op, address, length, payload)
        frame = request.encode()
        line = BITS_PER_BYTE * (line_bytes(len(payload)) + line_bytes(expect)) / self._baud
        before = (self.statistics.naks, self.statistics.damaged)
        self.statistics.requests += 1
        for attempt in range(TRIES):
            self.statistics.retries += attempt > 0
            self._port.write(frame)
            reply = self._await(request, expect, accept, self._timeout + line + seconds)
            if reply is None:
                continue
            if reply.status == Status.NO_SESSION:
                raise DeviceError(
                    f"{self._name} was reset or configured anew while in use; start again."
                )
            return reply
        if before != (self.statistics.naks, self.statistics.damaged):
            raise DeviceError(
                f"The serial line to {self._name} lost or damaged {TRIES} frames in a row; "
                "check the cable and that the baud rate is that of the bitstream."
            )
        raise DeviceError(
            f"{self._name} does not answer; check the cable, that the board is configured with "
            f"eftrain's bitstream, and that {self._baud} baud is that of the bitstream."
        )

    def _await(self, request, expect, accept, seconds):
        """The reply, or None if the request must be sent again."""
        statistics = self.statistics
        deadline = self._port.now() + seconds
        damage = False
        while (left := deadline - self._port.now()) > 0:
            data = self._port.read(min(left, self._settle) if damage else left)
            if damage and not data:
                return None
            for content in self._reader.feed(data):
                reply = None if content is None else Reply.parse(content)
                if reply is None:
                    statistics.damaged += 1
                    damage = True
                elif reply.op == NAK:
                    statistics.naks += 1
                    damage = True
                elif (reply.seq, reply.op) != (request.seq, request.op | REPLY):
                    statistics.stale += 1
                elif reply.status == Status.OKAY and not accept(reply):
                    statistics.stale += 1
                elif reply.status != Status.OKAY or len(reply.payload) == expect:
                    return reply
                else:
                    statistics.damaged += 1
                    damage = True
        statistics.timeouts += not damage
        return None

    def describe(self, status, what):
        """One sentence about a status that is not OKAY; ``what`` is the access it answers."""
        if status in (Status.SLVERR, Status.DECERR):
            return f"{self._name} answered {Status(status).name} to the {what}."
        if status == Status.TIMEOUT:
            return f"{self._name} did not complete the {what} in time; reset the board."
        if status in (Status.BAD_OP, Status.BAD_REQUEST):
            return f"{self._name} refused the {what} as illegal ({Status(status).name})."
        return f"{self._name} answered the {what} with the unknown status {status}."
