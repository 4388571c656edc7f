"""Digilent PYNQ-Z1: Zynq-7000 XC7Z020."""

from .processing_system import PS7
from .zynq_platform import ZynqPlatform

__all__ = ["PynqZ1Platform"]


class PynqZ1Platform(ZynqPlatform):
    """Vivado has no board files of this board, so its preset is here.

    The preset matters to a boot loader made from the build's ``.xsa`` only. On the board's own
    Linux image the processing system is set up already.
    """

    title = "the PYNQ-Z1"
    device = "xc7z020"
    package = "clg400"
    speed = "1"
    system = PS7
    preset = {
        "PCW_CRYSTAL_PERIPHERAL_FREQMHZ": 50,
        "PCW_APU_PERIPHERAL_FREQMHZ": 650,
        "PCW_PRESET_BANK0_VOLTAGE": "LVCMOS 3.3V",
        "PCW_PRESET_BANK1_VOLTAGE": "LVCMOS 1.8V",
        # 512 MB of DDR3: one device of 16 bits. Delays of the board's traces are in nanoseconds.
        "PCW_UIPARAM_DDR_PARTNO": "Custom",
        "PCW_UIPARAM_DDR_MEMORY_TYPE": "DDR 3",
        "PCW_UIPARAM_DDR_BUS_WIDTH": "16 Bit",
        "PCW_UIPARAM_DDR_DRAM_WIDTH": "16 Bits",
        "PCW_UIPARAM_DDR_DEVICE_CAPACITY": "4096 MBits",
        "PCW_UIPARAM_DDR_ROW_ADDR_COUNT": 15,
        "PCW_UIPARAM_DDR_COL_ADDR_COUNT": 10,
        "PCW_UIPARAM_DDR_BANK_ADDR_COUNT": 3,
        "PCW_UIPARAM_DDR_FREQ_MHZ": 525,
        "PCW_UIPARAM_DDR_SPEED_BIN": "DDR3_1066F",
        "PCW_UIPARAM_DDR_CL": 7,
        "PCW_UIPARAM_DDR_CWL": 6,
        "PCW_UIPARAM_DDR_T_RCD": 13.125,
        "PCW_UIPARAM_DDR_T_RP": 13.125,
        "PCW_UIPARAM_DDR_T_RC": 50.625,
        "PCW_UIPARAM_DDR_T_RAS_MIN": 35.0,
        "PCW_UIPARAM_DDR_T_FAW": 40.0,
        **{
            f"PCW_UIPARAM_DDR_BOARD_DELAY{n}": delay
            for n, delay in enumerate((0.223, 0.212, 0.085, 0.092))
        },
        **{
            f"PCW_UIPARAM_DDR_DQS_TO_CLK_DELAY_{n}": delay
            for n, delay in enumerate((0.040, 0.058, -0.009, -0.033))
        },
        # Flash, Ethernet, SD card, serial port, USB.
        "PCW_QSPI_PERIPHERAL_ENABLE": 1,
        "PCW_QSPI_GRP_SINGLE_SS_ENABLE": 1,
        "PCW_QSPI_GRP_FBCLK_ENABLE": 1,
        "PCW_QSPI_PERIPHERAL_FREQMHZ": 200,
        "PCW_ENET0_PERIPHERAL_ENABLE": 1,
        "PCW_ENET0_ENET0_IO": "MIO 16 .. 27",
        "PCW_ENET0_GRP_MDIO_ENABLE": 1,
        "PCW_SD0_PERIPHERAL_ENABLE": 1,
        "PCW_SD0_SD0_IO": "MIO 40 .. 45",
        "PCW_SD0_GRP_CD_ENABLE": 1,
        "PCW_SD0_GRP_CD_IO": "MIO 47",
        "PCW_SDIO_PERIPHERAL_FREQMHZ": 50,
        "PCW_UART0_PERIPHERAL_ENABLE": 1,
        "PCW_UART0_UART0_IO": "MIO 14 .. 15",
        "PCW_USB0_PERIPHERAL_ENABLE": 1,
        "PCW_USB0_USB0_IO": "MIO 28 .. 39",
    }
    # The core takes most of the part.
    run_properties = {
        "STEPS.SYNTH_DESIGN.ARGS.DIRECTIVE": "AreaOptimized_high",
        "STEPS.OPT_DESIGN.ARGS.DIRECTIVE": "ExploreArea",
    }
