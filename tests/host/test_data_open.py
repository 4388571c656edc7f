"""Which source is taken for what, and sources that are several things or nothing."""

import gzip
import sys

import numpy as np
import pytest
from data_files import cifar_binary, class_folders, idx, pixels, scaled, sentence, write_mnist

from eftrain.data import open_dataset
from eftrain.errors import UserError

SHAPE = (3, 32, 32)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def refused(path="set", shape=SHAPE):
    with pytest.raises(UserError) as error:
        open_dataset(path, shape)
    return sentence(error)


def mnist(folder):
    write_mnist(folder, "train", pixels(3, 1, 32, 32)[:, 0], [0, 1, 2])


def cifar100(folder):
    (folder / "train.bin").write_bytes(cifar_binary(pixels(2, *SHAPE), [0, 1], [5, 99]))


def classes(folder):
    class_folders(folder, ("ant", "bee"), size=(32, 32))


@pytest.mark.parametrize(("make", "number"), [(mnist, 3), (cifar100, 100), (classes, 2)])
def test_each_alone(folder, make, number):
    make(folder)
    for path in ("set", folder):
        assert open_dataset(path, SHAPE).classes == number


@pytest.mark.parametrize(
    ("makes", "words"),
    [
        ((mnist, cifar100), "CIFAR-100 (binary) and MNIST (IDX)"),
        ((mnist, classes), "MNIST (IDX) and folders of classes"),
        ((cifar100, classes), "CIFAR-100 (binary) and folders of classes"),
    ],
)
def test_mixtures(folder, makes, words):
    for make in makes:
        make(folder)
    assert refused() == f"set has {words}; give a folder with one of them."


def test_folders_with_nothing_to_read(folder):
    assert refused().startswith("set is empty; give an .npz file, a folder with one sub-folder")
    (folder / "a.png").write_bytes(b"")
    assert refused().startswith("set has only other files (a.png, ...); give an .npz file")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar-10-python.tar.gz", "is an archive; unpack it, and give the folder"),
        ("pictures.zip", "is an archive"),
        ("train-images-idx3-ubyte.gz", "is one of several files; give the folder"),
        ("data_batch_1", "is one of several files"),
        ("data.csv", "is no data that is known here; give an .npz file"),
        ("data.npz", "is not a readable .npz file"),
    ],
)
def test_files(folder, name, words):
    (folder / name).write_bytes(gzip.compress(idx(pixels(1, 1, 4, 4))))
    assert f"set/{name} {words}" in refused(f"set/{name}")


def test_nothing_there():
    assert refused("nowhere") == "There is no data file or folder nowhere; check the path."


def test_folders_that_cannot_be_read(monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    # Not by mode bits: the tests may run as root, who may read anywhere.
    monkeypatch.setattr("eftrain.data.folder.os.scandir", refuse)
    assert refused() == "set cannot be read (permission denied); check its permissions."


@pytest.mark.parametrize("shape", [(3, 32), (), (1, 2, 3, 4)])
def test_shapes(shape):
    assert "give (channels, rows, columns)" in refused(shape=shape)


def test_pillow_is_needed_only_to_change_pictures(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    mnist(folder)
    assert np.array_equal(open_dataset("set", (1, 32, 32)).train.x, scaled(pixels(3, 1, 32, 32)))
    assert refused(shape=(1, 28, 28)) == (
        "Resizing the pictures in set/train-images-idx3-ubyte to 1x28x28 needs Pillow, which is "
        "not installed: run `pip install 'eftrain[pictures]'`."
    )
