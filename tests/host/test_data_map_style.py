"""Map-style data sets of PyTorch: what DataLoader gives, and what is refused."""

import numpy as np
import pytest
import torch
from data_files import pixels, scaled, sentence
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from eftrain.data import open_dataset
from eftrain.errors import UserError

SHAPE = (3, 4, 5)
PICTURES = pixels(6, *SHAPE)
LABELS = [0, 2, 1, 1, 0, 2]


class Items(Dataset):
    """Some pictures of any kind with their labels."""

    def __init__(self, pictures, labels=LABELS, classes=None):
        self.items = list(zip(pictures, labels, strict=False))
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        picture, label = self.items[number]
        if isinstance(picture, Exception):
            raise picture
        return picture, label


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(PICTURES, LABELS, strict=True))


def refused(source, classes=None, shape=SHAPE, **options):
    with pytest.raises(UserError) as error:
        open_dataset(source, shape, classes, **options)
    return sentence(error)


def images(pictures):
    return [Image.fromarray(np.ascontiguousarray(p.transpose(1, 2, 0))) for p in pictures]


def test_the_pictures_of_pytorchs_loader():
    source = TensorDataset(torch.tensor(scaled(PICTURES)), torch.tensor(LABELS))
    data = open_dataset(source, SHAPE, 3)
    ((x, y),) = DataLoader(source, batch_size=6)
    assert data.train.x.dtype == np.float32 and np.array_equal(data.train.x, x.numpy())
    assert data.train.y.dtype == np.int64 and data.train.y.tolist() == y.tolist()
    assert data.class_names == ("0", "1", "2") and data.test is None and data.skipped == ()


@pytest.mark.parametrize("make", [
    torch.tensor, np.asarray, images, lambda x: x.tolist() and torch.tensor(scaled(x)),
    lambda x: scaled(x).astype(np.float64), list,
])  # fmt: skip
def test_kinds_of_pictures(make):
    data = open_dataset(Items(make(PICTURES)), SHAPE)
    assert np.array_equal(data.train.x, scaled(PICTURES))


@pytest.mark.parametrize("labels", [
    LABELS, np.array(LABELS), np.array(LABELS, np.uint8), torch.tensor(LABELS),
    torch.tensor(LABELS)[:, None],
])  # fmt: skip
def test_kinds_of_labels(labels):
    assert open_dataset(Items(PICTURES, labels), SHAPE).train.y.tolist() == LABELS


def test_anything_with_a_length_and_items():
    data = open_dataset(list(zip(PICTURES, LABELS, strict=True)), SHAPE, 3)
    assert np.array_equal(data.train.x, scaled(PICTURES))
    data = open_dataset(Subset(Items(PICTURES), [4, 1]), SHAPE, 3)
    assert np.array_equal(data.train.x, scaled(PICTURES[[4, 1]]))


def test_images_are_brought_to_the_networks_shape():
    data = open_dataset(Items(images(np.full((6, 3, 9, 9), 40, np.uint8))), (1, 2, 2))
    assert np.array_equal(data.train.x, np.full((6, 1, 2, 2), scaled(np.array(40))))


def test_grey_pictures_need_no_channel():
    grey = pixels(6, 1, 4, 5)
    assert np.array_equal(open_dataset(Items(grey[:, 0]), (1, 4, 5)).train.x, scaled(grey))


def test_test_set_and_class_names():
    names = ["ant", "bee", "cow"]
    data = open_dataset(Items(PICTURES, classes=names), SHAPE, 3, test=Items(PICTURES[3:], [2] * 3))
    assert data.class_names == tuple(names)
    assert np.array_equal(data.test.x, scaled(PICTURES[3:])) and data.test.y.tolist() == [2] * 3


def test_a_sets_class_names_are_counted_before_it_is_read():
    source = Items([RuntimeError()] * 6, classes=["ant", "bee", "cow"])
    for classes in (2, 4):
        assert refused(source, classes) == (
            f"The data set has 3 classes but the network has {classes}; give --classes 3 for a new "
            "last layer, or other data."
        )


