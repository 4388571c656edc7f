"""The harness, its memory model and the model cache, tried on a stand-in for the core.

``stand_in.v`` has the ports of a core; it copies memory through them and measures what it sees.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sim.build
import sim.model_cache
from eftrain.devices import DeviceError
from eftrain.devices.sim import SimDevice
from eftrain_hdl.config import CoreConfig
from sim.build import ModelBuildError, build_model, build_shared_object
from sim.toolchain import ToolchainError

VERILOG = (Path(__file__).parent / "stand_in.v").read_text()
BASE = 0x2000_0000
SIZE = 16 << 20
TARGET = BASE + (8 << 20)
SEED = 20220228

ID, SCRATCH, SOURCE, DESTINATION, BURSTS, BEATS, MODE, START, STATUS = range(0, 0x24, 4)
LATENCY, READ_CYCLES, MOST_OPEN, LONGEST_GAP, WRITE_LATENCY, BEATS_TAKEN = range(0x24, 0x3C, 4)
READ_ONLY, NEVER_READY = 1 << 2, 1 << 3
PORTS = {"stationary": 0, "stream": 1, "side": 2}
REFRESH_PERIOD, REFRESH_CYCLES = 780, 26


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The stand-in, built once; for the whole module without optimisation, to build it sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFTRAIN_CACHE", str(tmp_path_factory.mktemp("models")))
        patch.setattr(sim.build, "_FAST", "-O0")
        yield build_shared_object(VERILOG, "stand_in")


@pytest.fixture
def device(model):
    with SimDevice(shared_object=model, memory_base=BASE, memory_size=SIZE) as device:
        yield device


@pytest.fixture
def cache(model, monkeypatch):
    """The folder that holds the stand-in's model, in use as the cache."""
    monkeypatch.setenv("EFTRAIN_CACHE", str(model.parent))
    return model.parent


def noise(size):
    return np.random.default_rng(SEED).integers(0, 256, size, dtype=np.uint8)


def start(device, *, bursts, beats, mode=0, source=BASE, target=TARGET):
    device.write_register(SOURCE, source)
    device.write_register(DESTINATION, target)
    device.write_register(BURSTS, bursts)
    device.write_register(BEATS, beats)
    device.write_register(MODE, mode)
    device.write_register(START, 1)


def run(device, **options):
    start(device, **options)
    assert device.wait(1_000_000)


class TestRegisters:
    def test_access(self, device):
        assert device.read_register(ID) == 0x5354414E
        assert device.read_register(SCRATCH) == 0
        device.write_register(SCRATCH, 0xDEADBEEF)
        assert device.read_register(SCRATCH) == 0xDEADBEEF

    def test_access_with_stalls(self, device):
        device.set_stalls(SEED, 0.7)
        for value in range(100):
            device.write_register(SCRATCH, value)
            assert device.read_register(SCRATCH) == value

    def test_refused(self, device):
        with pytest.raises(DeviceError, match=r"SLVERR to the read of register 0x800"):
            device.read_register(0x800)
        with pytest.raises(DeviceError, match=r"SLVERR to the write of register 0x804"):
            device.write_register(0x804, 1)
        assert device.read_register(ID) == 0x5354414E

    def test_no_answer(self, device):
        with pytest.raises(DeviceError, match=r"no answer to a read of register 0xc00"):
            device.read_register(0xC00)

    def test_answer_too_early(self, device):
        device.write_register(MODE, 10 << 4)
        # Without stalls address and data arrive together, and the answer is not early.
        device.set_stalls(SEED, 0.5)
        with pytest.raises(DeviceError, match=r"bvalid is high before address and data"):
            for value in range(20):
                device.write_register(SCRATCH, value)

    def test_reset(self, device):
        device.write_register(SCRATCH, 1)
        device.write_memory(BASE, b"kept")
        start(device, bursts=1000, beats=64)
        device.wait(100)
        device.reset()
        assert device.read_register(SCRATCH) == 0
        assert device.read_memory(BASE, 4) == b"kept"
        run(device, bursts=3, beats=4)


