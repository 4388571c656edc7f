"""ULX3S with an LFE5U-85F: pins and clocks are those of amaranth-boards.

The FTDI chip's serial line is the host's: ``rx`` M1, ``tx`` L4. The SDRAM is an IS42S16160G-7 or an
MT48LC16M16A2-75, 32 MB. The oscillator has 25 MHz. What is on the pins is in :mod:`.ecp5_top`.
LED 0 flashes every second, LED 1 shows the interrupt, LEDs 2 and 3 bytes from and to the host.

Load a bitstream with ``openFPGALoader -b ulx3s eftrain.bit``, or keep it in the flash with ``-f``.
"""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

__all__ = ["Ulx3sPlatform"]


class Ulx3sPlatform(ULX3S_85F_Platform):
    """The platform of amaranth-boards."""
