"""What all parts mean by a picture."""

from typing import Final

MAX_PIXELS: Final = 4096 * 2176
"""Of a picture, be it a frame of a video or a file of a data set."""

LUMA: Final = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R BT.601 luma; they sum to 1."""
