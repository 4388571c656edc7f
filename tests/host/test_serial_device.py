"""The serial device over real pseudo-terminals, with boards that answer late, wrongly or not."""

import errno
import os
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest
import serial as pyserial
from software_board import (
    BAD_REQUEST,
    DECERR,
    READ_MEMORY,
    READ_REGISTER,
    SLVERR,
    TIMEOUT,
    WAIT,
    WRITE_REGISTER,
    Damage,
    SoftwareBoard,
)

from eftrain.devices import DeviceError, serial_port
from eftrain.devices.serial import WAIT_CYCLES, SerialDevice
from eftrain.errors import UserError

QUICK, PATIENT = 0.05, 5.0
"""Seconds of time-out, where answers are meant to be missing and where they are not."""


@pytest.fixture
def board():
    board = SoftwareBoard()
    yield board
    board.unplug()


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and "Errno" not in text
    return text


def test_round_trips(board):
    with SerialDevice(board.path, timeout=PATIENT) as device:
        assert (device.memory_base, device.memory_size) == (0x1000_0000, 1 << 16)
        assert device.clock_hz == 1_000_000_000
        device.write_register(0x40, 0x7E7D_0001)
        assert device.read_register(0x40) == 0x7E7D_0001
        assert board.writes == [(0x40, 0x7E7D_0001)]
        image = bytearray(board.memory)
        rng = random.Random(1)
        # Every alignment of both ends, and sizes about the payload and the page.
        cases = [(begin, size) for begin in range(0, 18, 3) for size in (0, 1, 15, 16, 17, 31)]
        cases += [(begin, size) for begin in (0, 5, 4080) for size in (1023, 1024, 1025, 9000)]
        cases += [((1 << 16) - size, size) for size in (1, 16, 1030)]
        for begin, size in cases:
            data = rng.randbytes(size)
            device.write_memory(device.memory_base + begin, data)
            image[begin : begin + size] = data
            assert device.read_memory(device.memory_base + begin, size) == data
        assert board.memory == image
        assert device.statistics.retries == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bad_line_costs_time_and_nothing_else(board, seed):
    with SerialDevice(board.path, timeout=QUICK) as device:
        board.damage = Damage(seed, 1 / 1000, twice=0.1)
        rng = random.Random(seed)
        image, written = bytearray(board.memory), []
        for _ in range(60):
            begin = rng.randrange(len(image) - 300)
            data = rng.randbytes(rng.randint(1, 300))
            written.append((4 * rng.randrange(16), rng.getrandbits(32)))
            device.write_register(*written[-1])
            device.write_memory(device.memory_base + begin, data)
            image[begin : begin + len(data)] = data
            begin = rng.randrange(len(image) - 300)
            assert device.read_memory(device.memory_base + begin, 300) == image[begin : begin + 300]
        assert board.memory == image
        assert board.writes == written
        found = device.statistics
        assert min(found.retries, found.naks, found.damaged) > 0


def test_late_replies_are_left_out(board):
    """A board slower than the time-out: every reply comes when the host has asked again."""
    held = []

    def late(data, to_host):
        if not to_host:
            return data
        held.append(data)
        return b"".join(held.pop(0) for _ in range(len(held) - 2))

    with SerialDevice(board.path, timeout=QUICK) as device:
        board.damage = late
        for value in range(5):
            device.write_register(0, value)
            assert device.read_register(0) == value
        assert [value for _, value in board.writes] == list(range(5))
        assert device.statistics.stale >= 10


def test_replies_to_an_earlier_program_are_left_out(board):
    """A session that was cut off leaves replies with the numbers of the next one."""
    with SerialDevice(board.path, timeout=QUICK) as device:
        device.write_register(0, 1)
    held, passing = [], False

    def damage(data, to_host):
        if to_host and not passing:
            held.append(data)
            return b""
        # The reply to the first HELLO comes to the second program.
        return (held.pop() if to_host and held else b"") + data

    board.damage = damage
    with pytest.raises(DeviceError, match="does not answer"):
        SerialDevice(board.path, timeout=QUICK)
    passing = True
    with SerialDevice(board.path, timeout=PATIENT) as device:
        assert device.read_register(0) == 1
        assert device.statistics.stale >= 1


def test_wait_is_cut_into_slices(board):
    with SerialDevice(board.path, timeout=PATIENT) as device:
        assert device.wait(2 * WAIT_CYCLES + 5) is False
        assert board.waits == [WAIT_CYCLES, WAIT_CYCLES, 5]
        assert device.wait(0) is False
        board.interrupt = True
        assert device.wait(10 * WAIT_CYCLES) is True
        assert len(board.waits) == 5


def test_wait_may_take_its_cycles(board):
    """The time-out of a WAIT includes the time of its cycles."""
    board.clock_hz = WAIT_CYCLES  # A second a slice.
    seen = []

    class Port(serial_port.SerialPort):
        def read(self, seconds):
            seen.append(seconds)
            return super().read(seconds)

    with SerialDevice(board.path, timeout=QUICK, port=Port(board.path, 9600)) as device:
        device.wait(WAIT_CYCLES)
        assert 1 <= max(seen) < 1.5
        seen.clear()
        device.read_register(0)
        assert max(seen) < 0.5


