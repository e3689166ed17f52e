"""A video file in, upright RGB frames with their times out: as a stream, so memory does not grow with length.

Uploads are hostile until decoded; the worker decodes in a process of its own (see `decoding`), whose inside this is. Headers are believed
for nothing but an estimate: what counts is what was decoded. PyAV's errors stop here, all of them become MediaErrors.
"""

import os
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.preprocess.decode.clock import MS, Sampler
from services.preprocess.decode.containers import open_container, reason
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.interlacing import deinterlaced
from services.preprocess.decode.limits import MAX_DURATION_MS, Limits, most_frames
from services.preprocess.decode.picture import Geometry, hdr_curve
from services.preprocess.decode.pictures import Pictures, Timed
from services.preprocess.decode.streams import codec_name, main_stream, promised_ms, video_streams
from shared.errors import (
    DecodeMemoryExceeded,
    MediaCorrupt,
    MediaDimensionsExceeded,
    MediaDurationExceeded,
    MediaFramesExceeded,
    MediaRangeEmpty,
    StorageError,
)
from shared.pixels import MAX_PIXELS
from shared.results import Media

IO_TIMEOUT_S: Final = 30.0

MISSING_MS: Final = 1000
MISSING_SHARE: Final = 0.05
"""Media time that a header may promise in vain, the larger of these two, before the file counts as cut off."""


