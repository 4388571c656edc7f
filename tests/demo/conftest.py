"""The command on a device of the test's own."""

import dataclasses

import pytest

from eftrain.devices.open import TARGETS


@pytest.fixture
def sim_opens(monkeypatch):
    """Call it with a function of (config, on_status): the device ``sim`` is then what it gives."""

    def replace(open_device):
        monkeypatch.setitem(TARGETS, "sim", dataclasses.replace(TARGETS["sim"], open=open_device))

    return replace