@pytest.mark.parametrize(
    ("op", "status", "message"),
    [
        (READ_REGISTER, SLVERR, "answered SLVERR to the read of register 0x024."),
        (WRITE_REGISTER, SLVERR, "answered SLVERR to the write of register 0x024."),
        (READ_MEMORY, DECERR, "answered DECERR to the read of 16 bytes of memory at 0x10000000."),
        (READ_REGISTER, TIMEOUT, "did not complete the read of register 0x024 in time; reset"),
        (WAIT, BAD_REQUEST, "refused the wait as illegal (BAD_REQUEST)."),
        (WAIT, 77, "answered the wait with the unknown status 77."),
    ],
)
def test_statuses(board, op, status, message):
    with SerialDevice(board.path, timeout=PATIENT, name="the board") as device:
        board.statuses[op] = status
        with pytest.raises(DeviceError) as error:
            {
                READ_REGISTER: lambda: device.read_register(0x24),
                WRITE_REGISTER: lambda: device.write_register(0x24, 1),
                READ_MEMORY: lambda: device.read_memory(0x1000_0000, 3),
                WAIT: lambda: device.wait(5),
            }[op]()
        assert one_sentence(error).startswith(f"the board {message}")
        assert device.statistics.retries == 0
        board.statuses.clear()
        device.reset()


def test_accesses_outside_of_memory_are_refused(board):
    with SerialDevice(board.path) as device:
        for address, size in ((0x0FFF_FFFF, 2), (0x1000_FFFF, 2)):
            with pytest.raises(DeviceError, match="are not in the memory"):
                device.read_memory(address, size)
            with pytest.raises(DeviceError, match="are not in the memory"):
                device.write_memory(address, bytes(size))


def test_a_board_that_was_reset_is_noticed(board):
    with SerialDevice(board.path) as device:
        board.restart()
        with pytest.raises(DeviceError) as error:
            device.read_register(0)
        assert "was reset or configured anew while in use" in one_sentence(error)


def test_a_silent_line(board):
    board.damage = lambda data, to_host: b""
    with pytest.raises(DeviceError) as error:
        SerialDevice(board.path, baud=115_200, timeout=0.01)
    text = one_sentence(error)
    assert text.startswith(f"{board.path} does not answer; check") and "115200 baud" in text


def test_a_line_that_damages_everything(board):
    board.damage = lambda data, to_host: bytes(byte ^ 0x55 for byte in data) + b"\x7e"
    with pytest.raises(DeviceError) as error:
        SerialDevice(board.path, timeout=0.5)
    assert "lost or damaged 10 frames in a row" in one_sentence(error)


def test_another_version_of_the_protocol():
    board = SoftwareBoard(version=2)
    with pytest.raises(DeviceError) as error:
        SerialDevice(board.path)
    assert "speaks version 2 of the serial protocol and this package version 1" in str(error.value)
    board.unplug()


@pytest.mark.parametrize("moment", ["idle", "request", "reply"])
def test_unplugged(board, moment):
    """The port goes away between requests, within one, and within its reply."""
    device = SerialDevice(board.path, timeout=PATIENT)

    def pull(data, to_host):
        if to_host == (moment == "reply"):
            os.write(board._master, data[:5])
            board.unplug()
            return b""
        return data

    if moment == "idle":
        board.unplug()
    else:
        board.damage = pull
    with pytest.raises(DeviceError) as error:
        device.read_memory(device.memory_base, 64)
    assert one_sentence(error).startswith(f"The serial port {board.path} is gone")
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="is closed"):
        device.read_register(0)


def test_no_such_port(tmp_path):
    with pytest.raises(UserError) as error:
        SerialDevice(str(tmp_path / "ttyUSB7"))
    assert one_sentence(error).startswith(f"There is no serial port {tmp_path}/ttyUSB7; ")


def test_no_port_at_all(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (tmp_path, file, "/dev/null"):
        with pytest.raises(UserError) as error:
            SerialDevice(str(path))
        assert one_sentence(error).startswith(f"{path} is not a serial port; ")


def test_a_busy_port(board):
    with SerialDevice(board.path):
        with pytest.raises(DeviceError) as error:
            SerialDevice(board.path)
        assert one_sentence(error).startswith(f"The serial port {board.path} is in use; close")
    SerialDevice(board.path).close()


def test_a_forbidden_port(board, monkeypatch):
    # The tests may run as root, who may open everything.
    def refuse(*arguments, **options):
        raise pyserial.SerialException(errno.EACCES, "could not open port: Permission denied")

    monkeypatch.setattr(pyserial, "Serial", refuse)
    with pytest.raises(UserError) as error:
        SerialDevice(board.path)
    text = one_sentence(error)
    assert text.startswith(f"You may not open the serial port {board.path}; ")
    group = Path(board.path).group()
    assert (f"sudo usermod -aG {group} $USER" in text) == (group != "root")


@pytest.mark.parametrize("baud", [0, -1, 9600.0, 10**12])
def test_bad_baud_rates(board, baud):
    with pytest.raises(UserError) as error:
        SerialDevice(board.path, baud=baud)
    assert str(baud) in one_sentence(error)


@pytest.mark.parametrize("module", [None, types.ModuleType("serial")])
def test_without_pyserial(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "serial", module)
    with pytest.raises(UserError) as error:
        SerialDevice("/dev/ttyUSB0")
    assert one_sentence(error) == ("Serial ports need pyserial: run pip install 'eftrain[serial]'.")


def test_needs_neither_pyserial_nor_amaranth_to_be_imported():
    program = (
        "import sys; import eftrain.devices.serial;"
        "print(sorted({'serial', 'amaranth', 'torch'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert output == "[]\n"
