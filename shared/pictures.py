"""Encoded pictures in, RGB out, for harvest and for training. Pillow's errors stop here: whatever it raises becomes PictureUnreadable."""

import io
from typing import Final

from PIL import Image, ImageOps

from shared.errors import PictureUnreadable
from shared.pixels import MAX_PIXELS

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What data sets are made of; Pillow knows dozens more, most of them seldom fuzzed."""


def rgb_picture(content: bytes) -> Image.Image:
    """An encoded picture, upright, in 8 bits each of red, green and blue. Raises PictureUnreadable."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check(image)
            return ImageOps.exif_transpose(image).convert("RGB")
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
