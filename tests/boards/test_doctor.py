"""eftrain doctor: what it finds on a device that works, and on one that does not."""

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from fake_board import CorruptDevice, write

from eftrain import doctor, selftest
from eftrain.artefact import Artefact
from eftrain.commands import doctor as command
from eftrain.devices.base import DeviceError
from eftrain.doctor import examine, main, show
from eftrain.errors import UserError
from eftrain_hdl import isa

BUFFER = "sys/class/u-dma-buf/udmabuf-eftrain"
DEVICE_CHECKS = [
    "device", "bitstream", "clock", "interrupt", "memory", "stationary port", "stream port",
    "side port", "write port", "one layer",
]  # fmt: skip


def findings(checks):
    """Name to check; the last one where a name comes again."""
    return {check.name: check for check in checks}


@pytest.fixture
def look(board, artefact):
    """Examines the fake board; gives only what is not fine."""

    def doze(seconds):
        time.sleep(seconds / 10)

    def look(open_device=board.open, **options):
        options = {"artefact": artefact.folder, "root": board.root, "sleep": doze, **options}
        checks = list(examine("zcu102", open_device=open_device, **options))
        for check in checks:
            assert check.text and "\n" not in check.text
            if check.failed:
                assert check.text.endswith("."), "a sentence with what to do"
        return {check.name: (check.status, check.text) for check in checks if check.failed}

    return look


@pytest.mark.parametrize("number_format", ["fp32", "bf16"])
def test_the_simulated_device_passes_all_that_applies(number_format, capsys, model):
    assert command.command(device="sim", array="4x4", format=number_format) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != "["]
    status = {line[9:30].strip(): line[:9].strip() for line in lines[:-1]}
    assert list(status) == ["artefact", *DEVICE_CHECKS]
    assert {name for name, value in status.items() if value == "-"} == {
        "artefact", "bitstream", "clock", "interrupt",
    }  # fmt: skip
    assert set(status.values()) == {"ok", "-"} and lines[-1] == "Everything is fine."


def test_the_simulated_device_is_compared_with_an_artefact(artefact, tmp_path, monkeypatch, core):
    found = findings(examine("sim", artefact=artefact.folder, open_device=lambda: core))
    assert found["bitstream"].status == "ok" and "same array" in found["bitstream"].text


def test_a_board_that_is_fine(board, artefact, folder):
    checks = list(examine("zcu102", artefact=folder, root=board.root, open_device=board.open))
    assert [check.name for check in checks] == [
        "artefact", "registers", "buffer", "permissions", *DEVICE_CHECKS,
    ]  # fmt: skip
    assert {check.status for check in checks} == {"ok"}
    assert "CMA 128 MiB" in findings(checks)["buffer"].text
    for port in selftest.PORTS:
        assert "bytes, equal" in findings(checks)[f"{port} port"].text


def test_missing_nodes_are_listed_before_the_device_is_tried(look, board):
    shutil.rmtree(board.root / "sys")
    found = look()
    assert {name: status for name, (status, _) in found.items()} == {
        "registers": "missing", "buffer": "missing",
    }  # fmt: skip
    assert "load the u-dma-buf module" in found["buffer"][1]
    assert "CMA 128 MiB, 0 MiB free: boot with cma=512M" in found["buffer"][1]


def test_a_missing_node_file_and_no_cma(look, board):
    (board.root / "dev/uio1").unlink()
    (board.root / "proc/meminfo").unlink()
    shutil.rmtree(board.root / BUFFER)
    found = look()
    assert found["registers"][0] == "missing" and "dev/uio1" in found["registers"][1]
    assert "the kernel has no CMA: boot with cma=512M" in found["buffer"][1]


@pytest.mark.parametrize(("attribute", "text", "message"), [
    ("size", "8192", r"the run needs 0\.1 MiB: enlarge its size in the overlay, and cma="),
    ("phys_addr", "0x7ff000000", "below 4 GiB"),
    ("phys_addr", "0x1e900010", "whole pages"),
])  # fmt: skip
def test_a_buffer_that_does_not_do(look, board, folder, attribute, text, message):
    write(board.root / BUFFER / attribute, text)
    status, sentence = look(artefact=folder)["buffer"]
    assert status == "wrong" and re.search(message, sentence)


def test_missing_permissions_name_rule_and_group(look, board, monkeypatch):
    refused = {str(board.root / "dev/uio1"), str(board.root / BUFFER / "sync_for_cpu")}
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in refused)
    status, sentence = look()["permissions"]
    assert status == "wrong" and "sync_for_cpu" in sentence
    # A rule's GROUP and MODE act on the node alone.
    assert 'SUBSYSTEM=="u-dma-buf", RUN+="/bin/chmod 0666 /sys%p/sync_for_cpu' in sentence
    assert "join the group eftrain" in sentence


