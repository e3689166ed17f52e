"""A video file in, upright RGB frames with their times out: as a stream, so memory does not grow with length.

Uploads are hostile until decoded. The file is opened by path only (a file object would slip past FFmpeg's protocol
guard: an SDP "video" then binds UDP sockets), with closed lists of protocols, containers and codecs and a limit on pixels.
Headers are believed for nothing but an estimate: what counts is what was decoded. PyAV's errors stop here, all of them
become MediaErrors.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.preprocess.clock import MS, Clock, Sampler
from services.preprocess.orientation import DISPLAY_MATRIX_BYTES, Orientation
from shared.errors import (
    DecodeTimeout,
    MediaCodecUnsupported,
    MediaCorrupt,
    MediaDimensionsExceeded,
    MediaDurationExceeded,
    MediaEmpty,
    MediaNoVideoStream,
    MediaUnrecognised,
    StorageError,
)
from shared.results import Media

MAX_PIXELS: Final = 4096 * 2176
MAX_DURATION_MS: Final = 30 * 60 * MS
IO_TIMEOUT_S: Final = 30.0

MISSING_MS: Final = 1000
MISSING_SHARE: Final = 0.05
"""Media time that a header may promise in vain, the larger of these two, before the file counts as cut off."""

CONTAINERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
AVI: Final = "avi"
DURATION_TAG: Final = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")
CODECS: Final = frozenset(
    {"av1", "dnxhd", "ffv1", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video"}
    | {"mpeg4", "msmpeg4v2", "msmpeg4v3", "prores", "rawvideo", "theora", "vc1", "vp8", "vp9"}
)
"""What cameras, phones, browsers and editors write. FFmpeg knows hundreds more, most of them seldom fuzzed."""

NOT_A_VIDEO: Final = Disposition.attached_pic | Disposition.timed_thumbnails
"""Streams of these kinds are pictures about a file, such as a song's cover."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One sampled frame."""

    pts_ms: int
    """Media time, as a player of the file shows it."""
    rgb_hwc: NDArray[np.uint8]
    """(H, W, 3), upright. All frames of a video have the same H and W."""

    def __post_init__(self) -> None:
        if self.rgb_hwc.dtype != np.uint8 or self.rgb_hwc.ndim != 3 or self.rgb_hwc.shape[2] != 3:
            raise ValueError(f"a frame is uint8 (H, W, 3), not {self.rgb_hwc.dtype} {self.rgb_hwc.shape}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """What every frame of a video is brought to: the first frame's size, and the way it is held."""

    width: int
    height: int
    orientation: Orientation

    @classmethod
    def of(cls, picture: VideoFrame) -> Self:
        matrix = picture.side_data.get("DISPLAYMATRIX")
        asked = bytes(matrix) if isinstance(matrix, SideData) else b""
        orientation = Orientation.of(asked) if len(asked) >= DISPLAY_MATRIX_BYTES else Orientation()
        return cls(width=picture.width, height=picture.height, orientation=orientation)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the frames as they are handed out."""
        return (self.height, self.width) if self.orientation.transpose else (self.width, self.height)

    def upright_rgb(self, picture: VideoFrame) -> NDArray[np.uint8]:
        rgb = picture.to_ndarray(format="rgb24", width=self.width, height=self.height)
        return self.orientation.apply(rgb.astype(np.uint8, copy=False))


def open_video(
    path: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    max_duration_ms: int = MAX_DURATION_MS,
    threads: int = 2,
    io_timeout_s: float = IO_TIMEOUT_S,
) -> "Video":
    """Open a video for one pass over its frames; use it in a `with`. The limits are pixels per frame and media time.

    Raises
        MediaEmpty               no bytes
        MediaUnrecognised        not a container of ours: text, a playlist, an image, an archive
        MediaCorrupt             a container of ours that cannot be opened, such as an MP4 cut off before its index
        MediaNoVideoStream       sound or a cover picture only
        MediaCodecUnsupported    no decoder, or none that is allowed
        MediaDimensionsExceeded  more than `max_pixels` in a frame
        MediaTimestampsInvalid   no time base that could tell frames apart
        DecodeTimeout            one read took longer than `io_timeout_s`
        StorageError             the file cannot be read at all
    """
    container = _open_container(path, max_pixels=max_pixels, io_timeout_s=io_timeout_s)
    try:
        stream = _first_video_stream(container)
        _check_pixels(stream.width, stream.height, max_pixels)
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        stream.thread_type = "AUTO"
        stream.thread_count = threads
        return Video(container, stream, max_pixels=max_pixels, max_duration_ms=max_duration_ms)
    except BaseException:
        container.close()
        raise


class Video:
    """An open video: one pass of `frames`, then `media` and `warnings`."""

    def __init__(self, container: InputContainer, stream: VideoStream, *, max_pixels: int, max_duration_ms: int) -> None:
        self._container = container
        self._stream = stream
        self._max_pixels = max_pixels
        self._max_duration_ms = max_duration_ms
        self._clock = Clock(
            time_base=stream.time_base, rate=stream.guessed_rate or stream.average_rate, origin=_start_of(container, stream)
        )
        self._geometry: Geometry | None = None
        self._frames_decoded = 0
        self._damage = ""
        self._started = False
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def expected_frames(self, sample_fps: float) -> int | None:
        """How many frames `frames(sample_fps)` will give, if the header is right; None where it does not say."""
        duration_ms = self._header_duration_ms()
        if duration_ms is None:
            return None
        sampled = max(1, ceil(min(duration_ms, self._max_duration_ms) * sample_fps / MS))
        return min(sampled, self._stream.frames) if self._stream.frames > 0 else sampled

    def frames(self, sample_fps: float) -> Iterator[Frame]:
        """The first frame at or after each tick of `sample_fps` (per second of media time); a slower video frame by frame.

        Only these frames are converted. What cannot be decoded is left out, with the warning `partial-decode`. Raises
        MediaCorrupt (nothing could be decoded), MediaDimensionsExceeded, MediaDurationExceeded, MediaTimestampsInvalid, DecodeTimeout.
        """
        if self._started:
            raise RuntimeError("the frames of a video can be read once; open it again")
        self._started = True
        if (self._header_duration_ms() or 0) > self._max_duration_ms:  # else half an hour of work would end in this error, too
            raise MediaDurationExceeded(f"{self._header_duration_ms()} ms; the limit is {self._max_duration_ms} ms")
        sampler = Sampler(sample_fps)
        for pts_ms, picture in self._timed_pictures():
            if sampler.wants(pts_ms):
                yield Frame(pts_ms=pts_ms, rgb_hwc=self._upright_rgb(picture))
        if not self._frames_decoded:
            raise MediaCorrupt(self._damage or "the video stream has no frames")
        self._finished = True

    def media(self) -> Media:
        """What has been decoded so far; call it after `frames`."""
        if self._geometry is None:
            raise RuntimeError("nothing has been decoded yet")
        width, height = self._geometry.upright_size
        return Media(
            duration_ms=self._clock.end_ms,
            width=width,
            height=height,
            frames_decoded=self._frames_decoded,
            codec=_codec_name(self._stream),
            container=self._container.format.name,
            rotation_degrees=self._geometry.orientation.clockwise_degrees,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of what is imperfect about what has been decoded so far."""
        partial = bool(self._damage) or self._stopped_short()
        found = {
            "partial-decode": partial,
            "rotated": self._geometry is not None and not self._geometry.orientation.upright,
            "variable-frame-rate": self._clock.irregular and not partial,  # a gap where frames are missing says nothing
            "extra-streams-ignored": len(_video_streams(self._container)) > 1,
        }
        return tuple(code for code, is_so in found.items() if is_so)

    def _timed_pictures(self) -> Iterator[tuple[int, VideoFrame]]:
        """Every decoded frame with its time, in the order of presentation."""
        for picture in self._pictures():
            _check_pixels(picture.width, picture.height, self._max_pixels)
            pts_ms = self._clock.tell_ms(self._timestamp(picture), picture.duration)
            if self._clock.end_ms > self._max_duration_ms:
                raise MediaDurationExceeded(f"the limit is {self._max_duration_ms} ms")
            self._geometry = self._geometry or Geometry.of(picture)
            self._frames_decoded += 1
            yield pts_ms, picture

    def _timestamp(self, picture: VideoFrame) -> int | None:
        """AVI knows no presentation times: FFmpeg fills in the order of decoding, which goes back and forth where there are B-frames."""
        trusts_pts = self._container.format.name != AVI
        return picture.pts if trusts_pts and picture.pts is not None else picture.dts

    def _pictures(self) -> Iterator[VideoFrame]:
        """Decode packet by packet; damage costs the frames that it hit, not the rest."""
        packets = self._container.demux(self._stream)
        while True:
            packet = None
            with self._noting_damage():
                packet = next(packets, None)
            # Without a packet the file has ended, or cannot be read any further: what the decoder still holds is good.
            pictures: list[VideoFrame] = []
            with self._noting_damage():
                pictures = self._stream.codec_context.decode(packet) if packet is None or packet.size else []
            yield from (picture for picture in pictures if self._is_whole(picture))
            if packet is None:
                return

    def _is_whole(self, picture: VideoFrame) -> bool:
        """Whether the decoder vouches for the picture; smeared ones would be judged as faces all the same."""
        if picture.is_corrupt:
            self._damage = self._damage or "a frame is damaged"
        return not picture.is_corrupt

    def _upright_rgb(self, picture: VideoFrame) -> NDArray[np.uint8]:
        if self._geometry is None:
            raise RuntimeError("a picture is timed before it is converted")
        try:
            return self._geometry.upright_rgb(picture)
        except Exception as error:
            raise MediaCorrupt(f"a frame cannot be converted: {_reason(error)}") from error

    @contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except av.error.ExitError as error:
            raise DecodeTimeout("reading took too long") from error
        except Exception as error:  # damaged files also raise IndexError, AttributeError, UnicodeDecodeError
            self._damage = self._damage or _reason(error)

    def _stopped_short(self) -> bool:
        """Whether much of what the header promised never came: Matroska that was cut off ends without an error."""
        promised_ms = self._header_duration_ms() or 0
        return self._finished and promised_ms - self._clock.end_ms > max(MISSING_MS, MISSING_SHARE * promised_ms)

    def _header_duration_ms(self) -> int | None:
        """What the file says of its video stream; what it says of the whole only where that is all there is in it."""
        duration_ms = 0
        if self._stream.duration and self._stream.time_base:
            duration_ms = round(self._stream.duration * self._stream.time_base * MS)
        elif tag := _tagged_duration_ms(self._stream):
            duration_ms = tag
        elif len(self._container.streams) == 1:
            duration_ms = round(Fraction(self._container.duration or 0, av.time_base) * MS)
        return duration_ms if duration_ms > 0 else None


def _start_of(container: InputContainer, stream: VideoStream) -> int | None:
    """The container's own beginning, in timestamps of the stream; None where there is none to tell, as in AVI."""
    if container.start_time is None or not stream.time_base or container.format.name == AVI:
        return None
    return round(Fraction(container.start_time, av.time_base) / stream.time_base)


def _tagged_duration_ms(stream: VideoStream) -> int | None:
    """Matroska's tag on a stream, such as 00:00:05.040000000."""
    match = DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return round((int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) * MS)


def _open_container(path: Path, *, max_pixels: int, io_timeout_s: float) -> InputContainer:
    head = _read_head(path)
    if not head:
        raise MediaEmpty("0 bytes")
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, "max_pixels": str(max_pixels)}
    try:
        # The prefix keeps a file name from being read as a protocol. Titles and tags may be in any encoding.
        return av.open(f"file:{path}", "r", options=options, metadata_errors="replace", timeout=io_timeout_s)
    except av.error.ExitError as error:
        raise DecodeTimeout("opening took too long") from error
    except Exception as error:
        raise (MediaCorrupt if _is_ours(head) else MediaUnrecognised)(_reason(error)) from error


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise StorageError(error.strerror or str(error)) from error


