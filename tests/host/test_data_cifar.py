"""CIFAR's four forms: against their known offsets, with names, and damaged."""

import pickle

import numpy as np
import pytest
from data_files import cifar_binary, pixels, python2_pickle, scaled, sentence

from eftrain.data import open_dataset
from eftrain.errors import UserError

SHAPE = (3, 32, 32)
EACH = 2
PICTURES = pixels(6 * EACH, *SHAPE)
LABELS = [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 9, 0]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = [f"thing_{number}" for number in range(100)]


def parts():
    """Name of each batch of CIFAR-10, its pictures and labels."""
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for number, name in enumerate(names):
        chosen = slice(number * EACH, (number + 1) * EACH)
        yield name, PICTURES[chosen], LABELS[chosen]


@pytest.fixture
def binary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    for name, pictures, labels in parts():
        (folder / f"{name}.bin").write_bytes(cifar_binary(pictures, labels))
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    (folder / "readme.html").write_text("<html>")
    return folder


def python_batch(pictures, **labels):
    content = {"batch_label": b"training batch 1 of 5", **labels, "filenames": [b"a.png", b"b.png"]}
    return python2_pickle(content | {"data": pictures.reshape(len(pictures), 3072)})


@pytest.fixture
def python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    for name, pictures, labels in parts():
        (folder / name).write_bytes(python_batch(pictures, labels=labels))
    names = [name.encode() for name in CLASSES]
    (folder / "batches.meta").write_bytes(python2_pickle({"label_names": names}))
    return folder


def refused(classes=None, shape=SHAPE, path="set"):
    with pytest.raises(UserError) as error:
        open_dataset(path, shape, classes)
    return sentence(error)


def assert_cifar10(data):
    assert data.train.x.dtype == np.float32 and data.train.y.dtype == np.int64
    assert np.array_equal(data.train.x, scaled(PICTURES[:10]))
    assert np.array_equal(data.test.x, scaled(PICTURES[10:]))
    assert data.train.y.tolist() == LABELS[:10] and data.test.y.tolist() == LABELS[10:]
    assert data.class_names == tuple(CLASSES)


def test_cifar10_binary(binary):
    content = np.frombuffer((binary / "data_batch_1.bin").read_bytes(), np.uint8)
    assert content.size == EACH * 3073
    data = open_dataset("set", SHAPE, 10)
    # Label, then the rows of red, green and blue.
    assert [content[0], content[3073]] == data.train.y[:2].tolist()
    assert np.array_equal(scaled(content[3073 + 1 + 1024 :][:32]), data.train.x[1, 1, 0])
    assert_cifar10(data)


def test_cifar10_python(python):
    assert_cifar10(open_dataset("set", SHAPE, 10))


def test_cifar10_without_names_and_test(binary):
    (binary / "batches.meta.txt").unlink()
    (binary / "test_batch.bin").unlink()
    data = open_dataset("set", SHAPE)
    assert data.class_names == tuple("0123456789") and data.test is None


@pytest.mark.parametrize("version", ["python", "binary"])
def test_cifar100_has_its_fine_classes(tmp_path, version):
    coarse, fine = [19, 11], [99, 0]
    for name, pictures in (("train", PICTURES[:2]), ("test", PICTURES[2:4])):
        if version == "python":
            content = python_batch(pictures, coarse_labels=coarse, fine_labels=fine)
            (tmp_path / name).write_bytes(content)
        else:
            (tmp_path / f"{name}.bin").write_bytes(cifar_binary(pictures, coarse, fine))
    if version == "python":
        names = {"coarse_label_names": ["x"] * 20, "fine_label_names": FINE}
        (tmp_path / "meta").write_bytes(pickle.dumps(names))
    else:
        (tmp_path / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    data = open_dataset(tmp_path, SHAPE, 100)
    assert np.array_equal(data.train.x, scaled(PICTURES[:2]))
    assert np.array_equal(data.test.x, scaled(PICTURES[2:4]))
    assert data.train.y.tolist() == data.test.y.tolist() == fine
    assert data.class_names == tuple(FINE)


def test_brought_to_one_channel_and_another_size(binary):
    x = open_dataset("set", (1, 8, 8)).train.x
    weights = np.array([0.299, 0.587, 0.114])
    grey = np.tensordot(PICTURES[:10].astype(float), weights, (1, 0))
    # Away from the edges a bilinear reduction by 4 has the same mean as its pixels, nearly.
    assert x.shape == (10, 1, 8, 8)
    assert np.abs(x.mean((1, 2, 3)) * 255 - grey.mean((1, 2))).max() < 4


@pytest.mark.parametrize("bytes_", [1, 3072])
def test_truncated_binary(binary, bytes_):
    path = binary / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-bytes_])
    assert refused() == (
        f"set/data_batch_3.bin has {EACH * 3073 - bytes_} bytes; expected a multiple of 3073, the "
        "bytes of a picture of CIFAR-10 (binary), so get the file again."
    )
    path.write_bytes(b"")
    assert "set/data_batch_3.bin has 0 bytes; expected a multiple of 3073" in refused()