def test_another_bitstream_is_found(look, board):
    board.build += 1
    status, sentence = look()["bitstream"]
    assert status == "wrong" and "holds another bitstream" in sentence


def test_another_core_is_found(look, artefact):
    buffers = {**artefact.buffers, "max_classes": 64}
    Artefact(**{**artefact.as_dict(), "buffers": buffers}).write(artefact.folder)
    assert "planned for max_classes 64" in look()["bitstream"][1]


@pytest.mark.parametrize(("register", "value", "message"), [
    ("ID", 0, "no eftrain core"), ("ISA_VERSION", 1, "ISA version 1 and this package speaks"),
])  # fmt: skip
def test_what_is_no_core_of_this_version_is_found(look, board, register, value, message):
    load = board.load
    address = isa.REGISTER[register].address
    board.load = lambda a: value if a == address else load(a)
    assert list(look()) == ["device"] and message in look()["device"][1]


def test_an_interrupt_that_does_not_arrive_is_found(look, board, monkeypatch):
    monkeypatch.setattr(board, "interrupt_is_wired", False)
    found = look()
    assert list(found) == ["interrupt"] and "does not arrive" in found["interrupt"][1]


@pytest.mark.parametrize(("factor", "fine"), [(1.009, True), (0.991, True), (1.011, False),
                                              (0.5, False)])  # fmt: skip
def test_the_clock_is_compared_within_one_percent(look, board, factor, fine):
    board.clock_hz = int(board.clock_hz * factor)
    found = look()
    assert ("clock" not in found) is fine
    if not fine:
        assert "MHz instead of 100.00; set the clock" in found["clock"][1]


def test_the_clock_is_measured_across_an_overflow_and_slow_reads():
    """A line that takes 30 ms each way, and a counter near its end."""
    now = [1000.0]

    class Slow:
        def read_register(self, address):
            now[0] += 0.03
            value = int(now[0] * 50e6 + (1 << 32) - 50_000_000_000 - 1000)
            now[0] += 0.03
            return value & 0xFFFF_FFFF

    def sleep(seconds):
        now[0] += seconds

    hertz = selftest.measure_clock(Slow(), lambda: now[0], sleep)
    assert hertz == pytest.approx(50e6, rel=1e-6)
    assert now[0] > 1010, "long enough for the reads not to matter"


class Recorder:
    """Notes which memory the host writes and reads; can flip a bit in what one read gives."""

    def __init__(self, device, damaged=None):
        self._device, self._damaged, self.writes, self.reads = device, damaged, [], []

    def __getattr__(self, name):
        return getattr(self._device, name)

    def write_memory(self, address, data):
        self.writes.append((address, len(data)))
        self._device.write_memory(address, data)

    def read_memory(self, address, size):
        self.reads.append((address, size))
        data = bytearray(self._device.read_memory(address, size))
        data[3] ^= 0x40 if len(self.reads) - 1 == self._damaged else 0
        return bytes(data)


@pytest.mark.parametrize("port", selftest.PORTS)
def test_a_port_to_which_memory_does_not_answer_is_named(core, port):
    recorder = Recorder(core)
    selftest.check_port(recorder, port)
    messages = []
    for address, _ in recorder.reads if port == "write" else recorder.writes:
        core.set_fault(port, address, "SLVERR")
        try:
            selftest.check_port(core, port)
        except DeviceError as error:
            messages.append(str(error))
    assert any("BUS_RESPONSE" in message for message in messages), messages


