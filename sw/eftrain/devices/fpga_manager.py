"""Loads a bitstream through the kernel's FPGA manager, alone or with a device-tree overlay.

Vivado's ``.bit`` is a header of tagged fields and the configuration words, most significant byte
first. The drivers of Zynq-7000 and ZynqMP take the words alone, least significant byte first
(``.bin``); ``zynq-fpga`` refuses a file in which it does not find the sync word 0xAA995566 that way
round. The file goes to ``/lib/firmware``, and its name either into
``/sys/class/fpga_manager/fpga0/firmware``, or into the overlay's ``firmware-name``.

An overlay also makes the nodes that the drivers of the core and its buffer bind to. Both interfaces
are those of AMD's kernels (linux-xlnx); PetaLinux, Kria's Ubuntu and PYNQ have them.
"""

import os
import subprocess
from pathlib import Path

from .base import DeviceError
from .linux import read_attribute, write_attribute

__all__ = [
    "bit_to_bin",
    "compile_overlay",
    "load_bitstream",
    "load_overlay",
    "remove_overlay",
]

SYNC_WORD = 0xAA995566
FULL = "0"
"""Flags of the FPGA manager for a bitstream of the whole part."""

_HEADER = bytes.fromhex("00090ff00ff00ff00ff0000001")
_FIELDS = b"abcd"  # Design, part, date and time: each a 16-bit length and a text.


def bit_to_bin(bit):
    """Contents of a ``.bit`` file as the FPGA manager takes them.

    A file that is already converted is returned as it is.

    Parameters
    ----------
    bit : bytes

    Returns
    -------
    bytes

    Raises
    ------
    DeviceError
        If it is no bitstream of a Zynq.
    """
    if not bit.startswith(_HEADER):
        if SYNC_WORD.to_bytes(4, "little") in bit[:4096]:
            return bit
        raise DeviceError("The bitstream is neither a .bit nor a converted .bin file of a Zynq.")
    data = _configuration(bit)
    if SYNC_WORD.to_bytes(4, "big") not in data[:4096] or len(data) % 4:
        raise DeviceError("The .bit file holds no configuration of a Zynq; copy it again.")
    swapped = bytearray(len(data))
    for byte in range(4):
        swapped[byte::4] = data[3 - byte :: 4]
    return bytes(swapped)


def _configuration(bit):
    """The words after the header's fields."""
    place = len(_HEADER)
    for tag in _FIELDS:
        if bit[place : place + 1] != bytes([tag]):
            raise DeviceError("The header of the .bit file is damaged; copy it again.")
        place += 3 + int.from_bytes(bit[place + 1 : place + 3], "big")
    size = int.from_bytes(bit[place + 1 : place + 5], "big")
    data = bit[place + 5 :]
    if bit[place : place + 1] != b"e" or len(data) != size:
        raise DeviceError(
            f"The .bit file is cut off: it holds {len(data)} of {size} bytes; copy it again."
        )
    return data


def load_bitstream(path, root="/"):
    """Configure the logic with a ``.bit`` or ``.bin`` file.

    Raises
    ------
    DeviceError
        If there is no FPGA manager, or it refuses the file.
    """
    manager = _manager(root)
    name = _install(path, root)
    write_attribute(manager / "flags", FULL)
    write_attribute(manager / "firmware", name)
    _check_state(manager, path)


def load_overlay(overlay, bitstream=None, root="/", name="eftrain"):
    """Apply a compiled device-tree overlay, which loads the bitstream that it names.

    An overlay of this name that is there is removed first.

    Parameters
    ----------
    overlay : path
        A ``.dtbo`` file. Its ``firmware-name`` is the name of ``bitstream`` with ``.bin``.
    bitstream : path, optional
        Put into ``/lib/firmware`` before.

    Raises
    ------
    DeviceError
        If the kernel has no overlays in configfs, or refuses this one.
    """
    folder = _overlays(root)
    manager = _manager(root)
    if bitstream is not None:
        _install(bitstream, root)
    firmware = _copy(Path(overlay).read_bytes(), Path(overlay).name, root)
    remove_overlay(root, name)
    place = folder / name
    try:
        place.mkdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeviceError(f"{place} cannot be made ({reason}); run as root.") from None
    write_attribute(manager / "flags", FULL)
    write_attribute(place / "path", firmware)
    if read_attribute(place / "status") != "applied":
        raise DeviceError(
            f"The kernel did not apply the overlay {overlay}; `dmesg` says which node is wrong."
        )
    _check_state(manager, bitstream or overlay)


def compile_overlay(source, result):
    """Translate an overlay's source (``.dtso``) with the device-tree compiler.

    Raises
    ------
    DeviceError
        If there is no ``dtc``, or it refuses the source.
    """
    command = ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", str(result), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise DeviceError(
            f"The overlay {source} must be compiled and there is no dtc; install the package "
            "device-tree-compiler, here or where you run `eftrain build`."
        ) from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DeviceError(f"dtc refuses {source}: {last[0].rstrip('.')}.") from None


def remove_overlay(root="/", name="eftrain"):
    """Take an overlay away, with its nodes; returns whether it was there."""
    place = _overlays(root) / name
    if not place.is_dir():
        return False
    try:
        place.rmdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeviceError(f"{place} cannot be removed ({reason}); run as root.") from None
    return True


def _overlays(root):
    folder = Path(root) / "sys/kernel/config/device-tree/overlays"
    if not folder.is_dir():
        raise DeviceError(
            f"There is no {folder}; mount configfs (`mount -t configfs configfs "
            "/sys/kernel/config`), or use a kernel with CONFIG_OF_CONFIGFS."
        )
    return folder


def _manager(root):
    folder = Path(root) / "sys/class/fpga_manager/fpga0"
    if not folder.is_dir():
        raise DeviceError(
            f"There is no {folder}; use a kernel with the FPGA manager of the board, such as "
            "PetaLinux or PYNQ."
        )
    return folder


def _install(path, root):
    """Put a bitstream into the firmware folder; its name there."""
    try:
        bit = Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeviceError(f"{path} cannot be read ({reason}); check the path.") from None
    return _copy(bit_to_bin(bit), Path(path).with_suffix(".bin").name, root)


def _copy(data, name, root):
    place = Path(root) / "lib/firmware" / name
    staged = place.with_name(f".{name}.new")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.write_bytes(data)
        os.replace(staged, place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeviceError(f"{place} cannot be written ({reason}); run as root.") from None
    return name


def _check_state(manager, path):
    state = read_attribute(manager / "state")
    if state != "operating":
        raise DeviceError(
            f"The FPGA manager did not take {path}: its state is {state!r}; check that the "
            "bitstream is for this part, `dmesg` says more."
        )