class TestMemory:
    @pytest.mark.parametrize("port", PORTS)
    def test_copy(self, device, port):
        bytes_ = noise(64 * 64 * 16)
        device.write_memory(BASE, bytes_)
        run(device, bursts=64, beats=64, mode=PORTS[port])
        assert device.read_memory(TARGET, len(bytes_)) == bytes_.tobytes()
        assert device.read_memory(TARGET + len(bytes_), 16) == bytes(16)
        assert device.read_memory(TARGET - 16, 16) == bytes(16)
        assert device.read_register(STATUS) == 0

    @pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
    def test_copy_with_stalls(self, device, probability):
        bytes_ = noise(100 * 16 * 16)
        device.write_memory(BASE, bytes_)
        device.set_stalls(SEED, probability)
        run(device, bursts=100, beats=16)
        assert device.read_memory(TARGET, len(bytes_)) == bytes_.tobytes()

    def test_byte_strobes(self, device):
        device.write_memory(BASE, bytes(range(1, 17)))
        device.write_memory(TARGET, b"\xaa" * 16)
        run(device, bursts=1, beats=1, mode=9 << 4)
        expected = b"\x01" + b"\xaa" * 3 + bytes(range(5, 9)) + b"\xaa" * 8
        assert device.read_memory(TARGET, 16) == expected

    def test_write_takes_effect_with_its_response(self, device):
        device.write_memory(BASE, b"new!" * 4)
        start(device, bursts=1, beats=1)
        while device.read_register(BEATS_TAKEN) == 0:
            pass
        assert device.read_memory(TARGET, 4) == bytes(4)
        assert device.wait(1000)
        assert device.read_memory(TARGET, 4) == b"new!"

    def test_read_returns_what_memory_held_at_its_address(self, device):
        start(device, bursts=1, beats=1)
        device.wait(20)  # The address is accepted, the beat not yet due.
        device.write_memory(BASE, b"late" * 4)
        assert device.wait(1000)
        assert device.read_memory(TARGET, 4) == bytes(4)

    def test_arrays(self, device):
        array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        device.write_array(BASE, array.transpose(2, 0, 1))
        back = device.read_array(BASE, (4, 2, 3))
        assert np.array_equal(back, array.transpose(2, 0, 1))
        back[0] = 1

    def test_outside(self, device):
        for address in (BASE - 1, BASE + SIZE - 15):
            with pytest.raises(DeviceError, match=r"16 bytes at 0x\w+ are not in the memory"):
                device.read_memory(address, 16)

    def test_size_is_lazy(self, model):
        with SimDevice(shared_object=model, memory_base=0, memory_size=1 << 32) as device:
            device.write_memory((1 << 32) - 1, b"!")
            assert device.read_memory((1 << 32) - 1, 1) == b"!"

    def test_bad_sizes(self, model):
        with pytest.raises(ValueError, match=r"must be multiples of 16"):
            SimDevice(shared_object=model, memory_size=100)
        with pytest.raises(ValueError, match=r"does not end below 2\*\*32"):
            SimDevice(shared_object=model, memory_base=0xFFFF_F000, memory_size=8192)


