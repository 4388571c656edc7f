"""AMD ZCU102: Zynq UltraScale+ XCZU9EG."""

from .processing_system import PS8
from .zynq_platform import ZynqPlatform

__all__ = ["ZCU102Platform"]


class ZCU102Platform(ZynqPlatform):
    """Preset of the processing system from Vivado's own board files, in the newest revision."""

    title = "the ZCU102"
    device = "xczu9eg"
    package = "ffvb1156"
    speed = "2-e"
    system = PS8
    board_parts = "xilinx.com:zcu102:part0:*"
