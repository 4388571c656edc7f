"""The declaration of descriptors and registers is consistent, and its generated pages current."""

import math
import random
from pathlib import Path

import pytest
from amaranth.hdl import Shape

from eftrain_hdl import isa, isa_docs
from eftrain_hdl.control import descriptor_layout
from eftrain_hdl.isa import Flag, Opcode

DOCS = Path(__file__).resolve().parent.parent / "docs"


def random_value(rng, field):
    if field.kind == "float":
        return rng.randint(-1000, 1000) / 64
    if field.kind == "signed":
        return rng.choice((-(1 << 31), (1 << 31) - 1, rng.randint(-1000, 1000)))
    return rng.choice((0, field.mask, rng.randint(0, field.mask)))


@pytest.mark.parametrize("opcode", Opcode)
def test_round_trip(opcode):
    rng = random.Random(int(opcode))
    for _ in range(20):
        values = {f.name: random_value(rng, f) for f in isa.DESCRIPTORS[opcode][2:]}
        flags = {flag for flag in Flag if rng.random() < 0.5}
        blob = isa.encode(opcode, flags, **values)
        assert len(blob) == isa.DESCRIPTOR_BYTES
        assert isa.decode(blob) == (opcode, flags, values)
        assert isa.encode(opcode, flags, **values) == blob


@pytest.mark.parametrize("opcode", Opcode)
def test_one_field_changes_its_bits_only(opcode):
    layout = descriptor_layout()
    for field in isa.DESCRIPTORS[opcode][2:]:
        if field.kind == "float":
            continue
        value = -1 if field.kind == "signed" else field.mask
        word = int.from_bytes(isa.encode(opcode, **{field.name: value}), "little")
        placed = layout[field.name]
        assert word ^ opcode == field.mask << placed.offset
        assert Shape.cast(placed.shape).width == field.width


def test_encode_refuses():
    with pytest.raises(ValueError, match=r"LOOP has no field 'images'\."):
        isa.encode(Opcode.LOOP, images=1)
    with pytest.raises(ValueError, match="CONV_FP field kernel_rows=256 does not fit 8 bits"):
        isa.encode(Opcode.CONV_FP, kernel_rows=256)
    with pytest.raises(ValueError, match="does not fit 16 bits"):
        isa.encode(Opcode.LOSS, images=-1)
    with pytest.raises(ValueError, match="does not fit a signed 32-bit field"):
        isa.encode(Opcode.NEXT, increment_1=1 << 31)
    with pytest.raises(ValueError):
        isa.decode(b"\xff" + bytes(isa.DESCRIPTOR_BYTES - 1))


def test_floats():
    blob = isa.encode(Opcode.CONV_WU, learning_rate=0.1, momentum=math.inf)
    _, _, values = isa.decode(blob)
    assert values["learning_rate"] == pytest.approx(0.1, rel=1e-7)
    assert values["momentum"] == math.inf


@pytest.mark.parametrize("opcode", Opcode)
def test_fields_do_not_overlap(opcode):
    taken = 0
    names = set()
    for field in isa.DESCRIPTORS[opcode]:
        bits = field.mask << field.word * 32 + field.lsb
        assert not taken & bits, field.name
        assert field.lsb + field.width <= 32 and field.word < isa.DESCRIPTOR_WORDS
        assert field.kind == "unsigned" or field.width == 32
        assert field.name not in names and field.doc.endswith((".", ")"))
        names.add(field.name)
        taken |= bits


def test_every_name_is_explained():
    assert set(isa.OPCODE_HELP) == set(isa.DESCRIPTORS) == set(isa.LEGAL_FLAGS) == set(Opcode)
    assert set(isa.FLAG_HELP) == set(Flag)
    assert set(isa.ERROR_HELP) == set(isa.ErrorCode) - {isa.ErrorCode.NONE}
    assert {flag for legal in isa.LEGAL_FLAGS.values() for flag in legal} == set(Flag)
    for first, second in isa.EXCLUSIVE_FLAGS:
        # A pair that no opcode takes would be a rule without meaning.
        assert any({first, second} <= set(legal) for legal in isa.LEGAL_FLAGS.values())


def test_registers():
    addresses = [register.address for register in isa.REGISTERS]
    assert addresses == sorted(set(addresses))
    assert len(isa.REGISTER) == len(isa.REGISTERS)
    for register in isa.REGISTERS:
        assert register.address % 4 == 0 and 0 <= register.address < isa.REGISTER_SPACE
        assert register.access in ("ro", "rw", "wo", "w1c")
        taken = 0
        for field in register.fields:
            assert field.lsb + field.width <= 32
            assert not taken & field.mask << field.lsb, (register.name, field.name)
            taken |= field.mask << field.lsb
        if register.name.endswith("_HIGH"):
            low = isa.REGISTER[register.name.removesuffix("_HIGH") + "_LOW"]
            assert register.address == low.address + 4


@pytest.mark.parametrize("name", isa_docs.PAGES)
def test_pages_are_current(name):
    assert (DOCS / name).read_text(encoding="utf-8") == isa_docs.PAGES[name](), (
        f"docs/{name} is out of date; run `python -m eftrain_hdl.isa_docs`."
    )
