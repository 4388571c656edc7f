"""Rewrites the Verilog that Amaranth gives: shorter, and the same hardware."""

import re

__all__ = [
    "module_tree",
    "with_memory_loops",
    "with_shared_modules",
    "without_field_aliases",
    "without_memory_loops",
]

_ALIAS = re.compile(
    r"^ *(?:wire|assign)(?: \[\d+:0\])? (\\[^$\s][^.\[\s]*[.\[]\S*) [^;]*;\n", re.MULTILINE
)
_MODULE = re.compile(
    r"^module (\\\S+|\w+) ?\(([^;]*)\);\n(.*?^endmodule\n)\n*", re.MULTILINE | re.DOTALL
)
_INSTANCE = re.compile(r"  (\\\S+|\w+) +(\\\S+|\w+) +\(")
_CONNECTION = re.compile(r"    \.(\\\S+|\w+) ?\(")
_NUMBERED_PORT = re.compile(r"\\port\$\d+\$\d+(?= )")
_SENSITIVITY = re.compile(r"\\\$auto\$verilog_backend\S+")
_INITIAL = re.compile(
    r"^  initial begin\n"
    r"((?:    (\w+|\\\S+ )\[0\] = (\d+'h0+);\n)(?:    \2\[\d+\] = \3;\n)+)"
    r"  end\n",
    re.MULTILINE,
)

_LOOP = re.compile(r"^  integer (\\\S+) ;\n  initial for \(\1 .*\n.*\n", re.MULTILINE)


def without_field_aliases(text):
    """Drop the wires that only give a name to a field of a struct or an element of an array.

    Amaranth adds them for waveform viewers. yosys splits a vector ``v`` into bits called ``v[0]``
    and fails when an alias of an element is called that already (YosysHQ/yosys#4349).
    """
    names = set(_ALIAS.findall(text))
    text = _ALIAS.sub("", text)
    used = names.intersection(re.findall(r"\\\S+", text))
    if used:
        raise AssertionError(f"{sorted(used)[0]} is not just an alias.")
    return text


def with_memory_loops(text):
    """Clear a memory in a loop, where Amaranth writes one line for each word."""

    def loop(match):
        lines, name, zero = match.groups()
        depth = lines.count("\n")
        index = f"\\{name.strip().removeprefix(chr(92))}$word "
        return (
            f"  integer {index};\n"
            f"  initial for ({index}= 0; {index}< {depth}; {index}= {index}+ 1)\n"
            f"    {name}[{index}] = {zero};\n"
        )

    return _INITIAL.sub(loop, text)


def without_memory_loops(text):
    """Leave memories to what the part makes of them, zeros in an FPGA.

    yosys unrolls the loops of :func:`with_memory_loops`, a hundred times slower than all the rest
    that it reads.
    """
    return _LOOP.sub("", text)


def module_tree(text):
    """What every module instantiates.

    Returns
    -------
    dict of str to list of (str, str)
        Module to its (instance, module), in their order, with names as they are without Verilog's
        backslash; only modules of this text.
    """
    names = {match[1]: _plain(match[1]) for match in _MODULE.finditer(text)}
    tree = {}
    for match in _MODULE.finditer(text):
        found = (_INSTANCE.fullmatch(line) for line in match[3].splitlines())
        tree[names[match[1]]] = [
            (_plain(instance[2]), names[instance[1]])
            for instance in found
            if instance and instance[1] in names
        ]
    return tree


def _plain(name):
    return name.removeprefix("\\")


def with_shared_modules(text):
    """Keep one of all modules that are equal; Amaranth writes one module for each instance.

    Equal is what differs only in the module's own name, in the order of its ports (instances
    connect them by name) and in numbers that Amaranth and yosys count through the whole design. A
    module is called after its first instance.
    """
    texts = {match[1]: match.groups()[1:] for match in _MODULE.finditer(text)}
    done, first_with, written = {}, {}, {}

    def share(name):
        """Name of the module that stands for this one, and the new names of this one's ports."""
        if name in done:
            return done[name]
        header, body = texts[name]
        body = _SENSITIVITY.sub(lambda _: "\\$always", body)
        own = {}
        for port in _NUMBERED_PORT.findall(body):
            own.setdefault(port, f"\\port${len(own)}")

        def rename(part):
            return _NUMBERED_PORT.sub(lambda port: own.get(port[0], port[0]), part)

        lines = []
        ports_of_child = None
        for line in body.splitlines():
            if instance := _INSTANCE.fullmatch(line):
                child, ports_of_child = share(instance[1]) if instance[1] in texts else (None, {})
                if child:
                    line = line.replace(instance[1], child, 1)
            elif ports_of_child is not None and (connection := _CONNECTION.match(line)):
                port, rest = connection[1], line[connection.end(1) :]
                line = f"    .{ports_of_child.get(port, port)}{rename(rest)}"
            else:
                ports_of_child = None
                line = rename(line)
            lines.append(line)
        body = "\n".join(lines)
        first = first_with.setdefault(body, name)
        if first == name:
            written[name] = f"module {name} ({rename(header)});\n{body}\n\n"
        done[name] = first, own
        return done[name]

    for name in texts:
        share(name)
    return _MODULE.sub(lambda match: written.get(match[1], ""), text)