def _is_ours(head: bytes) -> bool:
    """Whether the first bytes are those of MP4/MOV, Matroska/WebM or AVI."""
    is_mp4 = head[4:8] in {b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide"}
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return is_mp4 or is_avi or head.startswith(b"\x1a\x45\xdf\xa3")


def _video_streams(container: InputContainer) -> list[VideoStream]:
    return [stream for stream in container.streams.video if not stream.disposition & NOT_A_VIDEO]


def _first_video_stream(container: InputContainer) -> VideoStream:
    streams = _video_streams(container)
    if not len(container.streams):
        raise MediaCorrupt("the file ends before the index of its streams")
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise MediaNoVideoStream(f"streams found: {', '.join(kinds) or 'none'}")
    # A stream without a decoder has no codec context, whatever PyAV's types say.
    if streams[0].codec_context is None or _codec_name(streams[0]) not in CODECS:
        raise MediaCodecUnsupported(f"codec: {_codec_name(streams[0])}")
    return streams[0]


def _codec_name(stream: VideoStream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise MediaDimensionsExceeded(f"{width} x {height} pixels; the limit is {max_pixels} in all")


def _reason(error: Exception) -> str:
    """Why PyAV gave up, without the path that its messages carry."""
    return error.strerror or type(error).__name__ if isinstance(error, av.error.FFmpegError) else type(error).__name__
