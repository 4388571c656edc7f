"""The DRAM map: which tensor lies where, and whether all fit."""

from dataclasses import dataclass

from ..errors import UserError
from .layout import align

PAGE = 4096
"""A burst never crosses a page, so large tensors start on one, and small ones lie within one."""

SMALLEST = 64


@dataclass(frozen=True)
class Region:
    """``nbytes`` bytes of the device's memory from ``address``."""

    name: str
    address: int
    nbytes: int


class MemoryMap:
    """Hands out regions one after another from ``base``.

    Parameters
    ----------
    base, size : int
        The device memory that may be used, in bytes.
    """

    def __init__(self, base, size):
        self.base = align(base, PAGE)
        self.end = base + size
        self.regions = {}
        self._shared = {}
        self._next = self.base

    def add(self, name, nbytes):
        """Reserve a region; adding a name again with the same size returns the same region."""
        if name in self.regions:
            region = self.regions[name]
            assert region.nbytes == nbytes, name
            return region
        # A power of two, so a tensor that is no larger does not cross a multiple of a page.
        start = align(self._next, min(PAGE, max(SMALLEST, 1 << (nbytes - 1).bit_length())))
        self.regions[name] = Region(name, start, nbytes)
        self._next = start + align(nbytes)
        return self.regions[name]

    def share(self, name, sizes):
        """Reserve one region for tensors that use it one after another.

        Parameters
        ----------
        name : str
            Of the region.
        sizes : dict
            Tensor to bytes.
        """
        region = self.add(name, max(sizes.values()))
        self._shared |= dict.fromkeys(sizes, region.address)

    def addresses(self):
        """Every tensor's first byte, those that share a region included."""
        return {name: region.address for name, region in self.regions.items()} | self._shared

    def address(self, name):
        return self.regions[name].address

    @property
    def limit(self):
        """First byte after the last region."""
        return self._next

    @property
    def used(self):
        return self.limit - self.base

    def report(self):
        """``[{name, address, bytes}]`` in address order."""
        return [
            {"name": r.name, "address": r.address, "bytes": r.nbytes} for r in self.regions.values()
        ]

    def check(self):
        """Raise ``UserError`` with the numbers if the map is larger than the memory."""
        if self.limit > self.end:
            largest = max(self.regions.values(), key=lambda region: region.nbytes)
            raise UserError(
                f"The run needs {self.used / 2**20:.1f} MiB of device memory but the device has "
                f"{(self.end - self.base) / 2**20:.1f} MiB (largest: {largest.name}, "
                f"{largest.nbytes / 2**20:.1f} MiB); use fewer samples or epochs, or a smaller "
                "batch."
            )
