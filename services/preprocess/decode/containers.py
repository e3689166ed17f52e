"""From an open file to a container that may be read: the closed lists of what is taken, and how the rest is turned away.

The file comes as a descriptor and is read through FFmpeg's `fd:` protocol, the only one it is allowed: whatever a file names, nothing else
can be opened. (A Python file object would slip past that guard: an SDP "video" then binds UDP sockets.) What kind of file it is that is
not taken is told by its first bytes, never by letting FFmpeg open it.
"""

import os
import re
from typing import Final

import av
from av.container import InputContainer

from shared.errors import (
    DecodeMemoryExceeded,
    DecodeTimeout,
    MediaContainerNotAllowed,
    MediaCorrupt,
    MediaEmpty,
    MediaError,
    MediaUnrecognised,
    StorageError,
)

CONTAINERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
AVI: Final = "avi"

MAX_STREAMS: Final = 64
"""FFmpeg opens a decoder for each, to look at it."""
HEAD_BYTES: Final = 512

OURS: Final = re.compile(
    rb"\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|RIFF....AVI "
    rb"|....(?:ftyp(?!avif|heic|heix|mif1)|moov|mdat|moof|free|skip|wide)",  # MP4, MOV; pictures in its clothes are none
    re.DOTALL,
)
KNOWN: Final = {
    "a playlist": rb"\s*#EXTM3U|\s*ffconcat version|.{0,200}<MPD",
    "a session description": rb"v=0\r?\n",
    "a picture": rb"\x89PNG|GIF8[79]a|\xff\xd8\xff|RIFF....WEBP|BM.{4}\0\0\0\0|II\*\0|MM\0\*|....ftyp(?:avif|heic|heix|mif1)",
    "sound": rb"RIFF....WAVE|ID3|fLaC|\xff[\xfb\xf3\xf2]|FORM....AIF",
    "a recording in another container": (
        rb"FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11|OggS|\x06\x0e\x2b\x34|\0\0\x01[\xb3\xba]|G.{187}G|.{4}G.{191}G|\.RMF"
    ),
}
"""Kinds of files that FFmpeg would open, by how they begin."""


def open_container(descriptor: int, *, max_pixels: int, io_timeout_s: float) -> InputContainer:
    """Raises MediaEmpty, MediaContainerNotAllowed, MediaUnrecognised, MediaCorrupt, DecodeTimeout, DecodeMemoryExceeded, StorageError."""
    head = _read_head(descriptor)
    if not head:
        raise MediaEmpty("0 bytes")
    options = {
        "fd": str(descriptor),
        "protocol_whitelist": "fd",
        "format_whitelist": CONTAINERS,
        "max_pixels": str(max_pixels),
        "max_streams": str(MAX_STREAMS),
    }
    try:
        # Titles and tags may be in any encoding.
        return av.open("fd:", "r", options=options, metadata_errors="replace", timeout=io_timeout_s)
    except av.error.ExitError as error:
        raise DecodeTimeout("opening took too long") from error
    except MemoryError as error:
        raise DecodeMemoryExceeded("opening takes too much") from error
    except Exception as error:  # damaged files also raise UnicodeDecodeError
        raise refusal(head, reason(error)) from error


def refusal(head: bytes, why: str) -> MediaError:
    """What is wrong with a file that FFmpeg was not allowed to open, or not able."""
    if OURS.match(head):
        return MediaCorrupt(why)
    kind = next((kind for kind, beginning in KNOWN.items() if re.match(beginning, head, re.DOTALL)), None)
    return MediaContainerNotAllowed(f"this is {kind}") if kind else MediaUnrecognised(why)


def reason(error: Exception) -> str:
    """Why PyAV gave up, without the file name that its messages carry."""
    return error.strerror or type(error).__name__ if isinstance(error, av.error.FFmpegError) else type(error).__name__


def _read_head(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, HEAD_BYTES, 0)
    except OSError as error:
        raise StorageError(error.strerror or str(error)) from error
