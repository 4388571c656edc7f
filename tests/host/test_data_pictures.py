"""Single picture files: every kind of pixel, EXIF, resizing, damage."""

import numpy as np
import pytest
import torch
from data_files import pixels, save, scaled, sentence
from PIL import Image

from eftrain.data.pictures import FORMATS, SUFFIXES, BadPicture, read_picture

GREY = pixels(1, 1, 6, 4)[0]
COLOUR = pixels(1, 3, 6, 4)[0]


def channels_last(picture):
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def luma(picture):
    """ITU-R BT.601, rounded to bytes."""
    weights = np.array([0.299, 0.587, 0.114])
    return np.rint(np.tensordot(weights, picture.astype(float), (0, 0)))[None]


def near(found, expected, bytes_=1):
    return np.abs(found * 255 - expected).max() <= bytes_


@pytest.mark.parametrize("end", ["png", "bmp", "ppm", "tif", "webp"])
def test_formats_without_loss(tmp_path, end):
    options = {"lossless": True} if end == "webp" else {}
    path = save(tmp_path / f"a.{end}", channels_last(COLOUR), **options)
    found = read_picture(path, (3, 6, 4))
    assert found.dtype == np.float32 and np.array_equal(found, scaled(COLOUR))


def test_jpeg(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    found = read_picture(save(tmp_path / "a.jpg", flat, quality=95), (3, 16, 16))
    assert near(found, np.array([200, 100, 50])[:, None, None], 3)


def test_gif_of_several_frames_gives_the_first(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (30, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert near(read_picture(tmp_path / "a.gif", (1, 4, 4)), 30, 0)


def test_pictures_of_phones_that_hold_another_one(tmp_path):
    """The multi-picture format: a JPEG file with more behind it."""
    flat = np.full((16, 16, 3), 90, np.uint8)
    path = save(tmp_path / "a.jpg", flat, format="MPO", save_all=True,
                append_images=[Image.fromarray(flat // 2)])  # fmt: skip
    with Image.open(path) as image:
        assert image.format == "MPO"
    assert near(read_picture(path, (3, 16, 16)), 90)


def test_grey_and_colour(tmp_path):
    grey = save(tmp_path / "grey.png", GREY[0])
    assert np.array_equal(read_picture(grey, (1, 6, 4)), scaled(GREY))
    assert np.array_equal(read_picture(grey, (3, 6, 4)), scaled(GREY).repeat(3, 0))
    colour = save(tmp_path / "colour.png", channels_last(COLOUR))
    assert near(read_picture(colour, (1, 6, 4)), luma(COLOUR))


def test_black_and_white(tmp_path):
    image = Image.fromarray(GREY[0] > 100)
    image.save(tmp_path / "a.png")
    assert image.mode == "1"
    assert np.array_equal(read_picture(tmp_path / "a.png", (1, 6, 4)), (GREY > 100) * 1.0)


def test_sixteen_bits(tmp_path):
    values = np.linspace(0, 65535, 24).astype(np.uint16).reshape(6, 4)
    found = read_picture(save(tmp_path / "a.png", values), (1, 6, 4))
    assert np.array_equal(np.rint(found * 255)[0], np.rint(values / 257))


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=1)
    found = read_picture(tmp_path / "a.png", (3, 2, 2))
    expected = np.array([[[10, 20, 30], [255] * 3], [[70, 80, 90], [255] * 3]], np.uint8)
    assert np.array_equal(found, scaled(expected.transpose(2, 0, 1)))


def test_half_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.dstack([channels_last(COLOUR), np.full((6, 4), 128, np.uint8)])
    found = read_picture(save(tmp_path / "a.png", rgba), (3, 6, 4))
    alpha = 128 / 255
    assert near(found, COLOUR * alpha + 255 * (1 - alpha))


ORIENTATIONS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.T,
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].T,
    8: lambda p: np.rot90(p),
}
"""From the stored rows to the upright picture; the tag's definition is in the EXIF standard."""


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("end", ["png", "jpg"])
def test_exif_orientation(tmp_path, orientation, end):
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8], stored[:8, 16:] = 250, 120  # Different in every corner but two.
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{end}", stored, exif=exif)
    upright = ORIENTATIONS[orientation](stored)
    assert near(read_picture(path, (1, *upright.shape)), upright, 0 if end == "png" else 4)


@pytest.mark.parametrize("size", [(9, 5), (3, 2), (12, 3)])
def test_resizing_is_bilinear_with_averaging(tmp_path, size):
    """As PyTorch's interpolation with antialias, which does not round to bytes in between."""
    path = save(tmp_path / "a.png", channels_last(COLOUR))
    expected = torch.nn.functional.interpolate(
        torch.tensor(COLOUR[None], dtype=torch.float32), size=size, mode="bilinear", antialias=True
    )
    assert near(read_picture(path, (3, *size)), expected[0].numpy(), 1.01)


def bad(path, shape=(1, 6, 4)):
    with pytest.raises(BadPicture) as error:
        read_picture(path, shape)
    text = sentence(error)
    assert text.startswith(f"{path} ")
    return text.removeprefix(f"{path} ")


@pytest.mark.parametrize("end", ["png", "jpg", "gif", "bmp", "tif", "webp", "pgm"])
def test_truncated(tmp_path, end):
    path = save(tmp_path / f"a.{end}", pixels(1, 1, 40, 40)[0, 0])
    path.write_bytes(path.read_bytes()[:-300])
    text = bad(path, (1, 40, 40))
    assert text.startswith(("cannot be read (", "is no PNG")), text
    assert text.endswith("; repair it, or leave it out with --skip-bad.")


def test_not_pictures(tmp_path):
    for content in (b"", b"these are no pixels"):
        (tmp_path / "a.png").write_bytes(content)
        assert bad(tmp_path / "a.png").startswith("is no PNG, JPEG, BMP, GIF, PPM, TIFF or WebP p")
    assert bad(tmp_path / "none.png").startswith("cannot be read (")


def test_formats_that_start_programs_are_not_read(tmp_path):
    Image.fromarray(GREY[0]).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "EPS"
    assert bad(tmp_path / "a.png").startswith("is no PNG")


def test_every_format_has_suffixes_that_pillow_knows():
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in SUFFIXES} == set(FORMATS)


def test_pixels_of_32_bits(tmp_path):
    path = save(tmp_path / "a.tif", GREY[0].astype(np.float32))
    assert bad(path) == "has pixels of 32 bits; save it with 8 or 16 bits a pixel."


@pytest.mark.parametrize("limit", [23, 13, 11])
def test_decompression_bombs(tmp_path, monkeypatch, limit):
    """Pillow warns above its limit, and refuses above twice the limit: 24 pixels here."""
    path = save(tmp_path / "a.png", GREY[0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert bad(path) == (
        f"has more than {limit} pixels; make it smaller, or leave it out with --skip-bad."
    )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24)
    assert np.array_equal(read_picture(path, (1, 6, 4)), scaled(GREY))