def test_truncated_python(python):
    path = python / "test_batch"
    path.write_bytes(path.read_bytes()[:-500])
    assert refused().startswith("set/test_batch ends too early or is no pickle (")


def test_a_batch_that_would_run_something(python, tmp_path):
    mark = tmp_path / "mark"

    class Trap:
        def __reduce__(self):
            return mark.mkdir, ()

    (python / "data_batch_2").write_bytes(pickle.dumps({"data": Trap()}))
    assert refused().startswith("set/data_batch_2 asks to run ")
    assert not mark.exists()


@pytest.mark.parametrize("names", [["data_batch_2"], ["data_batch_2", "data_batch_4"]])
def test_missing_batches(python, names):
    for name in names:
        (python / name).unlink()
    assert (
        refused() == f"set has no {' and no '.join(names)}; put CIFAR-10 (python) there as a whole."
    )


@pytest.mark.parametrize("classes", [4, 100])
def test_class_count(binary, classes):
    (binary / "data_batch_1.bin").write_bytes(b"")  # Not read: nothing else is looked at before.
    assert refused(classes) == (
        f"CIFAR-10 (binary) in set has 10 classes but the network has {classes}; give --classes 10 "
        "for a new last layer, or other data."
    )


def test_labels_outside_in_binary(binary):
    (binary / "data_batch_1.bin").write_bytes(cifar_binary(PICTURES[:2], [0, 10]))
    assert refused() == (
        "The labels in set/data_batch_1.bin have 10 at picture 1; CIFAR-10 (binary) has classes 0 "
        "to 9, so get the file again."
    )


def test_labels_outside_in_python(python):
    (python / "data_batch_1").write_bytes(python_batch(PICTURES[:2], labels=[11, 0]))
    assert refused().startswith("The labels in set/data_batch_1 have 11 at picture 0; CIFAR-10 (p")


@pytest.mark.parametrize(("content", "words"), [
    ({"data": PICTURES[:2].reshape(2, 3072)}, "has no labels, so it is no batch of CIFAR-10"),
    ({"labels": [1, 2]}, "has no data, so it is no batch"),
    ({"data": PICTURES[:2], "labels": [1, 2]}, "is (2, 3, 32, 32); expected bytes of shape"),
    ({"data": b"", "labels": []}, "is bytes; expected bytes of shape (pictures, 3072)"),
    ({"data": PICTURES[:2].reshape(2, 3072), "labels": [1]}, "has shape (1,) for 2 samples"),
    ({"data": PICTURES[:2].reshape(2, 3072), "labels": b"ab"}, "give"),
])  # fmt: skip
def test_other_pickles(python, content, words):
    (python / "data_batch_1").write_bytes(python2_pickle(content))
    text = refused()
    assert "set/data_batch_1 " in text and words in text


def test_names_of_another_number(binary):
    (binary / "batches.meta.txt").write_text("cat\ndog\n")
    assert refused().startswith("set/batches.meta.txt names 2 classes; CIFAR-10 (binary) has 10")