class TestTiming:
    @pytest.mark.parametrize("port", PORTS)
    def test_read_latency(self, device, port):
        run(device, bursts=1, beats=4, mode=PORTS[port] | READ_ONLY)
        assert device.read_register(LATENCY) == 64

    def test_write_latency(self, device):
        run(device, bursts=1, beats=4)
        assert device.read_register(WRITE_LATENCY) == 32

    @pytest.mark.parametrize("beats", [4, 16, 256])
    @pytest.mark.parametrize("mode", [0, READ_ONLY])
    def test_a_beat_a_cycle_but_for_refreshes(self, device, beats, mode):
        count = 65536
        run(device, bursts=count // beats, beats=beats, mode=mode)
        cycles = device.read_register(READ_CYCLES)
        working = REFRESH_PERIOD - REFRESH_CYCLES
        assert device.read_register(LONGEST_GAP) == REFRESH_CYCLES
        assert abs((cycles - count) / REFRESH_CYCLES - count / working) <= 1
        assert (cycles - count) % REFRESH_CYCLES == 0

    def test_outstanding_limit_of_single_beats(self, device):
        run(device, bursts=2000, beats=1, mode=READ_ONLY)
        assert device.read_register(MOST_OPEN) == 32
        # 32 beats for each round trip: 64 cycles, and one until the request is on the bus again.
        cycles = device.read_register(READ_CYCLES)
        lost = cycles // REFRESH_PERIOD * REFRESH_CYCLES
        assert 2000 / 32 * 63 <= cycles <= 2000 / 32 * 66 + lost + REFRESH_CYCLES

    def test_outstanding_limit_without_beats(self, device):
        start(device, bursts=100, beats=1, mode=READ_ONLY | NEVER_READY)
        assert not device.wait(2000)
        assert device.read_register(MOST_OPEN) == 32
        assert device.read_register(BEATS_TAKEN) == 0

    def test_wait_ends_at_interrupt_and_limit(self, device):
        before = device.cycles
        assert not device.wait(12345)
        assert device.cycles == before + 12345
        run(device, bursts=1, beats=1)
        before = device.cycles
        assert device.wait(10)
        assert device.cycles == before

    def test_same_every_time(self, model):
        seen = set()
        for _ in range(2):
            with SimDevice(shared_object=model, memory_base=BASE, memory_size=SIZE) as device:
                device.write_memory(BASE, noise(4096))
                device.set_stalls(SEED, 0.3)
                run(device, bursts=50, beats=5)
                seen.add((device.cycles, device.read_memory(TARGET, 4096)))
        assert len(seen) == 1

    def test_two_at_once(self, model):
        with (
            SimDevice(shared_object=model, memory_base=BASE, memory_size=SIZE) as one,
            SimDevice(shared_object=model, memory_base=BASE, memory_size=SIZE) as two,
        ):
            one.write_memory(BASE, noise(1 << 16))
            for device in (one, two):
                start(device, bursts=64, beats=64)
            threads = [threading.Thread(target=d.wait, args=(100_000,)) for d in (one, two)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert one.cycles == two.cycles
            assert one.read_memory(TARGET, 1 << 16) == noise(1 << 16).tobytes()
            assert two.read_memory(TARGET, 1 << 16) == bytes(1 << 16)


class TestFaults:
    @pytest.mark.parametrize("port", PORTS)
    @pytest.mark.parametrize("response, code", [("SLVERR", 2), ("DECERR", 3)])
    def test_read(self, device, port, response, code):
        device.set_fault(port, BASE + 0x234, response)
        run(device, bursts=8, beats=16, mode=PORTS[port])
        assert device.read_register(STATUS) == code
        # That one beat is poisoned, its neighbours are not.
        assert device.read_memory(TARGET + 0x220, 48) == bytes(16) + b"\xff" * 16 + bytes(16)
        device.set_fault(port, BASE + 0x234, "OKAY")
        run(device, bursts=8, beats=16, mode=PORTS[port])
        assert device.read_register(STATUS) == 0

    def test_read_on_another_port(self, device):
        device.set_fault("side", BASE)
        run(device, bursts=8, beats=16, mode=PORTS["stream"])
        assert device.read_register(STATUS) == 0

    def test_write(self, device):
        device.write_memory(BASE, b"x" * 1024)
        device.set_fault("write", TARGET + 0x104, "DECERR")
        run(device, bursts=4, beats=16)
        assert device.read_register(STATUS) == 3 << 2
        expected = b"x" * 0x100 + bytes(16) + b"x" * (1024 - 0x110)
        assert device.read_memory(TARGET, 1024) == expected

    def test_outside_memory(self, device):
        run(device, bursts=1, beats=2, source=BASE + SIZE, target=TARGET)
        assert device.read_register(STATUS) == 3
        run(device, bursts=1, beats=1, source=BASE, target=BASE - 16)
        assert device.read_register(STATUS) == 3 << 2
        run(device, bursts=1, beats=1, source=0, target=0)
        assert device.read_register(STATUS) == 3 << 2 | 3

    def test_burst_that_leaves_memory(self, model):
        with SimDevice(shared_object=model, memory_base=BASE, memory_size=0x120) as device:
            device.write_memory(BASE, b"x" * 0x80)
            run(device, bursts=1, beats=4, source=BASE, target=BASE + 0x100)
            assert device.read_register(STATUS) == 3 << 2
            assert device.read_memory(BASE + 0x100, 32) == b"x" * 32
            run(device, bursts=1, beats=4, source=BASE + 0x100, target=BASE + 0x40)
            assert device.read_register(STATUS) == 3
            assert device.read_memory(BASE + 0x40, 64) == b"x" * 32 + b"\xff" * 32


class TestProtocol:
    @pytest.mark.parametrize(
        "options, text",
        [
            (dict(source=BASE + 0xFF0), "m_axi_stream: read burst of 2 beats at 0x20000ff0 cr"),
            (dict(target=TARGET + 0xFF0), "m_axi_write: write burst of 2 beats at .* crosses"),
            (dict(rule=1), "payload of channel ar changed while arvalid waited"),
            (dict(rule=2), "arvalid fell before arready was high"),
            (dict(rule=3), "read burst of 4-byte beats on a 16-byte bus"),
            (dict(rule=4), "read burst of type 0, not INCR"),
            (dict(rule=5, beats=4), "wlast is 1 on beat 2 of a burst of 4 at 0x20800000"),
            (dict(rule=6), "payload of channel w changed while wvalid waited"),
            (dict(rule=7), "read burst at misaligned address 0x20000004"),
            (dict(rule=8), "exclusive read burst"),
        ],
    )
    def test_violation(self, device, options, text):
        options = {"bursts": 100, "beats": 2, **options}
        # A busy memory makes valid wait for ready.
        device.set_stalls(SEED, 0.5)
        mode = PORTS["stream"] | options.pop("rule", 0) << 4
        with pytest.raises(DeviceError, match=r"broke a rule of its buses: cycle \d+, .*" + text):
            run(device, mode=mode, **options)
        # There is no way to go on by accident.
        with pytest.raises(DeviceError, match=text):
            device.read_register(ID)

    def test_last_burst_of_a_page_is_fine(self, device):
        run(device, bursts=1, beats=1, source=BASE + 0xFF0, target=TARGET + 0xFF0)
        run(device, bursts=1, beats=256, source=BASE + 0x1000, target=TARGET + 0x1000)

    def test_closed(self, model):
        device = SimDevice(shared_object=model)
        device.close()
        device.close()
        with pytest.raises(DeviceError, match=r"is closed"):
            device.wait(1)


class TestCache:
    def test_second_build_is_found(self, cache, model):
        lines = []
        before = sorted(cache.rglob("*"))
        assert build_shared_object(VERILOG, "stand_in", on_status=lines.append) == model
        assert lines == []
        assert sorted(cache.rglob("*")) == before

    def test_model_of_a_core_generates_its_verilog_once(self, cache, model, monkeypatch):
        config = CoreConfig.parse("4x4", "fp32")
        monkeypatch.setattr(CoreConfig, "name", "stand_in")
        monkeypatch.setattr(sim.build, "_generate_verilog", lambda config: VERILOG)
        lines = []
        assert build_model(config, on_status=lines.append) == model
        assert lines == ["[1/3] Generating the Verilog of stand_in."]

        def generate(config):
            raise AssertionError("The Verilog is known.")

        monkeypatch.setattr(sim.build, "_generate_verilog", generate)
        assert build_model(config, on_status=lines.append) == model
        assert len(lines) == 1
        with pytest.raises(AssertionError, match="is known"):
            build_model(CoreConfig.parse("8x8", "fp32"))
        # A truncated file is no reason to build something else.
        for path in (cache / "verilog").iterdir():
            path.write_text("module")
        with pytest.raises(AssertionError, match="is known"):
            build_model(config)

    def test_lock(self, cache):
        lines, order = [], []
        with sim.model_cache.locked(cache, "name", None):

            def enter():
                with sim.model_cache.locked(cache, "name", lines.append):
                    order.append("second")

            thread = threading.Thread(target=enter)
            thread.start()
            while not lines:
                time.sleep(0.01)
            order.append("first")
        thread.join()
        assert order == ["first", "second"]
        assert lines == ["Waiting for another build of the same model."]

    def test_two_processes_build_once(self, cache):
        # A design of its own, which no other test has built.
        script = (
            "import sys, sim.build\n"
            "sim.build._FAST = '-O0'\n"
            "text = sys.stdin.read() + '// built by two\\n'\n"
            "print(sim.build.build_shared_object(text, 'stand_in', on_status=print))\n"
        )
        builders = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            for _ in range(2)
        ]
        outputs = []
        threads = [
            threading.Thread(target=lambda b=b: outputs.append(b.communicate(VERILOG)[0]))
            for b in builders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one, two = (output.splitlines() for output in outputs)
        assert one[-1] == two[-1]
        assert sum("[3/3]" in line for line in one + two) == 1
        SimDevice(shared_object=one[-1]).close()
        assert not list(cache.glob("building-*"))

    def test_refused_verilog(self, cache):
        with pytest.raises(ModelBuildError, match=r"(?s)Verilator does not accept bad:.*Error"):
            build_shared_object("module bad(input a); assign b = ; endmodule", "bad")
        assert not list(cache.glob("building-*"))

    def test_wrong_ports(self, cache):
        with pytest.raises(
            ModelBuildError, match=r"(?s)does not accept harness.cpp of bad:.*m_axi"
        ):
            build_shared_object("module bad(input a); endmodule", "bad")

    def test_no_compiler(self, cache, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(ToolchainError, match=r"a C\+\+ compiler and make and perl, not found"):
            build_shared_object(VERILOG, "stand_in")
        with pytest.raises(ToolchainError, match=r"a C\+\+ compiler"):
            build_model(CoreConfig.parse("32x32", "bf16"))

    def test_wrong_compiler(self, cache, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(ToolchainError, match=r"CXX names, 'no-such-compiler', is not on PATH"):
            build_shared_object(VERILOG, "stand_in")

    def test_old_models_go(self, tmp_path):
        for age in range(30):
            path = tmp_path / f"{age}.so"
            path.touch()
            os.utime(path, (1e9 - age, 1e9 - age))
        for name, age in (("building-killed", 1e9), ("building-now", time.time())):
            (tmp_path / name).mkdir()
            os.utime(tmp_path / name, (age, age))
        sim.model_cache.delete_oldest(tmp_path)
        assert [path.name for path in tmp_path.glob("building-*")] == ["building-now"]
        assert sorted(int(path.stem) for path in tmp_path.glob("*.so")) == list(range(24))

    def test_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("EFTRAIN_CACHE", str(tmp_path))
        assert sim.model_cache.cache_folder() == tmp_path
        monkeypatch.delenv("EFTRAIN_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(sim.model_cache, "_HERE", tmp_path / "site-packages" / "sim")
        assert sim.model_cache.cache_folder() == tmp_path / "eftrain" / "models"
