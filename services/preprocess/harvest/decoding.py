"""Encoded pictures in, pixels out."""

from pathlib import Path

import numpy as np

from services.preprocess.arrays import Pixels
from shared.pictures import rgb_picture
from shared.videos import storage_errors


def picture_file(path: Path) -> Pixels:
    """A picture file as uint8 RGB (H, W, 3). Raises PictureUnreadable; StorageError when the file cannot be read at all."""
    with storage_errors():
        content = path.read_bytes()
    return picture(content)


def picture(content: bytes) -> Pixels:
    """An encoded picture as uint8 RGB (H, W, 3), upright. Raises PictureUnreadable."""
    return np.asarray(rgb_picture(content))
