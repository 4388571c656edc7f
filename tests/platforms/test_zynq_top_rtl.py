# amaranth: UnusedElaboratable=no
"""A whole PYNQ-Z1 top trains a network: core, converters to AXI3, reset; the same bits as ``sim``.

cocotbext-axi's models of memory, 64 bits wide, are in the place of the processing system.
"""

import numpy as np
import pytest

from eftrain.devices.sim import SimDevice
from eftrain_hdl.config import CoreConfig
from platforms.processing_system import PS7, PS8
from sim.testbenches import tb_core
from sim.zynq_bench import bench_verilog, build_board_top


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("core") / "expected.npz"
    with SimDevice(CoreConfig.parse("4x4"), **tb_core.MEMORY) as device:
        np.savez(path, **tb_core.train(device))
    return path


def test_pynq_z1_top_trains_to_the_same_bits(expected):
    # After the harness, which leaves its Verilog in the cache.
    model = build_board_top("pynq-z1")
    for testcase in ("training", "training_with_stalls"):
        environment = {"EXPECTED": str(expected)}
        assert model.run("sim.testbenches.tb_core", testcase=testcase, environment=environment) == 1


@pytest.mark.parametrize("system", [PS7, PS8], ids=["PS7", "PS8"])
def test_bench_has_every_port(system):
    text = bench_verilog(system)
    for port in system.ports:
        if port.direction != "io" and not port.name.endswith("_wid") and port.name != "aresetn":
            assert f"top.ps.{port.name} " in text or f"top.ps.{port.name};" in text, port.name
