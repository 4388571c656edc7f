"""Device nodes and attributes of Linux, under a root that tests replace; errors in one sentence."""

import contextlib
import os
from pathlib import Path

from .base import DeviceError

__all__ = [
    "RULES",
    "RULES_FILE",
    "lock_node",
    "open_node",
    "owner",
    "permission_help",
    "read_attribute",
    "read_number",
    "write_attribute",
]

RULES_FILE = "99-eftrain.rules"

GROUP = "eftrain"

_NODE = f'GROUP="{GROUP}", MODE="0660"'
_ATTRIBUTES = 'RUN+="/bin/chmod 0666 /sys%p/sync_for_cpu /sys%p/sync_for_device"'
_SUBSYSTEMS = {"uio": 'SUBSYSTEM=="uio"', "udmabuf": 'SUBSYSTEM=="u-dma-buf"'}

RULES = f"""\
# Lets the group {GROUP} use the core: copy to /etc/udev/rules.d, then `udevadm control --reload`
# and `udevadm trigger`. The DMA buffer's sync attributes only do cache maintenance.
{_SUBSYSTEMS["uio"]}, {_NODE}
{_SUBSYSTEMS["udmabuf"]}, {_NODE}, {_ATTRIBUTES}
"""
"""Contents of a file for udev."""


def owner(path):
    """Who may use a node, for example ``root:root, mode 0600``."""
    status = os.stat(path)
    try:
        import grp
        import pwd

        names = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name
    except (ImportError, KeyError):
        names = status.st_uid, status.st_gid
    return f"{names[0]}:{names[1]}, mode {status.st_mode & 0o7777:04o}"


def permission_help(path):
    """What to do where a node or attribute may not be used."""
    path = str(path)
    kind = "udmabuf" if "udmabuf" in path or "u-dma-buf" in path else "uio"
    rule = _ATTRIBUTES if path.endswith(("sync_for_cpu", "sync_for_device")) else _NODE
    return (
        f"run as root, or put `{_SUBSYSTEMS[kind]}, {rule}` into /etc/udev/rules.d/{RULES_FILE} "
        f"and join the group {GROUP}"
    )


def open_node(path, flags=0):
    """File descriptor of a device node, for reading and writing.

    Raises
    ------
    DeviceError
        If it is not there, or may not be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        raise DeviceError(
            f"There is no {path}; load the kernel module that makes it, see docs/boards.md."
        ) from None
    except PermissionError:
        raise DeviceError(
            f"{path} cannot be opened: permission denied ({owner(path)}); {permission_help(path)}."
        ) from None
    except OSError as error:
        raise DeviceError(
            f"{path} cannot be opened ({(error.strerror or str(error)).lower()}); check that its "
            "driver is bound to the device."
        ) from None


def lock_node(descriptor, path):
    """Keep other processes of this package out; ``DeviceError`` if one is already there."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise DeviceError(
            f"{path} is used by another process; wait for it to end, or stop it."
        ) from None


def read_attribute(path):
    """Text of a file in sysfs without white space at its ends; None if it cannot be read."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return None


def read_number(path):
    """Integer of a file in sysfs, decimal or hexadecimal with ``0x``.

    Raises
    ------
    DeviceError
        If there is no such number.
    """
    text = read_attribute(path)
    try:
        return int(text, 0)
    except (TypeError, ValueError):
        raise DeviceError(
            f"{path} holds no number ({text!r}); check the version of the driver."
        ) from None


def _write_help(path):
    return permission_help(path) if "sync_" in str(path) else "run as root"


def write_attribute(path, text):
    """Write a file in sysfs or configfs; ``DeviceError`` if it is refused."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except PermissionError:
        raise DeviceError(
            f"{path} cannot be written: permission denied ({owner(path)}); {_write_help(path)}."
        ) from None
    except OSError as error:
        raise DeviceError(
            f"{path} refused {text!r} ({(error.strerror or str(error)).lower()}); `dmesg` says why."
        ) from None
