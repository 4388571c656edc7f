"""cocotb testbench of the serial bridge: the host's own code, over faults, to foreign AXI models.

``test_bridge.py`` builds the top, a ``BridgeBench``, and runs this and ``tb_bridge_requests.py``.
"""

import cocotb
from bridge_bench import (
    BAUD,
    CLOCK_HZ,
    MEMORY_BASE,
    MEMORY_SIZE,
    Faults,
)
from bridge_system import Bench
from cocotb.task import bridge

from eftrain.devices.frames import Request
from eftrain_hdl.serial_protocol import MAX_PAYLOAD, Op


def check_random_accesses(bench, device, count, largest):
    """Random accesses against plain arrays; returns what was written to registers, in order."""
    rng, written = bench.rng, []
    registers = {}
    image = bytearray(bench.memory)
    for _ in range(count):
        kind = rng.randrange(5)
        register = 4 * rng.randrange(0x200)
        size = rng.randint(0, rng.choice((16, 64, largest)))
        offset = rng.randrange(MEMORY_SIZE - size + 1)
        address = MEMORY_BASE + offset
        if kind == 0:
            value = rng.getrandbits(32)
            device.write_register(register, value)
            registers[register] = value
            written.append((register, value.to_bytes(4, "little")))
        elif kind == 1:
            register = rng.choice([register, *registers])
            assert device.read_register(register) == registers.get(register, 0)
        elif kind == 2:
            data = rng.choice([rng.randbytes(size), b"\x7e\x7d" * (size // 2)])
            device.write_memory(address, data)
            image[offset : offset + len(data)] = data
        elif kind == 3:
            assert device.read_memory(address, size) == image[offset : offset + size]
        else:
            assert device.wait(rng.randrange(200)) is False
    assert bench.memory == image
    return written


@cocotb.test()
async def random_accesses(dut):
    """Without faults there are no retries, however the buses stall."""
    bench = await Bench(dut, rules=True).start()
    bench.stall()

    def run():
        device = bench.device()
        assert (device.memory_base, device.memory_size) == (MEMORY_BASE, MEMORY_SIZE)
        assert device.clock_hz == CLOCK_HZ
        written = check_random_accesses(bench, device, 30, 2000)
        assert bench.ctrl_write.written == written
        assert device.statistics.retries == device.statistics.stale == 0

    await bridge(run)()


@cocotb.test()
async def random_faults(dut):
    """Damaged, lost, doubled and late frames: nothing wrong is returned, nothing done twice."""
    bench = await Bench(dut).start()
    port = bench.port
    port.faults = Faults(bench.rng, 1 / 200)
    port.repeat, port.lost, port.late, port.late_ns = 0.1, 0.03, 0.1, 40_000

    def run():
        device = bench.device()
        written = check_random_accesses(bench, device, 200, 64)
        assert bench.ctrl_write.written == written
        # Also with frames of the largest size.
        port.faults.rate = 1 / 3000
        written += check_random_accesses(bench, device, 15, 3000)
        assert bench.ctrl_write.written == written
        found = device.statistics
        cocotb.log.info("%s, %d faults", found, port.faults.count)
        assert min(found.retries, found.timeouts, found.naks, found.damaged, found.stale) > 5

    await bridge(run)()


@cocotb.test()
async def garbage_between_frames(dut):
    bench = await Bench(dut).start()
    port = bench.port
    await port.send(bench.rng.randbytes(3000))

    def noisy(data, errors=False):
        return [*bench.rng.randbytes(20), *data] if errors else data

    def run():
        device = bench.device()
        port.faults = noisy
        assert bench.ctrl_write.written == check_random_accesses(bench, device, 40, 100)

    await bridge(run)()


@cocotb.test()
async def serial_line(dut):
    """Through the UARTs at four cycles a bit; also the rate at which memory is written and read."""
    bench = await Bench(dut, fast=False).start()
    data = bench.rng.randbytes(MAX_PAYLOAD)
    seconds = {}

    def run():
        device = bench.device(baud=BAUD)
        device.write_register(4, 0x7E7D7E7D)
        assert device.read_register(4) == 0x7E7D7E7D
        for name, access in {
            "write": lambda: device.write_memory(MEMORY_BASE, data),
            "read": lambda: device.read_memory(MEMORY_BASE, len(data)) == data,
        }.items():
            begin = bench.port.now()
            assert access() in (None, True)
            seconds[name] = bench.port.now() - begin
        assert device.statistics.retries == 0

    await bridge(run)()
    assert bench.memory[: len(data)] == data
    for name, duration in seconds.items():
        # The line alone would carry BAUD / 10 bytes a second.
        share = len(data) / duration / (BAUD / 10)
        cycles = duration * CLOCK_HZ
        cocotb.log.info("%s: %.3f of the line's rate, %.0f cycles a frame", name, share, cycles)
        assert share > 0.94


@cocotb.test()
async def session_cut_off(dut):
    """A host that dies in the middle of a frame or a wait does not disturb the next one."""
    bench = await Bench(dut).start()
    await bench.greet()
    written = []
    for cut in (1, 5, 12, 30):
        frame = Request(9, Op.WRITE_MEMORY, MEMORY_BASE, 64, b"x" * 64).encode()
        await bench.port.send(frame[:cut])

        def run():
            written.extend(check_random_accesses(bench, bench.device(), 5, 64))

        await bridge(run)()
    await bench.port.send(Request(9, Op.WAIT, 0xFFFF_FFFF).encode())
    await bridge(run)()
    assert bench.ctrl_write.written == written
