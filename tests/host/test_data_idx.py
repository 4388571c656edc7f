"""MNIST's files: against numpy.frombuffer at their known offsets, and damaged in every way."""

import gzip

import numpy as np
import pytest
import torch
from data_files import idx, pixels, scaled, sentence, write_mnist

from eftrain.data import open_dataset
from eftrain.errors import UserError

SHAPE = (1, 28, 28)
LABELS = [7, 2, 1, 0, 4]
PICTURES = pixels(5, *SHAPE)[:, 0]
TRAIN = "set/train-images-idx3-ubyte"
TRAIN_LABELS = "set/train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mnist(tmp_path / "set", "train", PICTURES, LABELS)
    return tmp_path


def refused(classes=10, shape=SHAPE):
    with pytest.raises(UserError) as error:
        open_dataset("set", shape, classes)
    return sentence(error)


def test_offsets_of_the_format(folder):
    content = (folder / TRAIN).read_bytes()
    assert content[:16] == bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 28, 0, 0, 0, 28])
    data = open_dataset("set", SHAPE, 10)
    expected = np.frombuffer(content, np.uint8, offset=16).reshape(5, *SHAPE)
    assert np.array_equal(data.train.x, torch.tensor(expected.copy()).float().div(255).numpy())
    labels = np.frombuffer((folder / TRAIN_LABELS).read_bytes(), np.uint8, offset=8)
    assert data.train.y.tolist() == labels.tolist() == LABELS
    assert data.train.y.dtype == np.int64 and data.train.x.dtype == np.float32
    assert data.class_names == tuple("0123456789") and data.test is None


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_names_and_compression(tmp_path, end, separator):
    for part, pictures, labels in (("train", PICTURES, LABELS), ("t10k", PICTURES[:2], [9, 8])):
        write_mnist(tmp_path / "other", part, pictures, labels, end, separator)
    data = open_dataset("other", SHAPE)
    assert np.array_equal(data.train.x, scaled(PICTURES)[:, None])
    assert np.array_equal(data.test.x, scaled(PICTURES[:2])[:, None])
    assert data.test.y.tolist() == [9, 8] and data.classes == 10


def test_other_channels_and_sizes(folder):
    data = open_dataset("set", (3, 28, 28))
    assert np.array_equal(data.train.x, scaled(PICTURES)[:, None].repeat(3, 1))
    write_mnist(folder / "set", "train", np.full((2, 28, 28), 77), [0, 1])
    assert np.array_equal(open_dataset("set", (3, 32, 32)).train.x,
                          np.full((2, 3, 32, 32), scaled(np.array(77))))  # fmt: skip


@pytest.mark.parametrize("bytes_", [1, 100, 28 * 28 * 5])
def test_truncated(folder, bytes_):
    content = (folder / TRAIN).read_bytes()
    (folder / TRAIN).write_bytes(content[:-bytes_])
    assert refused() == (
        f"{TRAIN} ends too early or is damaged, after {3936 - bytes_} of 3936 bytes "
        "(uncompressed); get the file again."
    )


@pytest.mark.parametrize("size", [4, 10])
def test_truncated_in_the_header(folder, size):
    (folder / TRAIN).write_bytes((folder / TRAIN).read_bytes()[:size])
    assert f"after {size} of 16 bytes" in refused()


@pytest.mark.parametrize("cut", [4, 8, 2000])
def test_truncated_gzip(folder, cut):
    """In the check sum after the data as well."""
    whole = gzip.compress(idx(PICTURES))
    (folder / TRAIN).unlink()
    (folder / f"{TRAIN}.gz").write_bytes(whole[:-cut])
    text = refused()
    assert text.startswith(f"{TRAIN}.gz ends too early or is damaged, after ")
    found, expected = text.split("after ")[1].split(" bytes")[0].split(" of ")
    assert expected == "3936" and int(found) == 3936 if cut <= 8 else 16 < int(found) < 3936


def test_gzip_that_is_damaged(folder):
    whole = bytearray(gzip.compress(idx(PICTURES)))
    whole[-6] ^= 1  # The check sum.
    (folder / TRAIN).write_bytes(whole)
    assert refused().startswith(f"{TRAIN} cannot be read (crc check failed")


def test_a_header_that_announces_too_much_takes_no_memory(folder):
    header = bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" * 3
    (folder / TRAIN).write_bytes(header + b"\0" * 50)
    assert f"after 66 of {16 + (2**32 - 1) ** 3} bytes" in refused()


def test_more_bytes_than_announced(folder):
    with open(folder / TRAIN, "ab") as file:
        file.write(b"\0")
    assert refused() == (
        f"{TRAIN} has more than the 3936 bytes that it announces; get the file again."
    )


@pytest.mark.parametrize(("name", "content", "words"), [
    (TRAIN, idx(np.array(LABELS, np.uint8)), "begins with 0x00000801 instead of 0x00000803"),
    (TRAIN_LABELS, idx(PICTURES), "begins with 0x00000803 instead of 0x00000801"),
    (TRAIN, b"<!DOCTYPE html>", "begins with 0x3c21444f instead of 0x00000803"),
    (TRAIN, b"", "begins with 0x instead"),
    (TRAIN, idx(PICTURES[:0]), "is empty (shape (0, 28, 28))"),
    (TRAIN, idx(PICTURES[:4]), "holds 4 pictures but train-labels-idx1-ubyte 5 labels"),
    (TRAIN_LABELS, idx(np.array([1, 2, 30, 4, 5], np.uint8)),
     "goes up to label 30, so it has 31 classes but the network has 10; give --classes 31"),
])  # fmt: skip
def test_other_content(folder, name, content, words):
    (folder / name).write_bytes(content)
    text = refused()
    assert text.startswith(f"{name} ") and words in text


@pytest.mark.parametrize("name", [TRAIN, TRAIN_LABELS])
def test_missing_files(folder, name):
    (folder / name).unlink()
    assert refused() == (
        f"set has no {name.removeprefix('set/')} (or .gz); put it beside the other files."
    )


def test_half_of_the_test_files(folder):
    write_mnist(folder / "set", "t10k", PICTURES, LABELS)
    (folder / "set" / "t10k-images-idx3-ubyte").unlink()
    assert "set has no t10k-images-idx3-ubyte (or .gz)" in refused()
