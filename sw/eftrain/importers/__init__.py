"""Networks from elsewhere, PyTorch modules and ONNX files, as a ``Graph``.

``torch_module`` and ``onnx_model`` translate operators into calls of the one ``builder``, so that a
network gives the same graph whichever way it arrives in.
"""

from .onnx_model import from_onnx
from .torch_module import from_torch

__all__ = ["from_onnx", "from_torch"]