@pytest.mark.parametrize("port", selftest.PORTS)
def test_one_wrong_bit_that_came_through_a_port_is_found(core, port):
    recorder = Recorder(core)
    selftest.check_port(recorder, port)
    for part, (address, size) in (("first", recorder.reads[0]), ("last", recorder.reads[-1])):
        corrupt = CorruptDevice(core, address + size // 2 + 3, bit=6)
        message = rf"1 of \d+ values are wrong through the {port} port in the {part} 1024 KiB"
        with pytest.raises(DeviceError, match=message):
            selftest.check_port(corrupt, port)


def test_a_port_that_moves_nothing_is_found(core):
    """A counter that stands still: the data came from elsewhere."""
    counter = isa.REGISTER["BEATS_SIDE"].address
    recorder = Recorder(core)
    recorder.read_register = lambda a: 0 if a == counter else core.read_register(a)
    with pytest.raises(DeviceError, match="Nothing went through the side port"):
        selftest.check_port(recorder, "side")


def test_a_failing_port_does_not_keep_the_next_checks_from_running(look, board):
    recorder = Recorder(board.core)
    with board._lock:
        selftest.check_port(recorder, "stream")
    board.core.set_fault("stream", recorder.writes[0][0], "SLVERR")
    found = look()
    assert "BUS_RESPONSE" in found["stream port"][1] and "memory" not in found


def test_stuck_data_lines_and_crossed_address_lines_are_found(core):
    base = core.memory_base
    with pytest.raises(DeviceError, match=r"0x1e900123 reads .* \(walking bits, 1 wrong"):
        selftest.walk_memory(CorruptDevice(core, base + 0x123))
    with pytest.raises(DeviceError, match=r"0x1ea00004 .*address lines"):
        selftest.walk_memory(CorruptDevice(core, base + (1 << 20) + 4))
    for line in range(4, 22):
        with pytest.raises(DeviceError, match="address lines|walking bits"):
            selftest.walk_memory(Aliased(core, 1 << line))


class Aliased:
    """Memory that ignores one line of the address."""

    def __init__(self, device, line):
        self._device, self._line = device, line
        self.memory_base, self.memory_size = device.memory_base, device.memory_size

    def _places(self, address, size):
        for place in range(address, address + size, 4):
            yield (place - self.memory_base & ~self._line) + self.memory_base

    def write_memory(self, address, data):
        data = np.asarray(data).tobytes()
        for index, place in enumerate(self._places(address, len(data))):
            self._device.write_memory(place, data[4 * index : 4 * index + 4])

    def read_memory(self, address, size):
        return b"".join(self._device.read_memory(p, 4) for p in self._places(address, size))


def test_one_wrong_weight_of_a_layer_is_found(core):
    assert "equal to numpy" in selftest.check_layer(core)
    recorder = Recorder(core)
    selftest.check_layer(recorder)
    found = set()
    for read in range(len(recorder.reads)):
        with pytest.raises(DeviceError, match=r"1 of \d+ values are wrong in the ") as caught:
            selftest.check_layer(Recorder(core, damaged=read))
        found.add(str(caught.value).partition(" in the ")[2].partition(" of a 3x3")[0])
    assert found == {"forward", "input gradient", "weight gradient", "bias gradient"}


def test_the_programs_run_on_cores_without_batch_norm(core):
    """Small parts have none, and refuse its flags and opcode."""
    programs = []

    def note(address, data):
        if len(data) % isa.DESCRIPTOR_BYTES == 0 and data[0] in {*map(int, isa.Opcode)}:
            programs.append(bytes(data))
        core.write_memory(address, data)

    recorder = Recorder(core)
    recorder.write_memory = note
    for port in selftest.PORTS:
        selftest.check_port(recorder, port)
    selftest.check_layer(recorder)
    found = set()
    for program in programs:
        size = isa.DESCRIPTOR_BYTES
        last, _, _ = isa.decode(program[-size:])
        if last != isa.Opcode.END:
            continue
        for place in range(0, len(program), size):
            opcode, flags, _ = isa.decode(program[place : place + size])
            assert not flags & set(isa.BATCH_NORM_FLAGS) and opcode != isa.Opcode.NORM
            found.add(opcode.name)
    assert found >= {"CONV_FP", "CONV_BP", "CONV_WU", "PASS", "END"}


def test_an_artefact_that_is_damaged_is_one_finding_of_many(look, artefact):
    (artefact.folder / "eftrain.bit").write_bytes(b"x")
    found = look()
    assert list(found) == ["artefact"] and "other SHA-256" in found["artefact"][1]


def test_exit_codes_and_last_lines(board, artefact, capsys, tmp_path):
    lines = []
    checks = [doctor.Check("a", "ok", "b"), doctor.Check("c", "missing", "d; do e.")]
    assert show(checks, lines.append) == 1
    assert lines == ["ok       a                    b", "missing  c                    d; do e.",
                     "1 of the checks failed."]  # fmt: skip
    arguments = ["--device", "uio", "--artefact", str(artefact.folder), "--root", str(board.root)]
    assert main(arguments, open_device=board.open) == 0
    assert main(["--root", str(tmp_path / "none")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    (artefact.folder / "config.json").write_text(
        (artefact.folder / "config.json").read_text().replace("zcu102", "ulx3s")
    )
    assert main(["--artefact", str(artefact.folder)]) == 2
    assert "name the port" in capsys.readouterr().err
    assert main(["--device", "toaster"]) == 2
    assert "'toaster' is unknown" in capsys.readouterr().err
    with pytest.raises(UserError, match="is unknown"):
        list(examine("toaster"))


def test_where_pynq_is_installed_no_nodes_are_asked_for(board, monkeypatch):
    monkeypatch.setattr("eftrain.devices.pynq.available", lambda: True)
    found = findings(examine("zcu102", root=Path("/none"), open_device=board.open))
    assert found["driver nodes"].status == "-" and found["device"].status == "ok"
