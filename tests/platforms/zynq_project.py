"""The projects that the Zynq tests look at: real tops and scripts around a small core."""

from dataclasses import replace

from eftrain.boards import find
from eftrain_hdl.config import CoreConfig
from platforms import zynq

BOARDS = ("zcu102", "pynq-z1")

SMALL = CoreConfig(
    rows=4, lanes=4, format="bf16", stream_depth=512, stationary_depth=512, accumulator_depth=512,
    max_classes=64,
)  # fmt: skip
"""The core of ``tests/verilog/conftest.py``, whose Verilog is cached."""

CORE_TEXT = "module eftrain_4x4_bf16();\nendmodule\n"


def write(name, folder, **options):
    """Write the project of a board; ``generate`` is replaced by the caller where it takes long."""
    steps = []
    artefact = zynq.write_project(
        find(name), SMALL, folder, on_step=lambda *step: steps.append(step), **options
    )
    return replace(artefact, folder=folder), steps
