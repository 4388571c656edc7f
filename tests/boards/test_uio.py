"""UioDevice: registers, interrupt, buffer and cache, on a fake Linux around the simulated core."""

import fcntl
import os
import select
import socket
import stat
import time

import numpy as np
import pytest
from fake_board import FakeBoard, train, write

from eftrain.devices.base import DeviceError
from eftrain.devices.mapped import check_buffer
from eftrain.devices.sim import SimDevice
from eftrain.devices.udmabuf import DmaBuffer, cma_free, cma_total
from eftrain.devices.uio import RegisterFile, UioInterrupt, find_uio
from eftrain.driver import Driver
from eftrain_hdl import isa

ATTRIBUTES = "sys/class/u-dma-buf/udmabuf-eftrain"
ADDRESS = {name: register.address for name, register in isa.REGISTER.items()}


def test_training_gives_the_bits_of_the_simulated_device(board, model):
    with SimDevice(shared_object=model) as device:
        expected = train(device)
    with board.open() as device:
        assert train(device) == expected
    assert board.events, "the longer program ends with an interrupt through the node"
    assert {name for name, _, _ in board.syncs} == {"sync_for_cpu", "sync_for_device"}


def test_without_cache_maintenance_the_same_run_fails(board, monkeypatch):
    """The fake board would show a forgotten flush or invalidation."""
    monkeypatch.setattr(FakeBoard, "synchronise", lambda *_: None)
    with board.open() as device:
        device.write_memory(device.memory_base, bytes(range(64)))
        assert device.read_memory(device.memory_base, 64) == bytes(range(64)), "from the cache"
        with pytest.raises(DeviceError):
            train(device)


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (63, 2), (4095, 4098), (128, 64)])
def test_cache_operations_cover_whole_lines_around_every_access(board, offset, size):
    with board.open() as device:
        address = device.memory_base + offset
        before = board.core.read_memory(address - offset, offset + size + 256)
        data = np.random.default_rng(0).bytes(size)
        device.write_memory(address, data)
        device.read_memory(address, size)
        after = board.core.read_memory(address - offset, offset + size + 256)
    for attribute, begin, length in board.syncs:
        assert begin <= offset and begin + length >= offset + size, attribute
        assert begin % 64 == length % 64 == 0
    assert after[offset : offset + size] == data
    # What the neighbours in those lines hold is the cache's, from before the first invalidation.
    begin, end = offset - offset % 64, offset + size + -(offset + size) % 64
    assert after[:begin] == before[:begin] and after[end:] == before[end:]


def test_accesses_outside_the_buffer_or_of_no_register_are_refused(board):
    with board.open() as device:
        end = device.memory_base + device.memory_size
        with pytest.raises(DeviceError, match="not in the memory of uio:eftrain"):
            device.write_memory(end - 2, b"abc")
        with pytest.raises(DeviceError, match="not in the memory"):
            device.read_memory(device.memory_base - 1, 1)
        for address in (0x00, ADDRESS["UPTIME"], 0xFFC, 0x1000, -4):
            with pytest.raises(DeviceError, match="no register to write"):
                device.write_register(address, 0)
        for address in (ADDRESS["CONTROL"], 0x3C, 0x1000, 2):
            with pytest.raises(DeviceError, match="no register to read"):
                device.read_register(address)
        assert device.read_memory(end, 0) == b""
    with pytest.raises(DeviceError, match="uio:eftrain is closed"):
        device.read_register(0)
    device.close()


def test_wait_ends_with_the_interrupt_and_after_the_time_without(board):
    with board.open(clock_hz=1000) as device:
        begin = time.monotonic()
        assert device.wait(60) is False
        assert time.monotonic() - begin >= 0.05
        device.write_register(ADDRESS["IRQ_ENABLE"], 3)
        driver = Driver(device, poll_cycles=600_000)  # Ten minutes: only the interrupt ends it.
        device.write_memory(device.memory_base, isa.encode(isa.Opcode.END))
        window = (device.memory_base, device.memory_base + 4096)
        for _ in range(2):
            driver.run(device.memory_base, 1, window)
        assert device.wait(1) is False, "cleared by the driver"


