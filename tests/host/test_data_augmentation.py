"""Augmentation against plain numpy and PyTorch's operations with the same random numbers."""

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from eftrain.data.augmentation import PURPOSE, Augmentation
from eftrain.data.philox import random_words
from eftrain.errors import UserError

SEED, EPOCH = 11, 3
INDEX = np.arange(100, 164)
BOTH = Augmentation(flip=True, crop=2)


def pictures(count=64, shape=(3, 6, 5)):
    return np.random.default_rng(0).random((count, *shape), np.float32)


def draws(crop, index=INDEX, seed=SEED, epoch=EPOCH):
    """(flipped, rows down, columns right) of each picture, in Python's numbers."""
    for word in random_words(seed, epoch, index, PURPOSE).tolist():
        yield word[0] >= 2**31, word[1] * (2 * crop + 1) // 2**32, word[2] * (2 * crop + 1) // 2**32


def test_equal_to_plain_numpy():
    x = pictures()
    expected = []
    for picture, (flipped, down, right) in zip(x, draws(2), strict=True):
        part = np.pad(picture, [(0, 0), (2, 2), (2, 2)])[:, down : down + 6, right : right + 5]
        expected.append(part[:, :, ::-1] if flipped else part)
    assert np.array_equal(BOTH.apply(x, INDEX, SEED, EPOCH), np.stack(expected))


def test_equal_to_pytorch():
    x = pictures()
    expected = []
    for picture, (flipped, down, right) in zip(torch.tensor(x), draws(2), strict=True):
        part = pad(picture, (2, 2, 2, 2)).narrow(1, down, 6).narrow(2, right, 5)
        expected.append(part.flip(-1) if flipped else part)
    assert np.array_equal(BOTH.apply(x, INDEX, SEED, EPOCH), torch.stack(expected).numpy())


@pytest.mark.parametrize("augmentation", [Augmentation(flip=True), Augmentation(crop=2)])
def test_one_alone_is_drawn_as_in_both(augmentation):
    x = pictures()
    found = augmentation.apply(x, INDEX, SEED, EPOCH)
    for picture, result, (flipped, down, right) in zip(x, found, draws(2), strict=True):
        if augmentation.flip:
            expected = picture[:, :, ::-1] if flipped else picture
        else:
            expected = np.pad(picture, [(0, 0), (2, 2), (2, 2)])
            expected = expected[:, down : down + 6, right : right + 5]
        assert np.array_equal(result, expected)


def test_a_picture_does_not_depend_on_its_batch():
    x = pictures()
    together = BOTH.apply(x, INDEX, SEED, EPOCH)
    some = np.array([40, 3, 17])
    assert np.array_equal(BOTH.apply(x[some], INDEX[some], SEED, EPOCH), together[some])


@pytest.mark.parametrize(("seed", "epoch"), [(SEED + 1, EPOCH), (SEED, EPOCH + 1)])
def test_seed_and_epoch_matter(seed, epoch):
    x = pictures()
    assert np.array_equal(BOTH.apply(x, INDEX, SEED, EPOCH), BOTH.apply(x, INDEX, SEED, EPOCH))
    other = BOTH.apply(x, INDEX, seed, epoch)
    assert not np.array_equal(other, BOTH.apply(x, INDEX, SEED, EPOCH))


def test_the_pictures_stay_as_they_are():
    x = pictures()
    before = x.copy()
    for augmentation in (BOTH, Augmentation(flip=True), Augmentation()):
        augmentation.apply(x, INDEX, SEED, EPOCH)[...] = 7
        assert np.array_equal(x, before)


def test_every_place_and_both_sides_come_equally_often():
    count, crop = 9000, 1
    found = list(draws(crop, np.arange(count)))
    places = np.zeros((2, 3, 3), int)
    for flipped, down, right in found:
        places[int(flipped), down, right] += 1
    # 18 cells of 500; the standard deviation of one is 22.
    assert abs(places - 500).max() < 110
    x = pictures(1).repeat(count, 0)
    different = {
        picture.tobytes()
        for picture in Augmentation(True, 1).apply(x, np.arange(count), SEED, EPOCH)
    }
    assert len(different) == 18


@pytest.mark.parametrize(("text", "augmentation"), [
    ("none", Augmentation()), ("flip", Augmentation(flip=True)), ("crop=4", Augmentation(crop=4)),
    ("flip,crop=4", Augmentation(True, 4)), ("crop=4,flip", Augmentation(True, 4)),
])  # fmt: skip
def test_text(text, augmentation):
    assert Augmentation.parse(text) == augmentation


@pytest.mark.parametrize("text", ["", "flop", "crop", "crop=", "crop=-1", "crop=1.5", "flip,flip",
                                  "crop=1,crop=2", "flip=1", "flip,none"])  # fmt: skip
def test_text_of_another_form(text):
    with pytest.raises(UserError, match=f"augmentation '{text}' is unknown; give none, flip, crop"):
        Augmentation.parse(text)


def test_bad_crops():
    for crop in (-1, 1.5, "4"):
        with pytest.raises(UserError, match="crop is .*; give an integer of 0 or more"):
            Augmentation(crop=crop)
    with pytest.raises(UserError, match="crop is 5, but pictures of 6x5 .* give 4 or less"):
        Augmentation(crop=5).apply(pictures(), INDEX, SEED, EPOCH)
    with pytest.raises(UserError, match="Vectors of 8 cannot be flipped or cropped"):
        Augmentation(flip=True).check((8,))
