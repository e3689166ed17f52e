"""A face as it is cut from its frame: what the front end gives, and the model and the harvest take."""

from dataclasses import dataclass

from services.preprocess.arrays import Pixels


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One face of one sampled frame."""

    track: int
    frame: int
    """Number of the sampled frame."""
    pts_ms: int
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in fractions of the frame."""
    tensor: Pixels
    """(9, S, S)"""