def test_a_stale_event_does_not_end_a_wait(board):
    with board.open(clock_hz=1000) as device:
        while device.read_register(ADDRESS["STATUS"]) & 1:
            time.sleep(0.001)
        os.write(board._master, b"\1\0\0\0")
        begin = time.monotonic()
        assert device.wait(200) is False
        assert time.monotonic() - begin >= 0.19
        assert not select.select([device._interrupt._descriptor], [], [], 0)[0], "taken"


def test_the_window_can_be_locked_to_the_buffer_and_programs_still_run(board):
    with board.open() as device:
        device.lock_window()
        limit = device.memory_base + device.memory_size
        device.write_register(ADDRESS["WINDOW_LIMIT"], 0)
        assert device.read_register(ADDRESS["WINDOW_LIMIT"]) == limit
        device.write_memory(device.memory_base, isa.encode(isa.Opcode.END))
        Driver(device).run(device.memory_base, 1, (device.memory_base, device.memory_base + 4096))
        with pytest.raises(DeviceError, match="memory window of uio:eftrain is locked"):
            Driver(device).run(device.memory_base, 1, (device.memory_base, limit + 4096))


def test_a_window_that_is_locked_to_another_range_is_reported(board):
    with board.open() as device:
        device.write_register(ADDRESS["WINDOW_LIMIT"], 4096)
        device.write_register(ADDRESS["CONTROL"], 4)
        with pytest.raises(DeviceError, match="locked to another range; load the bitstream again"):
            device.lock_window()
        with pytest.raises(DeviceError, match="memory window of uio:eftrain is locked"):
            train(device)


def test_a_second_process_is_kept_out(board):
    with board.open(), pytest.raises(DeviceError, match="used by another process"):
        board.open()
    board.open().close()


@pytest.mark.parametrize(("change", "message"), [
    (lambda root: (root / "sys/class/uio/uio1/name").write_text("other\n"),
     r"no UIO device named 'eftrain' .*found: axi-pmon, other.*modprobe uio_pdrv_genirq"),
    (lambda root: (root / "dev/uio1").unlink(), r"There is no .*/dev/uio1; load the kernel module"),
    (lambda root: (root / ATTRIBUTES).rename(root / "gone"),
     r"no DMA buffer under .*u-dma-buf module.* CMA, 128 MiB\."),
    (lambda root: (root / "dev/udmabuf-eftrain").unlink(), r"There is no .*/dev/udmabuf-eftrain"),
    (lambda root: write(root / ATTRIBUTES / "phys_addr", "0x10000800\n"), "whole pages of 4096"),
    (lambda root: write(root / ATTRIBUTES / "phys_addr", "0x800000000\n"), "below 4 GiB only"),
    (lambda root: write(root / ATTRIBUTES / "phys_addr", "0xffc00000\n"), "below 4 GiB only"),
    (lambda root: write(root / ATTRIBUTES / "phys_addr", "nothing"), "holds no number"),
    (lambda root: write(root / ATTRIBUTES / "size", str(8 << 20)), "cannot be mapped"),
])  # fmt: skip
def test_what_is_missing_or_wrong_is_said_in_one_sentence(board, change, message):
    change(board.root)
    for _ in range(2):  # A failed attempt leaves nothing open or locked.
        with pytest.raises(DeviceError, match=message) as caught:
            board.open()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("node", "rule"), [
    ("dev/uio1", 'SUBSYSTEM=="uio"'), ("dev/udmabuf-eftrain", 'SUBSYSTEM=="u-dma-buf"'),
])  # fmt: skip
def test_missing_permission_names_owner_rule_and_group(board, node, rule, monkeypatch):
    path = board.root / node
    real = os.open

    def refuse(name, *options):  # Root may open everything, so the kernel's answer is made up.
        if str(name) == str(path):
            raise PermissionError(13, "Permission denied")
        return real(name, *options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DeviceError) as caught:
        board.open()
    for part in (str(path), "mode 0", rule, "99-eftrain.rules", "join the group eftrain"):
        assert part in str(caught.value)


def test_sync_attributes_that_may_not_be_written_are_reported(board, monkeypatch):
    with board.open() as device:
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", refuse_open)
            with pytest.raises(DeviceError) as caught:
                device.write_memory(device.memory_base, b"1")
        for part in ("sync_for_device cannot be written", "RUN+=", "join the group eftrain"):
            assert part in str(caught.value)
        (board.root / ATTRIBUTES / "sync_for_device").unlink()
        (board.root / ATTRIBUTES / "sync_for_device").mkdir()
        with pytest.raises(DeviceError, match="sync_for_device refused"):
            device.write_memory(device.memory_base, b"1")


def refuse_open(path, *options, **named):
    raise PermissionError(13, "Permission denied")


def test_an_uncached_buffer_is_opened_with_o_sync_and_write_combining(tmp_path):
    attributes = tmp_path / "sys/class/udmabuf/udmabuf0"  # The class of drivers before 3.0.
    write(attributes / "phys_addr", "0x1e900000")
    write(attributes / "size", "8192")
    write(tmp_path / "dev/udmabuf0", "\0" * 8192)
    for cached, kept in ((False, ["sync_mode"]), (True, [])):
        buffer = DmaBuffer(tmp_path, cached=cached)
        flags = fcntl.fcntl(buffer._descriptor, fcntl.F_GETFL)
        assert bool(flags & os.O_SYNC) is not cached
        assert [path.name for path in attributes.glob("sync_mode")] == kept
        buffer.write(10, b"abc")
        assert (attributes / "sync_for_device").read_text() == "0x0000000000000041"
        assert buffer.read(9, 5) == b"\0abc\0"
        assert (tmp_path / "dev/udmabuf0").read_bytes()[10:13] == b"abc"
        buffer.close()
        (tmp_path / "dev/udmabuf0").write_bytes(bytes(8192))
        (attributes / "sync_mode").unlink(missing_ok=True)
    assert (buffer.address, buffer.size) == (0x1E900000, 8192)


def test_the_register_file_maps_a_real_file(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:
        registers = RegisterFile(file.fileno())
        registers.write(0x5C, 0xFEDCBA98)
        registers.write(0x60, 1)
        assert registers.read(0x5C) == 0xFEDCBA98 and type(registers.read(0x5C)) is int
        assert path.read_bytes()[0x5C:0x64] == bytes.fromhex("98badcfe01000000")
        registers.close()
        with pytest.raises(DeviceError, match="cannot be mapped"):
            RegisterFile(file.fileno(), 8192)


def test_the_interrupt_unmasks_before_it_sleeps():
    host, kernel = socket.socketpair()
    interrupt = UioInterrupt(os.dup(host.fileno()))
    assert interrupt.wait(0) is False
    assert kernel.recv(64) == b"\1\0\0\0"
    kernel.send(b"\5\0\0\0")
    assert interrupt.wait(10) is True
    assert kernel.recv(64) == b"\1\0\0\0"
    assert interrupt.wait(0) is False, "the event was taken"
    kernel.close()
    with pytest.raises(DeviceError, match=r"cannot be used \(.*give its node interrupts"):
        interrupt.wait(0)
    interrupt.close()
    host.close()


def test_nodes_are_found_by_their_name(board):
    assert find_uio(board.root) == board.root / "dev/uio1"
    write(board.root / "sys/class/uio/uio0/name", "eftrain@a0000000\n")
    assert find_uio(board.root) == board.root / "dev/uio0", "older kernels keep the unit address"
    assert (cma_total(board.root), cma_free(board.root)) == (128 << 20, 9 << 10)
    assert stat.S_ISCHR(os.stat(board.root / "dev/uio1").st_mode)


@pytest.mark.parametrize(("address", "size", "message"), [
    (0x1000, 4096, None), (0xFFFF_E000, 4096, None), (0xFFFF_F000, 4096, "4 GiB"),
    (0x1_0000_0000, 4096, "4 GiB"), (0x1000, 100, "whole pages"), (0x1010, 8192, "whole pages"),
])  # fmt: skip
def test_buffers_the_core_cannot_use_are_refused(address, size, message):
    if message is None:
        check_buffer("The buffer", address, size)
        return
    with pytest.raises(DeviceError, match=message):
        check_buffer("The buffer", address, size)
