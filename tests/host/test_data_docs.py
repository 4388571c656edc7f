"""What docs/data.md shows: its programs, presets and messages."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import idx, pixels, save, write_mnist
from isa_interpreter import InterpretedDevice

import eftrain.devices.sim
from eftrain.data import Augmentation, Normalisation, open_dataset
from eftrain.data.normalisation import PRESETS
from eftrain.data.pictures import FORMATS
from eftrain.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()
SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def colours(folder, count):
    """Pictures of which the brighter colour is the class."""
    for name, channel in (("ant", 0), ("bee", 2)):
        for number, picture in enumerate(pixels(count, *SHAPE, seed=channel)):
            picture[channel] |= 128
            save(folder / name / f"{number}.png", picture.transpose(1, 2, 0).copy())


def test_the_programs_run_and_the_network_learns(folder, monkeypatch, capsys):
    colours(folder / "pictures" / "train", 16)
    colours(folder / "pictures" / "test", 4)
    (folder / "pictures" / "train" / "ant" / "bad.png").write_bytes(b"")
    monkeypatch.setattr(eftrain.devices.sim, "SimDevice", InterpretedDevice)
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(first, names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "32 pictures of ant, bee"
    assert lines[1].startswith("1 picture was left out: pictures/train/ant/bad.png is no PNG")
    assert float(lines[3]) < float(lines[2])
    assert eval(lines[4])["accuracy"] > 0.9
    batches = names["batches"]
    next(iter(batches))
    exec(second, names)
    for (x, y), (u, v) in zip(names["resumed"], batches, strict=True):
        assert np.array_equal(x, u) and np.array_equal(y, v)


def test_presets():
    rows = re.findall(r"^\| `(\S+)` \| ([\d., ]+) \| ([\d., ]+) \|$", PAGE, re.MULTILINE)
    assert {name for name, _, _ in rows if "/" not in name} == set(PRESETS)
    for name, *values in rows:
        mean, std = ([float(value) for value in cell.split(",")] for cell in values)
        assert Normalisation.parse(name) == Normalisation(mean, std)
    (text,) = re.findall(r'Augmentation.parse\("(.*?)"\)', PAGE)
    assert Augmentation.parse(text) == Augmentation(flip=True, crop=4)


def test_formats():
    (cell,) = re.findall(r"^\| folder of pictures \| (.*?) files", PAGE, re.MULTILINE)
    assert set(cell.upper().replace(" AND", ",").split(", ")) == set(FORMATS)


def classes(folder):
    for name in ("ant", "bee", "cow"):
        save(folder / "pictures" / name / "0.png", np.zeros((4, 4), np.uint8))


def bad_picture(folder):
    for name in ("ant", "bee"):
        (folder / "pictures" / name).mkdir(parents=True)
        (folder / "pictures" / name / "0.jpg").write_bytes(b"")


def empty_class(folder):
    classes(folder)
    (folder / "pictures" / "cow" / "0.png").unlink()


def layouts(folder):
    classes(folder)
    save(folder / "pictures" / "a.png", np.zeros((4, 4), np.uint8))


def mnist(folder, content):
    write_mnist(folder / "mnist", "train", pixels(10, 1, 28, 28)[:, 0], [0] * 10)
    (folder / "mnist" / "train-images-idx3-ubyte").write_bytes(content)


class Trap:
    def __reduce__(self):
        return eval, ("1",)


def cifar(folder):
    (folder / "cifar").mkdir()
    for number in range(1, 6):
        (folder / "cifar" / f"data_batch_{number}").write_bytes(pickle.dumps(Trap()))


def arrays(shape, value=0.0, label=0):
    np.savez("data.npz", x=np.full((1, *shape), value), y=np.array([label]))


CAUSES = {
    "another number of classes": ("pictures", 2, classes),
    "a label below 0": ("data.npz", 2, lambda folder: arrays(SHAPE, label=-1)),
    "an unreadable picture": ("pictures", 2, bad_picture),
    "a class without pictures": ("pictures", 3, empty_class),
    "several layouts": ("pictures", 3, layouts),
    "a truncated file": (
        "mnist", 10, lambda folder: mnist(folder, idx(pixels(10, 1, 28, 28)[:, 0])[:20])),
    "another file": ("mnist", 10, lambda folder: mnist(folder, b"<html>")),
    "a pickle that is a trap": ("cifar", 10, cifar),
    "another shape": ("data.npz", 2, lambda folder: arrays((3, 8, 8))),
    "not finite": ("data.npz", 2, lambda folder: arrays(SHAPE, np.nan)),
}  # fmt: skip


MESSAGES = dict(re.findall(r"^\| ([a-z 0-9]+) \| `(.*\.)` \|$", PAGE, re.MULTILINE))


def test_every_message_has_a_cause():
    assert MESSAGES.keys() == CAUSES.keys()


@pytest.mark.parametrize("what", CAUSES)
def test_messages(folder, what):
    source, count, make = CAUSES[what]
    make(folder)
    with pytest.raises(UserError) as error:
        open_dataset(source, SHAPE, count)
    assert str(error.value) == MESSAGES[what]
