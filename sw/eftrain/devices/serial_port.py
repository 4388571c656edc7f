"""A serial port of the host, opened with pyserial; what goes wrong with it becomes one sentence."""

import contextlib
import errno
import os
import stat
import time

from ..errors import UserError
from .base import DeviceError

__all__ = ["SerialPort"]

_BUSY = (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK)


def _import_pyserial():
    try:
        import serial
    except ModuleNotFoundError as error:
        if error.name != "serial":
            raise
        serial = None
    # Another package called `serial` has no such class.
    if not hasattr(serial, "SerialException"):
        raise UserError("Serial ports need pyserial: run pip install 'eftrain[serial]'.")
    return serial


class SerialPort:
    """A serial port that nobody else can open meanwhile.

    Parameters
    ----------
    path : str
        Such as ``/dev/ttyUSB0``.
    baud : int
    write_timeout : float
        Seconds after which a port that takes no bytes is an error.

    Raises
    ------
    UserError
        If there is no such port, it may not be opened, does not have this baud rate, or pyserial is
        missing.
    DeviceError
        If another program has it open.
    """

    def __init__(self, path, baud, *, write_timeout=10.0):
        self.path = path
        self._serial = _import_pyserial()
        self._port = None
        if not isinstance(baud, int) or baud <= 0:
            raise UserError(f"The baud rate {baud!r} of {path} is not a positive whole number.")
        try:
            self._port = self._serial.Serial(
                path, baud, timeout=0, write_timeout=write_timeout, exclusive=True
            )
        except (OSError, ValueError, OverflowError) as error:
            raise self._cannot_open(error, baud) from None
        # Converters for USB hold short replies back for up to 16 ms; not all ports have this mode.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._port.set_low_latency_mode(True)

    @property
    def is_open(self):
        return self._port is not None

    def now(self):
        """Seconds on the clock of :meth:`read`'s time-outs."""
        return time.monotonic()

    def write(self, data):
        """Send bytes; returns when the system has taken them all."""
        port = self._opened()
        try:
            port.write(data)
        except self._serial.SerialTimeoutException:
            raise DeviceError(f"The serial port {self.path} takes no data.") from None
        except OSError:
            raise self._unplugged() from None

    def read(self, seconds):
        """The bytes that are there, waiting for the first one; none after so many seconds."""
        port = self._opened()
        try:
            port.timeout = max(0.0, seconds)
            first = port.read(1)
            return first + port.read(port.in_waiting) if first else first
        except (OSError, TypeError):
            # pyserial on a port that was closed by another thread: TypeError.
            raise self._unplugged() from None

    def clear(self):
        """Forget what has been received."""
        try:
            self._opened().reset_input_buffer()
        except Exception as error:  # termios.error is no OSError.
            if isinstance(error, DeviceError):
                raise
            raise self._unplugged() from None

    def close(self):
        """Give the port back. May be called more than once."""
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None

    def _opened(self):
        if self._port is None:
            raise DeviceError(f"The serial port {self.path} is closed.")
        return self._port

    def _unplugged(self):
        return DeviceError(
            f"The serial port {self.path} is gone: the board was unplugged or switched off; "
            "connect it and start again."
        )

    def _cannot_open(self, error, baud):
        code = getattr(error, "errno", None)
        if isinstance(error, (ValueError, OverflowError)) or code == errno.EINVAL:
            return UserError(f"The serial port {self.path} cannot run at {baud} baud.")
        if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
            return UserError(f"There is no serial port {self.path}; {_connected()}.")
        if code in (errno.EACCES, errno.EPERM):
            return UserError(f"You may not open the serial port {self.path}; {self._permission()}.")
        if code in _BUSY:
            return DeviceError(
                f"The serial port {self.path} is in use; close the other program that has it open."
            )
        # pyserial says so, without a number, when a device has no terminal settings.
        unsettable = code is None and "configure port" in str(error)
        if code in (errno.ENOTTY, errno.EISDIR) or unsettable or not self._is_character_device():
            return UserError(f"{self.path} is not a serial port; {_connected()}.")
        return DeviceError(
            f"The serial port {self.path} cannot be opened: {os.strerror(code) if code else error}."
        )

    def _is_character_device(self):
        try:
            return stat.S_ISCHR(os.stat(self.path).st_mode)
        except OSError:
            return True

    def _permission(self):
        """What would give the permission to open the port."""
        try:
            import grp

            group = grp.getgrgid(os.stat(self.path).st_gid).gr_name
        except (ImportError, KeyError, OSError):
            return "ask for permission to read and write it"
        if group == "root":
            return "it belongs to root: a udev rule must give it to a group of yours"
        return f"join its group with 'sudo usermod -aG {group} $USER' and log in again"


def _connected():
    from serial.tools import list_ports

    names = [port.device for port in list_ports.comports()]
    return f"connected: {', '.join(sorted(names))}" if names else "none is connected"
