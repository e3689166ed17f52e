"""Small files that would cost a careless decoder gigabytes or hours."""

import struct
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

from shared.errors import DecodeMemoryExceeded, MediaCorrupt, MediaDimensionsExceeded, MediaFramesExceeded
from tests.corpus.boxes import FULL_BOX, box, find, patched, replaced, sample_entry
from tests.corpus.cases import ANY_VERDICT, Case, Maker, holding, refused, taken
from tests.corpus.clips import FRAMES, black, enlarged, key_frame, write_clip, write_key_frames
from tests.corpus.pictures import HEIGHT, WIDTH

GIB = 1 << 30
MANY_FRAMES = 20_000
"""Instead of a million, against a limit that is lower in the same measure."""
MAX_DURATION_MS = 30_000
"""In which 60 frames per second are allowed."""


def bombs() -> list[Case]:
    return [*huge_frames(), *long_ones(), *huge_numbers(), *deep_and_wide()]


def huge_frames() -> list[Case]:
    too_large = refused(MediaDimensionsExceeded)
    return [
        Case(name="8192x8192.mp4", what="50 black frames of 67 megapixels", make=_black(8192, 8192, 50), expected=too_large),
        Case(name="16384x8704.mp4", what="as large as H.264 goes", make=_black(16384, 8704, 5), expected=too_large),
        Case(name="65535x16.mkv", what="one row of blocks, few pixels in all", make=_black(65535, 16, 5, "ffv1"), expected=too_large),
        Case(name="hidden-8192.mp4", what="the same 8192x8192, called 64x64 by the header", make=_hidden, expected=too_large),
        Case(
            name="stretched.mp4",
            what="frames of 128x32 with pixels 10,000 times as wide as high",
            make=lambda path: write_clip(path, aspect=Fraction(10_000)),
            expected=replace(taken(), errors=(MediaDimensionsExceeded,)),
        ),
        Case(
            name="grows.mkv",
            what="12 small frames, then 8192x8192",
            make=_grows,
            expected=replace(taken(12, "partial-decode", every=0), errors=(MediaDimensionsExceeded,)),
        ),
        Case(
            name="jpeg-65535.mov",
            what="a small JPEG that says it is 65535x65535",
            make=_lying_jpeg,
            expected=refused(MediaDimensionsExceeded, MediaCorrupt),
        ),
    ]


def long_ones() -> list[Case]:
    return [
        Case(
            name="many-frames.mkv",
            what=f"{MANY_FRAMES} frames of 16x16 at 1000 per second",
            make=_many_frames,
            expected=refused(MediaFramesExceeded),
            limits={"max_duration_ms": MAX_DURATION_MS},
        ),
    ]


def huge_numbers() -> list[Case]:
    return [
        Case(name="1-gib-moov.mp4", what="an index that says it has 1 GiB", make=_claimed("moov"), expected=ANY_VERDICT),
        Case(name="1-gib-mdat.mp4", what="samples that say they have 1 GiB", make=_claimed("mdat"), expected=refused(MediaCorrupt)),
        Case(name="1-gib-stsd.mp4", what="1 GiB of codec settings", make=_claimed("moov/trak/mdia/minf/stbl/stsd"), expected=ANY_VERDICT),
        Case(name="2e9-sizes.mp4", what="a table of 2 thousand million sample sizes", make=_counted("stsz", 4), expected=ANY_VERDICT),
        Case(name="2e9-times.mp4", what="a table of 2 thousand million times", make=_counted("stts", 0), expected=ANY_VERDICT),
        Case(name="2e9-samples.mp4", what="one entry for 2 thousand million samples", make=_constant_size, expected=ANY_VERDICT),
        Case(name="1-gib-element.mkv", what="a Matroska element of 1 GiB", make=_huge_element, expected=ANY_VERDICT),
    ]


def deep_and_wide() -> list[Case]:
    no_room = refused(MediaCorrupt, DecodeMemoryExceeded)
    nested_tags = b"".join(element(b"\x67\xc8", b"") for _ in range(3)) + b"\x67\xc8\x01\xff\xff\xff\xff\xff\xff\xff" * 20_000
    return [
        Case(name="10000-tracks.mp4", what="10,000 tracks", make=_many_tracks(10_000), expected=no_room),
        Case(name="10000-tracks.mkv", what="10,000 tracks", make=_many_matroska_tracks(10_000), expected=ANY_VERDICT),
        Case(name="deep.mp4", what="100,000 boxes, each in the one before", make=holding(_nested_boxes(100_000)), expected=ANY_VERDICT),
        Case(
            name="deep.mkv",
            what="20,000 tags, each in the one before",
            make=holding(EBML + open_ended(b"\x18\x53\x80\x67") + open_ended(b"\x12\x54\xc3\x67") + nested_tags),
            expected=ANY_VERDICT,
        ),
        Case(
            name="900-tracks.mp4",
            what="900 tracks that share their samples",
            make=_many_tracks(900),
            expected=replace(taken(FRAMES, "extra-streams-ignored"), errors=(MediaCorrupt, DecodeMemoryExceeded)),
        ),
    ]


