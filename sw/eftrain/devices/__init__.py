"""Devices that programs run on: boards and the simulator, all behind :class:`Device`."""

from .base import Device, DeviceError

__all__ = ["Device", "DeviceError"]
