"""Large sets need little more than the memory of their fp32 pictures while they are read."""

import tracemalloc

import numpy as np
import pytest
from data_files import cifar_binary, pixels, python2_pickle, save, write_mnist

from eftrain.data import Augmentation, Batches, Normalisation, Split, open_dataset

SHAPE = (3, 32, 32)
COUNT = 1000


def peak(call):
    """(result, bytes): numpy reports its arrays to tracemalloc."""
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def npz_bytes(folder):
    np.savez(folder / "data.npz", x=pixels(COUNT, *SHAPE), y=np.zeros(COUNT, int))
    return folder / "data.npz"


def npz_floats(folder):
    x = np.random.default_rng(0).random((COUNT, *SHAPE), np.float32)
    np.savez(folder / "data.npz", x=x, y=np.zeros(COUNT, int))
    return folder / "data.npz"


def mnist(folder):
    write_mnist(folder, "train", pixels(3 * COUNT, 1, 32, 32)[:, 0], [1] * 3 * COUNT, ".gz")
    return folder


def cifar_python(folder):
    x = pixels(COUNT // 5, 1, 1, 3072)[:, 0, 0]
    for number in range(1, 6):
        content = python2_pickle({"data": x, "labels": [0] * len(x)})
        (folder / f"data_batch_{number}").write_bytes(content)
    return folder


def cifar_bin(folder):
    x = pixels(COUNT // 5, *SHAPE)
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(cifar_binary(x, [0] * len(x)))
    return folder


def picture_files(folder):
    for number in range(40):
        save(folder / str(number % 2) / f"{number}.png", pixels(1, 1, 64, 64)[0, 0])
    return folder


def items(folder):
    x = pixels(COUNT, *SHAPE)
    return [(picture, 0) for picture in x]


def npz_doubles(folder):
    x = np.random.default_rng(0).random((COUNT, *SHAPE))
    np.savez(folder / "data.npz", x=x, y=np.zeros(COUNT, int))
    return folder / "data.npz"


@pytest.mark.parametrize("make", [
    npz_bytes, npz_floats, npz_doubles, mnist, cifar_python, cifar_bin, picture_files, items,
])  # fmt: skip
def test_reading(tmp_path, make):
    source = make(tmp_path)
    shape = {mnist: (1, 32, 32), picture_files: (1, 320, 320)}.get(make, SHAPE)
    # Modules that are imported on the way do not count.
    open_dataset(source, shape)
    data, most = peak(lambda: open_dataset(source, shape))
    assert data.train.x.nbytes > 10_000_000
    # The numbers of fp64 files are read as they are, which takes twice the memory of fp32.
    assert most < (3.05 if make is npz_doubles else 1.3) * data.train.x.nbytes


def test_arrays_are_freed_before_the_next_are_made(tmp_path):
    x = np.random.default_rng(0).random((COUNT, *SHAPE))
    y = np.zeros(COUNT, int)
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x, y_test=y)
    del x
    data, most = peak(lambda: open_dataset(tmp_path / "data.npz", SHAPE))
    # In units of a set in fp32: four of the file, one of the first set; then two, and two.
    assert most < 5.1 * data.train.x.nbytes


def test_batches_copy_no_set():
    split = Split(np.zeros((COUNT, *SHAPE), np.float32), np.zeros(COUNT, int))
    batches = Batches(split, 10, augment=Augmentation(True, 4), normalisation=Normalisation(0.5, 1))
    _, most = peak(lambda: sum(len(y) for _, y in batches))
    assert most < 0.1 * split.x.nbytes
    (x, _), most = peak(lambda: batches.epoch(1))
    assert most < 1.1 * x.nbytes
