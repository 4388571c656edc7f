"""Floating-point blocks of the core, each with a bit-exact numpy ``model`` beside it.

The rules they all follow are in ``docs/numerics.md``.
"""

from .add import FloatAdd
from .convert import float32_to_format, format_to_float32, round_to_format
from .dot_product import DotProduct, dot_product_model
from .formats import BF16, FORMATS, FP32, NumberFormat, get_format
from .multiply import FloatMultiply

__all__ = [
    "BF16",
    "FORMATS",
    "FP32",
    "DotProduct",
    "FloatAdd",
    "FloatMultiply",
    "NumberFormat",
    "dot_product_model",
    "float32_to_format",
    "format_to_float32",
    "get_format",
    "round_to_format",
]
