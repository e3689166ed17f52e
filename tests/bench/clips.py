"""Clips of any length and size, made in seconds: a few seconds are encoded, and their packets repeated with later timestamps."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import av

from deploy.clip import make_clip
from tests.bench.detection import make_crowd

SIZES: Final = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
"""Width and height."""


def portrait(path: Path, *, size: tuple[int, int], seconds: float) -> Path:
    """One face that drifts and grows, 4 seconds over and over."""
    return once_and_again(path, lambda once: make_clip(once, size=size), seconds=seconds)


def crowd(path: Path, *, size: tuple[int, int], seconds: float) -> Path:
    """Faces that walk about in two shots, three in one and two in the other, 6 seconds over and over."""
    return once_and_again(path, lambda once: make_crowd(once, size=size), seconds=seconds)


def once_and_again(path: Path, make: Callable[[Path], None], *, seconds: float) -> Path:
    once = path.with_suffix(".once.mp4")
    make(once)
    repeated(once, path, seconds=seconds)
    once.unlink()
    return path


def repeated(source: Path, path: Path, *, seconds: float) -> Path:
    """Write the video of `source` again and again to an MP4, whole times, until it lasts about that long. Nothing is encoded anew."""
    with av.open(str(source)) as first, av.open(str(path), "w", format="mp4") as container:
        (stream,) = first.streams.video
        packets = [packet for packet in first.demux(stream) if packet.size]
        length = sum(packet.duration for packet in packets)
        copy = container.add_stream_from_template(stream)
        for number in range(max(1, round(seconds / float(length * stream.time_base)))):
            for packet in packets:
                container.mux(later(packet, copy, by=number * length))
    return path


def later(packet: av.Packet, stream: av.VideoStream, *, by: int) -> av.Packet:
    """A packet of the same content, so many ticks of its time base later."""
    moved = av.Packet(bytes(packet))
    moved.stream, moved.time_base, moved.duration = stream, packet.time_base, packet.duration
    moved.pts, moved.dts, moved.is_keyframe = packet.pts + by, packet.dts + by, packet.is_keyframe
    return moved
