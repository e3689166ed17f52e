"""Clips of pictures that are drawn, to the pixel and to the container's own words."""

from fractions import Fraction

import av
import numpy as np


def write_frames(path, pictures, *, pixel_shape=None, mux=None, **options):
    """A clip of yuv420p `pictures`, (H * 3 / 2, W) each."""
    height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
    with av.open(str(path), "w", options=mux or {}) as container:
        stream = container.add_stream("libx264", rate=25, options={name.replace("_", "-"): value for name, value in options.items()})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def box(left, right, *, width=72, height=48):
    """Grey, with white columns from `left` to `right`."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height, left:right] = 235
    return picture
