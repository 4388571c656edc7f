"""Single pictures: read with Pillow, and brought to a network's channels and size.

Pillow is needed for picture files, and where pictures are not of the network's size already.
"""

import warnings

import numpy as np

from ..errors import UserError
from .arrays import MAX_BYTE

__all__ = ["FORMATS", "SUFFIXES", "BadPicture", "from_bytes", "from_image", "read_picture"]

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Pillow's name of each format that is read, and how its files end.

No others, whatever a file says of itself: Pillow hands some of them (EPS) to other programs.
"""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
READ = "PNG, JPEG, BMP, GIF, PPM, TIFF or WebP"

_MODES = {1: "L", 3: "RGB"}
_BACKGROUND = "white"


class BadPicture(UserError):
    """A picture that cannot be used; the others may be.

    Attributes
    ----------
    what : str
        The sentence without its advice and full stop.
    """

    def __init__(self, what, fix="repair it, or leave it out with --skip-bad"):
        super().__init__(f"{what}; {fix}.")
        self.what = what


def pillow(why):
    """The modules Image and ImageOps; ``UserError`` if Pillow is not installed."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UserError(
            f"{why} needs Pillow, which is not installed: run `pip install 'eftrain[pictures]'`."
        ) from None
    return Image, ImageOps


def read_picture(path, shape):
    """A picture file as ``from_image`` gives it, turned upright as its EXIF data says.

    Raises
    ------
    BadPicture
        If it is no picture of ``FORMATS``, is damaged, or has more pixels than Pillow's limit
        against decompression bombs.
    """
    Image, ImageOps = pillow(f"Reading {path}")
    try:
        with warnings.catch_warnings():
            # Above the limit Pillow warns, and refuses only what is twice as large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=tuple(FORMATS)) as image:
                return from_image(ImageOps.exif_transpose(image), shape, path)
    except (BadPicture, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(
            f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels",
            "make it smaller, or leave it out with --skip-bad",
        ) from None
    except Image.UnidentifiedImageError:
        raise BadPicture(f"{path} is no {READ} picture") from None
    except Exception as error:  # Decoders of damaged files raise all kinds.
        text = " ".join(str(error).split()).rstrip(".")
        raise BadPicture(f"{path} cannot be read ({text or type(error).__name__})") from None


def from_image(image, shape, what):
    """A Pillow image as fp32 ``[C, H, W]`` from 0 to 1.

    Grey is luma (ITU-R BT.601); transparent pixels lie on white; pictures of 16 bits are rounded to
    8. It is then resized to H x W with Pillow's bilinear filter, which averages over all pixels
    where it makes a picture smaller; the aspect ratio is not kept.

    Raises
    ------
    BadPicture
        If the image has pixels of another kind, such as floats.
    """
    Image, _ = pillow(f"Reading {what}")
    channels, rows, cols = shape
    if image.mode.startswith("I;16"):
        words = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((words * MAX_BYTE + 32767) // 65535).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise BadPicture(f"{what} has pixels of 32 bits", "save it with 8 or 16 bits a pixel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, _BACKGROUND)
        image = Image.alpha_composite(background, image)
    if image.mode != _MODES[channels]:
        image = image.convert("RGB").convert(_MODES[channels])
    if image.size != (cols, rows):
        image = image.resize((cols, rows), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(rows, cols, channels)
    return pixels.transpose(2, 0, 1) / np.float32(MAX_BYTE)


def from_bytes(parts, shape, what):
    """Pictures in bytes as fp32 ``[N, C, H, W]`` from 0 to 1, in the network's shape.

    Parameters
    ----------
    parts : list of uint8 array ``[n, 1 or 3, rows, columns]``
        All of them but for n of one shape.
    shape : tuple
        (C, H, W) of the network. Pictures of another shape are treated as by ``from_image``.
    what : str
        How messages name them.
    """
    result = np.empty((sum(map(len, parts)), *shape), np.float32)
    first = 0
    for part in parts:
        target = result[first : first + len(part)]
        first += len(part)
        if part.shape[1:] == shape:
            np.divide(part, np.float32(MAX_BYTE), out=target)
            continue
        Image, _ = pillow(f"Resizing the pictures in {what} to {'x'.join(map(str, shape))}")
        for picture, place in zip(part, target, strict=True):
            pixels = picture.transpose(1, 2, 0) if len(picture) > 1 else picture[0]
            place[...] = from_image(Image.fromarray(pixels), shape, what)
    return result