@pytest.mark.parametrize("classes", [None, 2])
def test_labels_without_a_name(classes):
    source = Items(PICTURES, classes=["ant", "bee"])
    assert refused(source, classes) == (
        "The data set goes up to label 2 but names 2 classes; number them from 0."
    )


def test_items_that_cannot_be_read():
    pictures = [*scaled(PICTURES)]
    pictures[1], pictures[4] = OSError("broken\nfile."), np.full(SHAPE, np.nan)
    source = Items(pictures)
    assert refused(source) == (
        "Item 1 of the data set cannot be read (OSError: broken file); repair it, or leave it out "
        "with --skip-bad."
    )
    data = open_dataset(source, SHAPE, skip_bad=True)
    assert data.skipped == (
        "Item 1 of the data set cannot be read (OSError: broken file)",
        "Item 4 of the data set has values that are not finite in fp32",
    )
    assert np.array_equal(data.train.x, scaled(PICTURES[[0, 2, 3, 5]]))
    assert data.train.y.tolist() == [0, 1, 1, 2]
    assert "The data set has no picture that can be used" in refused(
        Items([OSError()] * 6), skip_bad=True
    )


@pytest.mark.parametrize(("source", "words"), [
    (Items(PICTURES, [0, 1, 11, 0, 0, 0]), "goes up to label 11, so it has 12 classes but the"),
    (Items(PICTURES, [0, -1, 0, 0, 0, 0]), "label -1 at sample 1; number the classes from 0"),
    (Items(PICTURES, [0.0] * 6), "Item 0 of the data set has a float as its label"),
    (Items(PICTURES, ["ant"] * 6), "has a str as its label; give the number of a class"),
    (Items(PICTURES, torch.eye(6, dtype=int)), "has a Tensor as its label"),
    (Items(PICTURES.transpose(0, 2, 3, 1)),
     "shape (4, 5, 3) but the network takes (3, 4, 5); resize it and put channels first."),
    (Items(pixels(6, 3, 5, 5)), "shape (3, 5, 5) but the network takes (3, 4, 5); resize it."),
    (Items(["a.png"] * 6), "has a str as its picture; give a tensor, an array or a Pillow image"),
    (Items(torch.zeros(6, *SHAPE, requires_grad=True)), "has a Tensor as its picture"),
    (Items(PICTURES.astype(int)), "or uint8 from 0 to 255"),
    (Items(scaled(PICTURES) - 0.5), "give pictures from 0 to 1 that are not normalised yet"),
    (Items([]), "The data set has no picture that can be used"),
    ([(PICTURES[0], 0, 0)], "Item 0 of the data set is a tuple; give pairs of picture and label"),
    (PICTURES, "Item 0 of the data set is a ndarray; give pairs"),
    (3, "The data is a int; give an .npz file, a folder"),
    (None, "The data is a NoneType; give"),
    (Stream(), "The data is a Stream; give"),
])  # fmt: skip
def test_refused(source, words):
    assert words in refused(source, 10)


def test_test_sets_of_another_kind():
    assert "The test data is a int; give" in refused(Items(PICTURES), test=3)
    assert "Item 0 of the test data set is a float" in refused(Items(PICTURES), test=[0.5])
    assert refused("set", test=Items(PICTURES)).startswith("test goes with a data set object only")


def test_normalised_pictures_are_taken_if_allowed():
    x = scaled(PICTURES) - np.float32(0.5)
    assert np.array_equal(open_dataset(Items(x), SHAPE, any_values=True).train.x, x)


def test_images_for_a_network_of_vectors():
    assert "but the network takes vectors; give arrays" in refused(
        Items(images(PICTURES)), 3, (60,)
    )
    data = open_dataset(Items(torch.arange(12.0).reshape(6, 2)), (2,))
    assert data.train.x.tolist() == [[2.0 * n, 2.0 * n + 1] for n in range(6)]
