"""A short clip with a face in it, made on any machine: what `make demo` analyses when it is given no video.

The portrait is NASA's photograph of Eileen Collins, in the public domain, which ships inside scikit-image.
"""

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

ZOOM: Final = (1.0, 0.6)
"""Size of the part that is shown, as a share of the largest view that fits into the portrait, at the start and at the end."""
CENTRE_XY: Final = ((0.55, 0.3), (0.4, 0.22))
"""Its centre, in fractions of the portrait, at the start and at the end: the face drifts and grows, and stays in sight."""


def make_clip(path: Path, *, seconds: float = 4.0, fps: int = 25, size: tuple[int, int] = (640, 360)) -> None:
    """Write an MP4 (H.264, yuv420p) of `size` (width, height): a slow pan and zoom over the portrait.

    The same arguments give the same pictures; one encoder thread, so that they give the same file on one version of PyAV.
    """
    portrait = Image.fromarray(astronaut())  # type: ignore[no-untyped-call]
    count = max(1, round(seconds * fps))
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"threads": "1", "crf": "20"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(view(portrait, index / max(1, count - 1), size), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def view(portrait: Image.Image, progress: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What the camera sees at `progress` (0 to 1) of its way: uint8 (H, W, 3)."""
    shown = np.array(size) * min(portrait.width / size[0], portrait.height / size[1]) * between(*ZOOM, progress)
    centre = [between(start, end, progress) for start, end in zip(*CENTRE_XY, strict=True)]
    corner = np.clip(centre * np.array(portrait.size) - shown / 2, 0, portrait.size - shown)
    return np.asarray(portrait.transform(size, Image.Transform.EXTENT, (*corner, *(corner + shown)), Image.Resampling.BILINEAR))


def between(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress
