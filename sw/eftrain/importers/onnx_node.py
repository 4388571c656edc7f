"""A node of an ONNX file as importing sees it: its name, attributes, constants and values."""

import re
from dataclasses import dataclass
from math import ceil

import numpy as np

from .values import Parameter, Place, source_line

__all__ = ["Groups", "OnnxNode", "decimal", "describe"]


@dataclass(frozen=True)
class Groups:
    """A value on the way through the parts of a group-norm.

    Opsets without ``GroupNormalization`` reshape pictures to [N, groups, rest], normalise these
    with ``InstanceNormalization``, reshape back, and multiply and add per channel.
    """

    source: int
    groups: int
    eps: float | None = None
    whole: bool = False
    weight: Parameter | None = None


def describe(node):
    """How messages name an operator that no layer stands for."""
    domain = f"{node.domain}." if node.domain else ""
    return f"{domain}{node.op_type} (node {node.name!r}{_line(node)})"


def _line(node):
    return source_line(_metadata(node).get("pkg.torch.onnx.stack_trace", ""))


def _metadata(node):
    return {entry.key: entry.value for entry in node.metadata_props}


def decimal(value):
    """The shortest decimal number of an fp32 value: 0.1 where the file has 0.100000001."""
    return float(str(np.float32(value)))


class OnnxNode:
    """A node with its attributes, constants and place."""

    def __init__(self, node, owner):
        from onnx.helper import get_attribute_value

        self.node, self.owner, self.builder = node, owner, owner.builder
        self.attributes = {one.name: get_attribute_value(one) for one in node.attribute}
        name = self._name()
        known = not node.name or node.name == name
        line = _line(node) if known else f", node {node.name!r}{_line(node)}"
        self.place = Place(node.op_type, name, line)

    def _name(self):
        for name in self.node.input:
            path, dot, kind = name.rpartition(".")
            if name in self.owner.file.constants and dot and kind in ("weight", "bias"):
                return None if path.isdigit() else path
        if not self.owner.torch:
            return self.node.name or None
        found = _metadata(self.node)
        paths = re.findall(r"'(.*?)'", found.get("pkg.torch.onnx.name_scopes", ""))
        kinds = re.findall(r"'(.*?)'", found.get("pkg.torch.onnx.class_hierarchy", ""))
        leaf = len(kinds) > 1 and kinds[-2].startswith("torch.nn.modules.")
        return paths[-2] if leaf and len(paths) > 1 and not paths[-2].isdigit() else None

    def input(self, index):
        """Name of an input, or None."""
        names = self.node.input
        return names[index] if index < len(names) and names[index] else None

    def x(self, index=0):
        """The builder's value of an input."""
        return self.owner.value(self.input(index), self.place)

    def groups(self):
        """The first input, if it is on the way through a group-norm, or None."""
        value = self.owner.values.get(self.input(0))
        return value if isinstance(value, Groups) else None

    def constant(self, index):
        """Array of a constant input, or None for a missing one."""
        name = self.input(index)
        if name is None:
            return None
        if name not in self.owner.file.constants:
            raise self.error(f"computes its input {name!r}; the supported form is a constant")
        return self.owner.file.constants[name]

    def number(self, index, default=None):
        value = self.constant(index)
        return default if value is None else decimal(value.reshape(-1)[0])

    def parameter(self, index, change=lambda values: values):
        """A constant input as a parameter, or None.

        Exporters store equal values once, for example the ones and zeros of new batch-norms; only
        of others can be told that the network shares them.
        """
        values = self.constant(index)
        if values is None:
            return None
        key = self.input(index) if np.ptp(np.asarray(values, np.float64)) else None
        return Parameter(change(values), key)

    def bias(self, index):
        """As :func:`parameter`; zeros that are computed, not stored, stand for no bias."""
        found = self.parameter(index, lambda values: values.reshape(-1))
        computed = found is not None and self.input(index) not in self.owner.file.stored
        return None if computed and not found.values.any() else found

    def get(self, name, default=None):
        """An attribute; fp32 numbers as their shortest decimals."""
        value = self.attributes.get(name, default)
        return decimal(value) if isinstance(value, float) else value

    def error(self, problem):
        return self.builder.error(self.place, problem)

    def window(self, x, kernel):
        """``(stride, padding)`` of a kernel's windows over the value ``x``."""
        stride = tuple(self.get("strides", (1, 1)))
        dilation = self.get("dilations", (1, 1))
        auto = self.get("auto_pad", b"NOTSET").decode()
        if auto == "NOTSET":
            pads = list(self.get("pads", (0, 0, 0, 0)))
        elif auto == "VALID":
            pads = [0] * 4
        else:
            reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
            sizes = zip(self.builder.shape(x)[1:], reach, stride, strict=True)
            sums = [max(0, (ceil(n / s) - 1) * s + k - n) for n, k, s in sizes]
            pads = [total // 2 for total in sums] + [total - total // 2 for total in sums]
        if pads[:2] != pads[2:]:
            raise self.error(f"has pads {pads}; the supported form is equal on opposite sides")
        return stride, tuple(pads[:2])
