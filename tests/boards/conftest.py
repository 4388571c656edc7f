"""Simulated cores of 4x4 processing elements, with little memory, for the tests of boards."""

import numpy as np
import pytest
from fake_board import MEMORY_BASE, MEMORY_SIZE, FakeBoard

from eftrain.artefact import Artefact
from eftrain.board_folder import BuildSettings, prepare, write
from eftrain.devices.sim import SimDevice
from eftrain_hdl.config import CoreConfig
from sim.build import build_model

NETWORK = """
from eftrain import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU


def network():
    layers = [Conv2d(1, 6, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(54, 3)]
    return Graph((1, 6, 6), layers)
"""


@pytest.fixture(scope="session")
def model():
    return build_model(CoreConfig.parse("4x4", "fp32"), on_status=print)


@pytest.fixture
def core(model):
    size = {"memory_size": MEMORY_SIZE, "memory_base": MEMORY_BASE}
    with SimDevice(shared_object=model, **size) as device:
        yield device


@pytest.fixture
def artefact(tmp_path):
    """What `eftrain bitstream` leaves behind, of a core that is small enough to simulate."""
    folder = tmp_path / "bitstream"
    config = CoreConfig.parse("4x4", "fp32")
    artefact = Artefact.describe("zcu102", config, "module eftrain_4x4_fp32; endmodule")
    folder.mkdir()
    (folder / "eftrain.bit").write_bytes(b"the bitstream")
    (folder / "eftrain.hwh").write_text("<hardware handoff/>")
    (folder / "eftrain.dtso").write_text("/dts-v1/; /plugin/;")
    return artefact.with_bitstream(folder / "eftrain.bit").write(folder)


@pytest.fixture
def board(core, artefact, tmp_path):
    with FakeBoard(tmp_path / "root", core, artefact.build_word, artefact.clock_hz) as board:
        yield board


@pytest.fixture
def settings(artefact, tmp_path):
    """Settings of a small network with made-up pictures."""
    (tmp_path / "small.py").write_text(NETWORK)
    generator = np.random.default_rng(5)
    arrays = {}
    for suffix, count in (("", 20), ("_test", 7)):
        y = generator.integers(0, 3, count)
        x = generator.random((count, 1, 6, 6), np.float32)
        x[np.arange(count), 0, 2 * y] += 1
        arrays |= {f"x{suffix}": x, f"y{suffix}": y}
    np.savez(tmp_path / "data.npz", **arrays)
    return BuildSettings(
        network=str(tmp_path / "small.py"), board="zcu102", array="4x4", batch_size=8, epochs=3,
        data=tmp_path / "data.npz", bitstream=artefact.folder, output=tmp_path / "out",
    )  # fmt: skip


@pytest.fixture
def folder(settings):
    """What `eftrain build` writes."""
    write(prepare(settings), settings.folder)
    return settings.folder
