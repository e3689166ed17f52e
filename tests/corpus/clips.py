"""Clips whose truth is known because they were made here: frame `k` shows the number `k`."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests.corpus.pictures import HEIGHT, WIDTH, painted

Picture = Callable[[int], NDArray[np.uint8]]
Options = Mapping[str, str]

FRAMES = 25
FPS = 25
TICK = Fraction(1, 1000)
SAME_EVERY_TIME = {"fflags": "+bitexact"}
"""No random numbers, and no name of who wrote it."""


@contextmanager
def priority_kept() -> Iterator[None]:
    """SVT-AV1, where it may (as root), gives the thread that calls it real-time priority for good.

    Whatever that thread starts later would have it, too, and keep the processors from everybody else.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@priority_kept()
def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    picture: Picture = painted,
    frames: int = FRAMES,
    fps: int = FPS,
    pts_ms: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    aspect: Fraction = Fraction(1),
    rotate_clockwise: int = 0,
    tracks: int = 1,
    cover: bool = False,
    sound: bool = False,
    options: Options | None = None,
    container: Options | None = None,
    container_format: str | None = None,
) -> Path:
    """A clip of `frames` pictures at a steady rate, or at the times `pts_ms`. `options` are the encoder's, `container` the muxer's."""
    times = list(pts_ms) if pts_ms is not None else [round(k * 1000 / fps) for k in range(frames)]
    with av.open(str(path), "w", format=container_format, options={**SAME_EVERY_TIME, **(container or {})}) as out:
        streams = [_video(out, codec, picture(0), fps, pixels, dict(options or {})) for _ in range(tracks)]
        for stream in streams:
            stream.codec_context.sample_aspect_ratio = aspect
            if rotate_clockwise:
                stream.set_display_rotation(-rotate_clockwise)
        for packet in [*(add_cover(out) if cover else []), *(add_sound(out) if sound else [])]:
            out.mux(packet)
        for number, pts in enumerate(times):
            for stream in streams:
                out.mux(stream.encode(frame_of(picture(number), pts, stream)))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def write_sound(path: Path, *, cover: bool = False) -> Path:
    """Half a second of silence, and nothing to see but perhaps a cover."""
    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4a" else None, options=SAME_EVERY_TIME) as out:
        for packet in [*add_sound(out), *(add_cover(out) if cover else [])]:
            out.mux(packet)
    return path


def write_key_frames(path: Path, shown: Sequence[tuple[bytes, int]], *, size: tuple[int, int], codec: str, fps: int = FPS) -> Path:
    """A clip of key frames, each with how many times it is shown; the container says `size`, whatever theirs is.

    So a video of a million frames, or of huge ones, costs as much as one frame.
    """
    with av.open(str(path), "w", options=SAME_EVERY_TIME) as out:
        stream = out.add_stream(codec, rate=fps, options=one_by_one(codec))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number, content in enumerate(content for content, times in shown for _ in range(times)):
            packet = Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, fps), True
            packet.pts = packet.dts = number
            packet.duration = 1
            out.mux(packet)
    return path


def key_frame(codec: str, frame: av.VideoFrame) -> bytes:
    """A frame, encoded so that it needs no other."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
    context.options = one_by_one(codec)
    frame.pts, frame.time_base = 0, context.time_base
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def black(width: int, height: int, pixels: str = "yuv420p") -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pixels)
    for plane, level in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    return frame


def enlarged(number: int, times: int) -> av.VideoFrame:
    """The picture of `number`, `times` as wide and high."""
    large = painted(number).repeat(times, axis=0).repeat(times, axis=1)
    return av.VideoFrame.from_ndarray(large, format="rgb24").reformat(format="yuv420p")


def one_by_one(codec: str) -> dict[str, str]:
    """The options with which an encoder is quick, needs little memory, and leaves nothing for later."""
    x264 = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "x264-params": "repeat-headers=1:keyint=1"}
    vp9 = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "1"}
    return {"libx264": x264, "libvpx-vp9": vp9}.get(codec, {"threads": "1"})


def frame_of(picture: NDArray[np.uint8], pts_ms: int, stream: VideoStream) -> av.VideoFrame:
    channels = "rgba" if picture.shape[2] == 4 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=channels)
    frame.time_base = stream.codec_context.time_base
    frame.pts = round(pts_ms * TICK / frame.time_base)
    return frame


def _video(out: OutputContainer, codec: str, first: NDArray[np.uint8], fps: int, pixels: str, options: dict[str, str]) -> VideoStream:
    stream = out.add_stream(codec, rate=fps, options=options)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = pixels
    one_unit_per_frame = out.format.name in {"avi", "mxf", "gif", "apng"}
    stream.codec_context.time_base = Fraction(1, fps) if one_unit_per_frame or codec in {"mpeg2video", "mpeg1video"} else TICK
    return stream


def add_cover(out: OutputContainer) -> list[Packet]:
    """A picture about the file, as songs have them: its stream, and what is in it, to be written when all streams are there."""
    stream = out.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    picture = av.VideoFrame.from_ndarray(painted(255), format="rgb24")
    return [*stream.encode(picture), *stream.encode(None)]


def add_sound(out: OutputContainer) -> list[Packet]:
    """Half a second of silence."""
    stream: Any = out.add_stream("aac", rate=16_000, layout="mono")
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
    silence.sample_rate, silence.pts = 16_000, 0
    return [*stream.encode(silence), *stream.encode(None)]


def growing(path: Path, *, frames: int = FRAMES, container: Options | None = None) -> Iterator[bytes]:
    """What is on the disk after each frame while a clip is being written; the last is the finished clip."""
    with av.open(str(path), "w", options={**SAME_EVERY_TIME, "flush_packets": "1", **(container or {})}) as out:
        stream = _video(out, "libx264", painted(0), FPS, "yuv420p", {"tune": "zerolatency", "g": "5", "threads": "1"})
        for number in range(frames):
            out.mux(stream.encode(frame_of(painted(number), number * 1000 // FPS, stream)))
            yield path.read_bytes()
        out.mux(stream.encode(None))
    yield path.read_bytes()
