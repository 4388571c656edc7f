"""Order of the test run, and the command on a device of the test's own."""

import dataclasses

import pytest

from eftrain.devices.open import TARGETS

LONGEST = ("test_verilog.py", "test_personalize_rtl.py")
"""Files of several minutes, begun first, so that no worker waits at the end."""


def pytest_collection_modifyitems(items):
    def rank(item):
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest.fixture
def sim_opens(monkeypatch):
    """Call it with a function of (config, on_status): the device ``sim`` is then what it gives."""

    def replace(open_device):
        monkeypatch.setitem(TARGETS, "sim", dataclasses.replace(TARGETS["sim"], open=open_device))

    return replace
