"""Encoded pictures in, RGB out. Pillow's errors stop here: whatever it raises becomes PictureUnreadable."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from services.preprocess.decode.limits import MAX_PIXELS
from services.preprocess.faces.regions import Pixels
from shared.errors import PictureUnreadable
from shared.videos import storage_errors

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What data sets are made of; Pillow knows dozens more, most of them seldom fuzzed."""


def picture_file(path: Path) -> Pixels:
    """A picture file as uint8 RGB (H, W, 3). Raises PictureUnreadable; StorageError when the file cannot be read at all."""
    with storage_errors():
        content = path.read_bytes()
    return picture(content)


def picture(content: bytes) -> Pixels:
    """An encoded picture as uint8 RGB (H, W, 3), upright. Raises PictureUnreadable."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check(image)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except PictureUnreadable:
        raise
    except Exception as error:  # damaged files also raise SyntaxError, ValueError, EOFError, struct.error
        raise PictureUnreadable(str(error) or type(error).__name__) from error


def check(image: Image.Image) -> None:
    """Before anything is decoded: a picture that is too large, or of more than 8 bits, which converting would cut off at white."""
    if image.width * image.height > MAX_PIXELS:
        raise PictureUnreadable(f"{image.width} x {image.height} pixels")
    if image.mode.startswith(("I", "F")):
        raise PictureUnreadable(f"pixels of mode {image.mode}, not of 8 bits")
