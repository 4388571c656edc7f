"""Arrays in .npz files: what is taken, how values are scaled, and what is refused."""

import numpy as np
import pytest
import torch
from data_files import pixels, scaled, sentence

from eftrain.data import Normalisation, open_dataset
from eftrain.errors import UserError

SHAPE = (3, 4, 5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**arrays):
    base = {"x": pixels(6, *SHAPE), "y": np.array([0, 3, 1, 2, 0, 1])} | arrays
    np.savez("data.npz", **{name: value for name, value in base.items() if value is not None})
    return "data.npz"


def refused(path, classes=None, shape=SHAPE, **options):
    with pytest.raises(UserError) as error:
        open_dataset(path, shape, classes, **options)
    return sentence(error)


def test_bytes_are_divided_by_255_as_pytorch_does():
    x = pixels(6, *SHAPE)
    data = open_dataset(write(x=x), SHAPE, 4)
    assert data.train.x.dtype == np.float32
    assert np.array_equal(data.train.x, torch.tensor(x).to(torch.float32).div(255).numpy())
    assert data.train.y.dtype == np.int64 and data.train.y.tolist() == [0, 3, 1, 2, 0, 1]
    assert data.test is None and data.normalisation is None and data.skipped == ()
    assert data.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are(kind):
    x = np.random.default_rng(0).random((6, *SHAPE)).astype(kind)
    x[0, 0, 0, :2] = 0, 1
    assert np.array_equal(open_dataset(write(x=x), SHAPE).train.x, x.astype(np.float32))


def test_test_pictures():
    x, y = pixels(2, *SHAPE, seed=1), np.array([5, 0])
    data = open_dataset(write(x_test=x, y_test=y), SHAPE)
    assert np.array_equal(data.test.x, scaled(x)) and data.test.y.tolist() == [5, 0]
    assert data.classes == 6  # Label 5 is in the test pictures only.


def test_grey_pictures_need_no_channel():
    x = pixels(6, 1, 4, 5)
    assert np.array_equal(open_dataset(write(x=x[:, 0]), (1, 4, 5)).train.x, scaled(x))


def test_mean_and_std_are_told_but_not_applied():
    data = open_dataset(write(mean=np.array([0.1, 0.2, 0.3]), std=np.array([1, 2, 3])), SHAPE)
    assert data.normalisation == Normalisation((0.1, 0.2, 0.3), (1, 2, 3))
    assert np.array_equal(data.train.x, scaled(pixels(6, *SHAPE)))


def test_vectors_may_hold_any_numbers():
    x = np.array([[-3.0, 7], [200, 0], [1, 1]])
    assert np.array_equal(open_dataset(write(x=x, y=np.arange(3)), (2,)).train.x, x)


def test_normalised_pictures_are_taken_if_allowed():
    x = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
    assert np.array_equal(open_dataset(write(x=x), SHAPE, any_values=True).train.x, x)
    assert "give pictures from 0 to 1 that are not normalised yet" in refused(write(x=x))


def test_a_network_may_have_more_classes_than_the_labels():
    data = open_dataset(write(), SHAPE, 10)
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize("changes, words", [
    ({"y": np.array([0, 11, 1, 2, 0, 1])},
     "y in data.npz goes up to label 11, so it has 12 classes but the network has 10; "
     "give --classes 12 for a new last layer"),
    ({"x_test": pixels(1, *SHAPE), "y_test": np.array([10])}, "y_test in data.npz goes up to"),
    ({"y": np.array([0, 1, -2, 2, 0, 1])}, "label -2 at sample 2; number the classes from 0"),
    ({"y": np.arange(5)}, "y in data.npz has shape (5,) for 6 samples"),
    ({"y": np.eye(6, dtype=int)}, "y in data.npz has shape (6, 6) for 6 samples"),
    ({"y": np.arange(6) / 2}, "y in data.npz holds float64; give integer class numbers"),
    ({"x": pixels(6, 3, 5, 4)}, "samples of 3x5x4 but the network takes 3x4x5"),
    ({"x": pixels(6, 4, 5, 3)}, "x in data.npz has its channels last (4x5x3); put them first"),
    ({"x": np.full((6, *SHAPE), np.nan)}, "x in data.npz holds nan at sample 0"),
    ({"x": np.full((6, *SHAPE), 1e300)}, "x in data.npz holds inf at sample 0"),
    ({"x": np.full((6, *SHAPE), 200.0)}, "goes from 200 to 200; give pictures from 0 to 1"),
    ({"x": np.full((6, *SHAPE), 200)}, "or uint8 from 0 to 255"),
    ({"x": np.zeros((0, *SHAPE)), "y": np.zeros(0, int)}, "x in data.npz is empty"),
    ({"x": np.array([np.zeros(3), np.zeros(2)], object)}, "x in data.npz is ragged"),
    ({"x": None}, "has no x; save x, y with np.savez"),
    ({"y_test": np.arange(2)}, "has no x_test; save x, y, x_test, y_test with"),
    ({"mean": np.zeros(3)}, "has no std; save x, y, mean, std with"),
    ({"mean": np.zeros(3), "std": np.zeros(3)}, "std holds 0; give numbers above 0"),
])  # fmt: skip
def test_refused(changes, words):
    assert words in refused(write(**changes), 10)


def test_truncated_files(folder):
    content = (folder / write()).read_bytes()
    (folder / "data.npz").write_bytes(content[:-40])
    assert "data.npz is not a readable .npz file" in refused("data.npz")
    # A byte of the pictures in the middle: zip files check every member.
    (folder / "data.npz").write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    assert "x in data.npz is damaged" in refused("data.npz")


@pytest.mark.parametrize("field", [8, 10])
def test_members_that_zipfile_cannot_read(folder, field):
    """Flags that say encrypted, and a compression method that does not exist."""
    content = bytearray((folder / write()).read_bytes())
    for start, place in ((b"PK\1\2", field), (b"PK\3\4", field - 2)):
        content[content.index(start) + place] = 97
    (folder / "data.npz").write_bytes(content)
    assert "x in data.npz is damaged" in refused("data.npz")


def test_pickled_arrays_are_not_loaded(folder):
    class Trap:
        def __reduce__(self):
            return (folder / "ran").touch, ()

    assert "ragged or not numeric" in refused(write(y=np.array([Trap()] * 6, object)))
    assert not (folder / "ran").exists()


def test_fp32_pictures_are_not_copied():
    from eftrain.data.arrays import to_split

    x = np.zeros((2, *SHAPE), np.float32)
    assert to_split(x, np.arange(2), SHAPE, 2, ("x", "y")).x is x
