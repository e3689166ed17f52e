"""Which of a container's streams is the video, and what its header says. A header is believed for nothing but an estimate."""

import re
from fractions import Fraction
from typing import Final

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from services.preprocess.decode.clock import MS
from services.preprocess.decode.containers import AVI
from shared.errors import MediaCodecUnsupported, MediaCorrupt, MediaEncrypted, MediaNoVideoStream

CODECS: Final = frozenset(
    {"av1", "dnxhd", "ffv1", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video"}
    | {"mpeg4", "msmpeg4v2", "msmpeg4v3", "prores", "rawvideo", "theora", "vc1", "vp8", "vp9"}
)
"""What cameras, phones, browsers and editors write. FFmpeg knows hundreds more, most of them seldom fuzzed."""

NOT_A_VIDEO: Final = Disposition.attached_pic | Disposition.timed_thumbnails
"""Streams of these kinds are pictures about a file, such as a song's cover."""

KEY_WANTED: Final = "enc_key_id"
"""FFmpeg's metadata of an encrypted Matroska stream."""

DURATION_TAG: Final = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")


def video_streams(container: InputContainer) -> list[VideoStream]:
    return [stream for stream in container.streams.video if not stream.disposition & NOT_A_VIDEO]


def main_stream(container: InputContainer) -> VideoStream:
    """The video stream that a player shows: the first that is marked as default, else the first.

    Raises MediaCorrupt, MediaNoVideoStream, MediaEncrypted, MediaCodecUnsupported.
    """
    streams = video_streams(container)
    if not len(container.streams):
        raise MediaCorrupt("the file ends before the index of its streams")
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise MediaNoVideoStream(f"streams found: {', '.join(kinds) or 'none'}")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if KEY_WANTED in stream.metadata:
        raise MediaEncrypted
    # A stream without a decoder has no codec context, whatever PyAV's types say.
    if stream.codec_context is None or codec_name(stream) not in CODECS:
        raise MediaCodecUnsupported(f"codec: {codec_name(stream)}")
    return stream


def codec_name(stream: VideoStream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"


def start_of(container: InputContainer, stream: VideoStream) -> int | None:
    """The container's own beginning, in timestamps of the stream; None where there is none to tell, as in AVI."""
    if container.start_time is None or not stream.time_base or container.format.name == AVI:
        return None
    return round(Fraction(container.start_time, av.time_base) / stream.time_base)


def promised_ms(container: InputContainer, stream: VideoStream) -> int | None:
    """What the file says of its video stream's length; what it says of the whole only where that is all there is in it."""
    duration_ms = 0
    if stream.duration and stream.time_base:
        duration_ms = round(stream.duration * stream.time_base * MS)
    elif tag := _tagged_duration_ms(stream):
        duration_ms = tag
    elif len(container.streams) == 1:
        duration_ms = round(Fraction(container.duration or 0, av.time_base) * MS)
    return duration_ms if duration_ms > 0 else None


def _tagged_duration_ms(stream: VideoStream) -> int | None:
    """Matroska's tag on a stream, such as 00:00:05.040000000."""
    match = DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return round((int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) * MS)
