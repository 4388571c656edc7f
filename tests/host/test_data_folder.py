"""Folders with one sub-folder a class: their layout, what is left out, and what is refused."""

import os
import sys

import numpy as np
import pytest
from data_files import class_folders, pixels, save, scaled, sentence

from eftrain.data import open_dataset
from eftrain.errors import UserError

SHAPE = (1, 5, 4)
NAMES = ("ant", "Bee", "cow")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(path="set", classes=None, shape=SHAPE, **options):
    with pytest.raises(UserError) as error:
        open_dataset(path, shape, classes, **options)
    return sentence(error)


def expected(written, names):
    x = np.concatenate([written[name] for name in names])[:, None]
    return scaled(x), [number for number, name in enumerate(names) for _ in written[name]]


def test_classes_and_pictures_are_sorted_by_name(folder):
    written = class_folders(folder / "set", NAMES, each=3)
    data = open_dataset("set", SHAPE, 3)
    assert data.class_names == ("Bee", "ant", "cow") == tuple(sorted(os.listdir("set")))
    x, y = expected(written, data.class_names)
    assert data.train.x.dtype == np.float32 and np.array_equal(data.train.x, x)
    assert data.train.y.dtype == np.int64 and data.train.y.tolist() == y
    assert data.test is None and data.skipped == ()


@pytest.mark.parametrize("tests", [("test",), ("val",), ("test", "val"), ()])
def test_train_and_test(folder, tests):
    written = class_folders(folder / "set" / "train", NAMES)
    parts = {name: class_folders(folder / "set" / name, NAMES[:1 + number], each=1)
             for number, name in enumerate(tests)}  # fmt: skip
    data = open_dataset(folder / "set", SHAPE, 3)
    x, y = expected(written, sorted(NAMES))
    assert np.array_equal(data.train.x, x) and data.train.y.tolist() == y
    if not tests:
        assert data.test is None
        return
    first = parts[tests[0]]
    assert np.array_equal(data.test.x, scaled(np.concatenate(list(first.values())))[:, None])
    assert data.test.y.tolist() == [1]  # Numbered as in train, where Bee comes before ant.


def test_a_class_may_be_called_train(folder):
    class_folders(folder / "set", ("train", "test", "ship"))
    assert open_dataset("set", SHAPE).class_names == ("ship", "test", "train")


def test_what_systems_leave_behind_is_no_picture_and_no_class(folder):
    class_folders(folder / "set", NAMES)
    for name in ("ant/.DS_Store", "ant/Thumbs.db", "desktop.ini", ".git/a.png", "__MACOSX/ant"):
        (folder / "set" / name).parent.mkdir(exist_ok=True)
        (folder / "set" / name).write_bytes(b"\0")
    (folder / "set" / "README.txt").write_text("About these pictures.")
    data = open_dataset("set", SHAPE, 3)
    assert len(data.train.y) == 6 and data.classes == 3


def test_pictures_are_brought_to_the_networks_shape(folder):
    class_folders(folder / "set", NAMES)
    save(folder / "set" / "cow" / "z.png", np.full((30, 20, 3), (9, 9, 9), np.uint8))
    x = open_dataset("set", (3, 5, 4)).train.x
    assert x.shape == (7, 3, 5, 4) and np.array_equal(x[6], np.full((3, 5, 4), scaled(np.array(9))))


def damage(folder):
    class_folders(folder / "set", NAMES)
    noise = save(folder / "set" / "ant" / "0.png", pixels(1, 1, 40, 40)[0, 0])
    noise.write_bytes(noise.read_bytes()[:-200])
    (folder / "set" / "cow" / "00.txt").write_text("no picture")


def test_an_unreadable_picture_is_named(folder):
    damage(folder)
    text = refused()
    assert text.startswith("set/ant/0.png cannot be read (")
    assert text.endswith("; repair it, or leave it out with --skip-bad.")
    os.remove("set/ant/0.png")
    assert refused().startswith("set/cow/00.txt is no PNG, JPEG")


