"""Turning decoded pictures into what is looked at: upright, of square pixels, as BT.709 RGB."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.preprocess.decode.colour import Curve, sdr_rgb
from services.preprocess.decode.orientation import DISPLAY_MATRIX_BYTES, Orientation

WIDEST_PIXEL: Final = 4
"""Anamorphic lenses and old television go up to 2; a shape of pixel beyond this is nonsense, and passed over."""

STANDARD_DEFINITION: Final = (1279, 576)
"""The largest picture whose colours are BT.601's where nothing says so; players do the same."""
UNTOLD: Final = 2
"""H.273's number for a matrix that is not told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """What every frame of a video is brought to: the first frame's size with square pixels, and the way it is held."""

    width: int
    height: int
    orientation: Orientation

    @classmethod
    def of(cls, picture: VideoFrame, *, pixel_shape: Fraction | None, max_pixels: int) -> Self:
        """pixel_shape: a stored pixel's width by its height; None or 0 where nothing says."""
        matrix = picture.side_data.get("DISPLAYMATRIX")
        asked = bytes(matrix) if isinstance(matrix, SideData) else b""
        orientation = Orientation.of(asked) if len(asked) >= DISPLAY_MATRIX_BYTES else Orientation()
        width, height = square(picture.width, picture.height, pixel_shape or Fraction(1), max_pixels=max_pixels)
        return cls(width=width, height=height, orientation=orientation)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the frames as they are handed out."""
        return (self.height, self.width) if self.orientation.transpose else (self.width, self.height)

    def upright_rgb(self, picture: VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
        """`converter` is reused from picture to picture: its tables cost more than a small picture does."""
        return self.orientation.apply(rgb(picture, converter, width=self.width, height=self.height))


def square(width: int, height: int, pixel_shape: Fraction, *, max_pixels: int) -> tuple[int, int]:
    """The size that shows a picture with square pixels: the side with fewer of them grows, as far as `max_pixels` go."""
    if not Fraction(1, WIDEST_PIXEL) <= pixel_shape <= WIDEST_PIXEL:
        return width, height
    widened, heightened = width * max(pixel_shape, Fraction(1)), height * max(1 / pixel_shape, Fraction(1))
    excess = max(1, (widened * heightened / max_pixels) ** 0.5)
    return max(1, int(widened / excess)), max(1, int(heightened / excess))


def rgb(picture: VideoFrame, converter: VideoReformatter, *, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3), converted by the matrix, range and curve that the picture says it was made with."""
    curve = hdr_curve(picture)
    resized = (width, height) != (picture.width, picture.height)
    converted = converter.reformat(
        picture,
        format="rgb24" if curve is None else "rgb48le",
        width=width,
        height=height,
        src_colorspace=_untold_colours(picture) if picture.colorspace == UNTOLD else None,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC if resized else None,
        threads=1,  # decoding has threads enough
    )
    pixels = converted.to_ndarray()
    return pixels.astype(np.uint8, copy=False) if curve is None else sdr_rgb(pixels.astype(np.uint16, copy=False), curve)


def hdr_curve(picture: VideoFrame) -> Curve | None:
    """None for the standard dynamic range."""
    return Curve(picture.color_trc) if picture.color_trc in {*Curve} else None


def _untold_colours(picture: VideoFrame) -> Colorspace:
    width, height = STANDARD_DEFINITION
    if hdr_curve(picture) is not None:
        return Colorspace.BT2020
    return Colorspace.ITU709 if picture.width > width or picture.height > height else Colorspace.ITU601
