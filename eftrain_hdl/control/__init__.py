"""The control side: registers, program fetch and flow, descriptor checks, errors and resets."""

from .checker import DescriptorChecker
from .control import Control
from .counters import EventCounters
from .descriptor import descriptor_layout
from .fetcher import DescriptorFetcher
from .program import Program
from .registers import RegisterBlock
from .supervisor import Supervisor

__all__ = [
    "Control",
    "DescriptorChecker",
    "DescriptorFetcher",
    "EventCounters",
    "Program",
    "RegisterBlock",
    "Supervisor",
    "descriptor_layout",
]
