"""Clips made on the spot, in which every frame says its own number, so that a test knows exactly which frames came out."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from services.preprocess.harvest.adapters import Choices, harvest
from tests.corpus.clips import priority_kept

BITS = 16
BLOCK_PX = 16
WIDTH, HEIGHT = 8 * BLOCK_PX, 2 * BLOCK_PX
MS = Fraction(1, 1000)


@dataclass(frozen=True)
class Clips:
    """Writes clips into a folder."""

    folder: Path

    @priority_kept()
    def write(
        self,
        name: str = "clip.mp4",
        *,
        pts_ms: Sequence[int] | None = None,
        frames: int = 25,
        fps: float = 25,
        codec: str = "libx264",
        picture: Callable[[int], np.ndarray] | None = None,
        rotate_clockwise: int = 0,
        tracks: int = 1,
        index_first: bool = False,
        sound_ms: int = 0,
        **codec_options: str,
    ) -> Path:
        """A clip whose frame `k` shows `picture(k)`, by default its number, at `pts_ms[k]` or at a steady rate.

        Beside it a tone from 0 to `sound_ms`.
        """
        times = list(pts_ms) if pts_ms is not None else [round(k * 1000 / fps) for k in range(frames)]
        picture = picture or coded
        path = self.folder / name
        with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
            streams = [self._stream(container, codec, picture(0), fps, codec_options) for _ in range(tracks)]
            for stream in streams:
                if rotate_clockwise:
                    stream.set_display_rotation(-rotate_clockwise)
            if sound_ms:
                self._tone(container, sound_ms)
            for index, pts in enumerate(times):
                for stream in streams:
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(index)), format="rgb24")
                    frame.pts, frame.time_base = round(pts * MS / stream.codec_context.time_base), stream.codec_context.time_base
                    container.mux(stream.encode(frame))
            for stream in streams:
                container.mux(stream.encode(None))
        return path

    def _tone(self, container, sound_ms):
        rate, samples = 16_000, 1024
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, sound_ms * rate // 1000, samples):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def _stream(self, container, codec, first, fps, options):
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, round(fps)) if container.format.name == "avi" else MS  # AVI: one unit per frame
        return stream

    def audio(self, name: str = "audio.mp4", *, cover: bool = False) -> Path:
        """Half a second of silence, with a cover picture where asked for."""
        path = self.folder / name
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=16000)
            picture = container.add_stream("mjpeg", rate=1) if cover else None
            if picture is not None:
                picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
                frame = av.VideoFrame.from_ndarray(coded(0), format="rgb24")
                container.mux(picture.encode(frame))
                container.mux(picture.encode(None))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, 0
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        return path

    def bytes(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


def coded(number: int) -> np.ndarray:
    """A picture of 2 x 8 black or white blocks: the bits of `number`, most significant first. RGB, HEIGHT x WIDTH."""
    bits = np.array([number >> (BITS - 1 - k) & 1 for k in range(BITS)], np.uint8).reshape(2, 8) * 255
    grey = np.kron(bits, np.ones((BLOCK_PX, BLOCK_PX), np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def decoded(rgb_hwc: np.ndarray) -> int:
    """The number that a picture shows."""
    assert rgb_hwc.shape == (HEIGHT, WIDTH, 3)
    blocks = rgb_hwc.mean(axis=2).reshape(2, BLOCK_PX, 8, BLOCK_PX).mean(axis=(1, 3)).ravel()
    assert np.abs(blocks - 127.5).min() > 60, "the picture is smeared"
    return int("".join(str(int(value > 127)) for value in blocks), 2)


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    return Clips(tmp_path)


@pytest.fixture(scope="session")
def coded_picture() -> Callable[[int], np.ndarray]:
    return coded


@pytest.fixture(scope="session")
def number_of() -> Callable[[np.ndarray], int]:
    return decoded


@pytest.fixture(scope="session")
def encoded() -> Callable[[np.ndarray], bytes]:
    """A picture as a PNG."""

    def encode(picture: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Harvests `source` through an adapter, and gives the folder of the store, a new one each time."""
    folder, numbers = tmp_path_factory.mktemp("crops"), count()

    def run(adapter: str, source: Path, **choices: object) -> Path:
        out = folder / str(next(numbers))
        harvest(adapter, source, name="name", licence="licence", out=out, choices=Choices(**choices))
        assert [path.name for path in folder.glob(".*")] == []
        return out

    return run