def element(kind: bytes, payload: bytes) -> bytes:
    """An EBML element, its length in eight bytes."""
    return kind + struct.pack(">Q", 1 << 56 | len(payload)) + payload


def open_ended(kind: bytes) -> bytes:
    """An element that goes on for as long as the file does."""
    return kind + b"\x01\xff\xff\xff\xff\xff\xff\xff"


EBML = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska") + element(b"\x42\x87", b"\x04") + element(b"\x42\x85", b"\x02"))


@cache
def _black_frame(codec: str, width: int, height: int) -> bytes:
    return key_frame(codec, black(width, height))


def _black(width: int, height: int, times: int, codec: str = "libx264") -> Maker:
    def make(path: Path) -> None:
        write_key_frames(path, [(_black_frame(codec, width, height), times)], size=(width, height), codec=codec)

    return make


def _hidden(path: Path) -> None:
    _black(8192, 8192, 5)(path)
    content = path.read_bytes()
    path.write_bytes(patched(content, sample_entry(content) + 32, struct.pack(">HH", 64, 64)))


def _grows(path: Path) -> None:
    codec = "libx264"
    shown = [(key_frame(codec, enlarged(0, 1)), 12), (_black_frame(codec, 8192, 8192), 5)]
    write_key_frames(path, shown, size=(WIDTH, HEIGHT), codec=codec)


def _lying_jpeg(path: Path) -> None:
    """The frame header of a JPEG: FF C0, its length, 8 bits, height, width."""
    honest = key_frame("mjpeg", black(64, 64, "yuvj420p"))
    lie = patched(honest, honest.index(b"\xff\xc0") + 5, b"\xff\xff\xff\xff")
    write_key_frames(path, [(lie, 5)], size=(64, 64), codec="mjpeg")


def _many_frames(path: Path) -> None:
    write_key_frames(path, [(key_frame("mpeg4", black(16, 16)), MANY_FRAMES)], size=(16, 16), codec="mpeg4", fps=1000)


def _claimed(place: str) -> Maker:
    def make(path: Path) -> None:
        content = write_clip(path).read_bytes()
        path.write_bytes(patched(content, find(content, place).start, struct.pack(">I", GIB)))

    return make


def _counted(table: str, skipped: int) -> Maker:
    """A table of the sample table with 2^31 - 1 entries, of which a few are there."""

    def make(path: Path) -> None:
        content = write_clip(path).read_bytes()
        at = find(content, f"moov/trak/mdia/minf/stbl/{table}").payload + FULL_BOX + skipped
        path.write_bytes(patched(content, at, struct.pack(">I", 2**31 - 1)))

    return make


def _constant_size(path: Path) -> None:
    """Needs no table: all samples have the same size and duration, and lie in one chunk."""
    content = write_clip(path).read_bytes()
    many = 2**31 - 1
    stbl = "moov/trak/mdia/minf/stbl/"
    content = replaced(content, stbl + "stsz", box(b"stsz", struct.pack(">III", 0, 1, many)))
    content = replaced(content, stbl + "stts", box(b"stts", struct.pack(">IIII", 0, 1, many, 1)))
    path.write_bytes(replaced(content, stbl + "stsc", box(b"stsc", struct.pack(">IIIII", 0, 1, 1, many, 1))))


def _huge_element(path: Path) -> None:
    codec_private = b"\x63\xa2" + struct.pack(">Q", 1 << 56 | GIB)
    track = element(b"\xd7", b"\1") + element(b"\x83", b"\1") + element(b"\x86", b"V_MPEG4/ISO/AVC") + codec_private
    path.write_bytes(EBML + open_ended(b"\x18\x53\x80\x67") + open_ended(b"\x16\x54\xae\x6b") + open_ended(b"\xae") + track + bytes(1000))


def _many_tracks(count: int) -> Maker:
    """The one track of a clip, `count` times more."""

    def make(path: Path) -> None:
        content = write_clip(path).read_bytes()
        track = find(content, "moov/trak")
        path.write_bytes(replaced(content, "moov/trak", content[track.start : track.end] * (count + 1)))

    return make


def _many_matroska_tracks(count: int) -> Maker:
    def track(number: int) -> bytes:
        size = element(b"\xb0", struct.pack(">H", WIDTH)) + element(b"\xba", struct.pack(">H", HEIGHT))
        named = element(b"\xd7", struct.pack(">H", number)) + element(b"\x73\xc5", struct.pack(">H", number))
        return element(b"\xae", named + element(b"\x83", b"\1") + element(b"\x86", b"V_VP9") + element(b"\xe0", size))

    tracks = element(b"\x16\x54\xae\x6b", b"".join(track(number) for number in range(1, count + 1)))
    return holding(EBML + open_ended(b"\x18\x53\x80\x67") + tracks)


def _nested_boxes(depth: int) -> bytes:
    kinds = [b"moov", *[b"trak"] * (depth - 1)]
    return box(b"ftyp", b"isom\0\0\0\0") + b"".join(struct.pack(">I4s", 8 * (depth - level), kind) for level, kind in enumerate(kinds))
