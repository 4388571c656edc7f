"""Serial bridge: a host reaches registers and memory over a UART (docs/serial.md)."""

from .bridge import ByteBridge, SerialBridge
from .framing import Deframer, Framer
from .uart import UartReceiver, UartTransmitter

__all__ = ["ByteBridge", "Deframer", "Framer", "SerialBridge", "UartReceiver", "UartTransmitter"]