def open_video(
    path: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    max_duration_ms: int = MAX_DURATION_MS,
    threads: int = 2,
    io_timeout_s: float = IO_TIMEOUT_S,
) -> "Video":
    """Open a video in this process, for one pass over its frames; use it in a `with`. For files that are trusted.

    Raises what `open_descriptor` does, and StorageError when the file cannot be read at all.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(error.strerror or str(error)) from error
    try:
        limits = Limits(max_pixels=max_pixels, max_duration_ms=max_duration_ms, threads=threads)
        return open_descriptor(descriptor, limits=limits, io_timeout_s=io_timeout_s)
    finally:
        os.close(descriptor)  # FFmpeg has one of its own


def open_descriptor(descriptor: int, *, limits: Limits, io_timeout_s: float = IO_TIMEOUT_S) -> "Video":
    """Open a video that is open for reading. The descriptor stays the caller's, and may be closed at once.

    Raises
        MediaEmpty                no bytes
        MediaContainerNotAllowed  a playlist, a picture, sound, a container that is not taken
        MediaUnrecognised         none of these either: text, an archive
        MediaCorrupt              a container of ours that cannot be opened, such as an MP4 cut off before its index
        MediaNoVideoStream        sound or a cover picture only
        MediaEncrypted            a stream that takes a key
        MediaCodecUnsupported     no decoder, or none that is allowed
        MediaDimensionsExceeded   more pixels in a frame than the limits allow
        MediaTimestampsInvalid    no time base that could tell frames apart
        DecodeTimeout             one read took longer than `io_timeout_s`
        DecodeMemoryExceeded      opening it takes more memory than there is
        StorageError              the file cannot be read at all
    """
    container = open_container(descriptor, max_pixels=limits.padded_pixels, io_timeout_s=io_timeout_s)
    try:
        stream = main_stream(container)
        check_size(stream.width, stream.height, limits)
        stream.codec_context.options = {"max_pixels": str(limits.padded_pixels)}
        stream.thread_type = "AUTO"
        stream.thread_count = limits.threads
        return Video(container, stream, limits=limits)
    except BaseException:
        container.close()
        raise


class Video:
    """An open video: one pass of `frames`, then `media` and `warnings`."""

    def __init__(self, container: InputContainer, stream: VideoStream, *, limits: Limits) -> None:
        self._container = container
        self._stream = stream
        self._limits = limits
        self._pictures = Pictures(container, stream)
        self._converter = VideoReformatter()
        self._geometry: Geometry | None = None
        self._frames_decoded = 0
        self._end_ms: int | None = None
        self._tone_mapped = False
        self._started = False
        self._read_to_end = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def expected_frames(self, sample_fps: float, *, start_ms: int = 0, end_ms: int | None = None) -> int | None:
        """How many frames `frames` will give, if the header is right; None where it does not say."""
        promised = promised_ms(self._container, self._stream)
        if promised is None:
            return None
        ends = min(promised, end_ms or promised, start_ms + self._limits.max_duration_ms)
        ticks = ceil(ends * sample_fps / MS) - ceil(start_ms * sample_fps / MS)
        there = ceil(self._stream.frames * (ends - start_ms) / promised) if self._stream.frames > 0 else ticks
        return max(1, min(ticks, there))

    def frames(
        self, sample_fps: float, *, start_ms: int = 0, end_ms: int | None = None, heartbeat: Callable[[], None] | None = None
    ) -> Iterator[Frame]:
        """The first frame at or after each tick of `sample_fps` (per second of media time); a slower video frame by frame.

        Of these, those with `start_ms` <= time < `end_ms`: the same as of the whole video. Only these are converted. What cannot be
        decoded is left out, with the warning `partial-decode`. `heartbeat` is called after each decoded frame, sampled or not.

        Raises
            MediaCorrupt            nothing could be decoded
            MediaEncrypted          it takes a key to be decoded
            MediaRangeEmpty         something could, and none of it lies in the part that was asked for
            MediaDimensionsExceeded, MediaDurationExceeded, MediaFramesExceeded
            MediaTimestampsInvalid  frames come without any clue when they are shown
            DecodeTimeout, DecodeMemoryExceeded
        """
        if self._started:
            raise RuntimeError("the frames of a video can be read once; open it again")
        self._started = True
        self._end_ms = end_ms
        self._check_promises(start_ms, end_ms)
        sampler, sampled = Sampler(sample_fps), 0
        for pts_ms, picture in deinterlaced(self._checked_pictures(start_ms, end_ms)):
            if heartbeat is not None:
                heartbeat()
            if sampler.wants(pts_ms) and pts_ms >= start_ms:
                sampled += 1
                yield Frame(pts_ms=pts_ms, rgb_hwc=self._upright_rgb(picture))
        if self._geometry is None:
            raise MediaCorrupt(self._pictures.damage or "the video stream has no frames")
        if not sampled:
            raise MediaRangeEmpty(f"from {start_ms} ms to {'the end' if end_ms is None else f'{end_ms} ms'}")

    def media(self) -> Media:
        """What has been decoded so far of the part that was asked for; call it after `frames`."""
        if self._geometry is None:
            raise RuntimeError("nothing has been decoded yet")
        width, height = self._geometry.upright_size
        end_ms = self._pictures.clock.end_ms
        return Media(
            duration_ms=end_ms if self._end_ms is None else min(end_ms, self._end_ms),  # the clock has ticked for the frame beyond it
            width=width,
            height=height,
            frames_decoded=self._frames_decoded,
            codec=codec_name(self._stream),
            container=self._container.format.name,
            rotation_degrees=self._geometry.orientation.clockwise_degrees,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of what is imperfect about what has been decoded so far."""
        partial = bool(self._pictures.damage) or self._stopped_short()
        found = {
            "partial-decode": partial,
            "hdr-tonemapped": self._tone_mapped,
            "rotated": self._geometry is not None and not self._geometry.orientation.upright,
            "variable-frame-rate": self._pictures.clock.irregular and not partial,  # a gap where frames are missing says nothing
            "extra-streams-ignored": len(video_streams(self._container)) > 1,
        }
        return tuple(code for code, is_so in found.items() if is_so)

    def _checked_pictures(self, start_ms: int, end_ms: int | None) -> Iterator[Timed]:
        """Every decoded picture from somewhere before `start_ms` to `end_ms`, within the limits.

        Those before `start_ms` count toward no limit but that of CPU time: where one cannot go into the middle of a file, they are many.
        """
        limits = self._limits
        most = most_frames(limits.max_duration_ms)
        for pts_ms, picture in self._pictures.timed(start_ms=start_ms):
            check_size(picture.width, picture.height, limits)
            shape = self._stream.sample_aspect_ratio
            self._geometry = self._geometry or Geometry.of(picture, pixel_shape=shape, max_pixels=limits.max_pixels)
            if end_ms is not None and pts_ms >= end_ms:
                return
            if self._pictures.clock.end_ms - start_ms > limits.max_duration_ms:
                raise MediaDurationExceeded(f"the limit is {limits.max_duration_ms} ms")
            self._frames_decoded += pts_ms >= start_ms
            if self._frames_decoded > most:
                raise MediaFramesExceeded(f"the limit is {most}")
            yield pts_ms, picture
        self._read_to_end = True

    def _check_promises(self, start_ms: int, end_ms: int | None) -> None:
        """Else half an hour of work would end in the same error."""
        promised = promised_ms(self._container, self._stream) or 0
        asked_ms = min(promised, end_ms or promised) - start_ms
        if asked_ms > self._limits.max_duration_ms:
            raise MediaDurationExceeded(f"{asked_ms} ms; the limit is {self._limits.max_duration_ms} ms")
        most = most_frames(self._limits.max_duration_ms)
        if end_ms is None and not start_ms and self._stream.frames > most:
            raise MediaFramesExceeded(f"{self._stream.frames} frames; the limit is {most}")

    def _upright_rgb(self, picture: VideoFrame) -> NDArray[np.uint8]:
        if self._geometry is None:
            raise RuntimeError("a picture is checked before it is converted")
        self._tone_mapped = self._tone_mapped or hdr_curve(picture) is not None
        try:
            return self._geometry.upright_rgb(picture, self._converter)
        except MemoryError as error:
            raise DecodeMemoryExceeded("converting a frame takes too much") from error
        except Exception as error:
            raise MediaCorrupt(f"a frame cannot be converted: {reason(error)}") from error

    def _stopped_short(self) -> bool:
        """Whether much of what the header promised never came: Matroska that was cut off ends without an error."""
        promised = promised_ms(self._container, self._stream) or 0
        return self._read_to_end and promised - self._pictures.clock.end_ms > max(MISSING_MS, MISSING_SHARE * promised)


def check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise MediaDimensionsExceeded(
            f"{width} x {height} pixels; the limit is {limits.max_pixels} in all, and {limits.max_side} for the longer side"
        )