def test_unreadable_pictures_are_skipped_if_asked(folder):
    damage(folder)
    data = open_dataset("set", SHAPE, skip_bad=True)
    assert len(data.skipped) == 2
    assert data.skipped[0].startswith("set/ant/0.png cannot be read (")
    assert data.skipped[1] == "set/cow/00.txt is no PNG, JPEG, BMP, GIF, PPM, TIFF or WebP picture"
    assert data.skipped_text == f"2 pictures were left out: {'; '.join(data.skipped)}."
    assert data.train.y.tolist() == [0, 0, 1, 2, 2]
    whole = class_folders(folder / "whole", NAMES)
    x = np.concatenate([whole["Bee"], whole["ant"][1:], whole["cow"]])
    assert np.array_equal(data.train.x, scaled(x)[:, None])


def test_the_text_about_many_skipped_pictures_is_short(folder):
    class_folders(folder / "set", NAMES)
    assert open_dataset("set", SHAPE, skip_bad=True).skipped_text == ""
    for number in range(12):
        (folder / "set" / "cow" / f"{number:02}.png").write_bytes(b"")
    data = open_dataset("set", SHAPE, skip_bad=True)
    assert len(data.skipped) == 12
    assert data.skipped_text == (
        f"12 pictures were left out: {'; '.join(data.skipped[:10])}; and 2 more."
    )


def test_a_class_of_bad_pictures_alone(folder):
    class_folders(folder / "set", NAMES)
    for name in "01":
        (folder / "set" / "Bee" / f"{name}.png").write_bytes(b"")
    text = refused(skip_bad=True)
    assert text == "set/Bee has no picture that can be used; add some, or remove the folder."


def test_class_count(folder):
    # Before any picture is read: they are all bad.
    for number in range(12):
        (folder / "set" / f"{number:02}").mkdir(parents=True)
        (folder / "set" / f"{number:02}" / "a.png").write_bytes(b"")
    for classes in (10, 13):
        assert refused(classes=classes) == (
            f"set has 12 classes but the network has {classes}; give --classes 12 for a new last "
            "layer, or other data."
        )


def empty_class(folder):
    (folder / "set" / "dog").mkdir()
    return "set/dog has no pictures; add some, or remove the folder"


def picture_outside(folder):
    save(folder / "set" / "a.jpg", np.zeros((5, 4), np.uint8))
    return r"set has pictures beside its sub-folders \(a.jpg\); put every picture"


def nested(folder):
    (folder / "set" / "cow" / "brown").mkdir()
    return r"set/cow has a sub-folder \(brown\); put the pictures of a class"


def train_beside_classes(folder):
    class_folders(folder / "set" / "train", NAMES)
    return "set has train beside the folder Bee; put every class into train, and into test or val"


@pytest.mark.parametrize("change", [empty_class, picture_outside, nested, train_beside_classes])
def test_layouts(folder, change):
    class_folders(folder / "set", NAMES)
    message = change(folder)
    with pytest.raises(UserError, match=message) as error:
        open_dataset("set", SHAPE)
    sentence(error)


def test_pictures_beside_train(folder):
    class_folders(folder / "set" / "train", NAMES)
    picture_outside(folder)
    assert refused().startswith("set has pictures beside its sub-folders (a.jpg); put every")


def test_test_classes_that_are_not_trained(folder):
    class_folders(folder / "set" / "train", NAMES)
    class_folders(folder / "set" / "test", ("ant", "dog"))
    assert refused().startswith("set/test has the class 'dog', which set/train has not; give both")


def test_test_folder_without_classes(folder):
    class_folders(folder / "set" / "train", NAMES)
    (folder / "set" / "test").mkdir()
    assert refused().startswith("set/test has no sub-folders; give a folder with one sub-folder")


def test_networks_without_pictures(folder):
    class_folders(folder / "set", NAMES)
    for shape in ((20,), (4, 5, 4)):
        assert "has pictures of 1 or 3 channels but the network takes" in refused(shape=shape)


def test_without_pillow(folder, monkeypatch):
    class_folders(folder / "set", NAMES)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert refused() == (
        "Reading the pictures in set needs Pillow, which is not installed: run "
        "`pip install 'eftrain[pictures]'`."
    )
