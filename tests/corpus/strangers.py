"""Files that are no video, or none of a kind that is taken."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import MediaCodecUnsupported, MediaContainerNotAllowed, MediaCorrupt, MediaEmpty, MediaNoVideoStream, MediaUnrecognised
from tests.corpus.boxes import box, boxes, find, patched, sample_entry
from tests.corpus.cases import Case, Maker, holding, refused
from tests.corpus.clips import write_clip, write_sound
from tests.corpus.pictures import painted


def strangers() -> list[Case]:
    """What a client sends by mistake."""
    return [*nothing_at_all(), *pictures(), *other_containers(), *no_picture(), *no_decoder()]


def nothing_at_all() -> list[Case]:
    html = b"<!doctype html><html><head><title>404</title></head><body>Not found</body></html>\n"
    return [
        Case(name="empty.mp4", what="0 bytes", make=holding(b""), expected=refused(MediaEmpty)),
        Case(name="one-byte.mp4", what="one byte", make=holding(b"\0"), expected=refused(MediaUnrecognised)),
        Case(name="html.mp4", what="an error page that was saved as a video", make=holding(html), expected=refused(MediaUnrecognised)),
        Case(name="text.mp4", what="a letter", make=holding(b"Dear sir or madam,\n" * 99), expected=refused(MediaUnrecognised)),
        Case(name="zip.mp4", what="a clip in a ZIP archive", make=_zipped, expected=refused(MediaUnrecognised)),
        Case(name="noise.mp4", what="random bytes", make=holding(_noise(50_000)), expected=refused(MediaUnrecognised)),
        Case(name="zeros.mp4", what="zeros, as a broken disk gives them", make=holding(bytes(50_000)), expected=refused(MediaUnrecognised)),
        Case(name="elf.mp4", what="the head of a program", make=holding(b"\x7fELF" + _noise(999)), expected=refused(MediaUnrecognised)),
    ]


def pictures() -> list[Case]:
    not_taken = refused(MediaContainerNotAllowed)
    return [
        Case(name="picture.png", what="a PNG", make=_picture("PNG"), expected=not_taken),
        Case(name="picture.jpg", what="a JPEG", make=_picture("JPEG"), expected=not_taken),
        Case(name="animation.gif", what="an animated GIF", make=_animation("GIF"), expected=not_taken),
        Case(name="animation.png", what="an APNG", make=_animation("PNG"), expected=not_taken),
        Case(name="animation.webp", what="an animated WebP", make=_animation("WEBP"), expected=not_taken),
    ]


def other_containers() -> list[Case]:
    made = {
        "video.flv": ("Flash video", "flv", "flv"),
        "video.wmv": ("ASF with Windows media", "asf", "wmv2"),
        "video.mxf": ("MXF, as broadcasters write it", "mxf", "mpeg2video"),
        "video.ts": ("an MPEG transport stream", "mpegts", "libx264"),
        "video.mpg": ("an MPEG program stream", "mpeg", "mpeg2video"),
        "video.ogv": ("VP8 in Ogg", "ogg", "libvpx"),
    }
    return [
        Case(name=name, what=what, make=_clip_in(container, codec), expected=refused(MediaContainerNotAllowed))
        for name, (what, container, codec) in made.items()
    ]


def no_picture() -> list[Case]:
    nothing_to_see = refused(MediaNoVideoStream)
    return [
        Case(name="audio-only.mp4", what="sound in MP4", make=write_sound, expected=nothing_to_see),
        Case(name="audio-only.mkv", what="sound in Matroska", make=write_sound, expected=nothing_to_see),
        Case(name="song.m4a", what="sound with a cover picture", make=lambda path: write_sound(path, cover=True), expected=nothing_to_see),
        Case(name="no-moov.mp4", what="cut off before its index", make=_without_index, expected=refused(MediaCorrupt)),
        Case(name="ftyp-only.mp4", what="the first box and nothing else", make=_first_box, expected=refused(MediaCorrupt)),
        Case(name="no-samples.mp4", what="an index with every sample zeroed", make=_zeroed_samples, expected=refused(MediaCorrupt)),
        Case(name="ebml-only.mkv", what="the first 40 bytes of a Matroska", make=_head_of_matroska, expected=refused(MediaCorrupt)),
    ]


def no_decoder() -> list[Case]:
    unsupported = refused(MediaCodecUnsupported)
    return [
        Case(name="unknown-codec.mp4", what="a codec that nobody knows", make=_renamed_codec, expected=unsupported),
        Case(
            name="ffvhuff.avi",
            what="a codec that is not allowed",
            make=lambda path: write_clip(path, codec="ffvhuff"),
            expected=unsupported,
        ),
        Case(
            name="qtrle.mov",
            what="another, with its own pixels",
            make=lambda path: write_clip(path, codec="qtrle", pixels="rgb24"),
            expected=unsupported,
        ),
    ]


def _noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def _zipped(path: Path) -> None:
    clip = write_clip(path.with_suffix(".inner.mp4"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(clip, "clip.mp4")
    clip.unlink()


def _picture(kind: str) -> Maker:
    return lambda path: Image.fromarray(painted(1)).save(path, format=kind)


def _animation(kind: str) -> Maker:
    def make(path: Path) -> None:
        first, *others = (Image.fromarray(painted(number)) for number in range(5))
        buffer = io.BytesIO()
        first.save(buffer, format=kind, save_all=True, append_images=others, duration=40)
        path.write_bytes(buffer.getvalue())

    return make


def _clip_in(container: str, codec: str) -> Maker:
    def make(path: Path) -> None:
        write_clip(path, codec=codec, container_format=container, picture=_large if container == "mxf" else painted)

    return make


def _large(number: int) -> np.ndarray:
    """MPEG-2 in MXF knows sizes of broadcasting only."""
    return np.asarray(Image.fromarray(painted(number)).resize((720, 576), Image.Resampling.NEAREST))


def _edited(edit: Callable[[bytes], bytes]) -> Maker:
    return lambda path: path.write_bytes(edit(write_clip(path).read_bytes()))


_without_index = _edited(lambda content: content[: find(content, "moov").start])
_first_box = _edited(lambda content: content[: next(boxes(content)).end])
_renamed_codec = _edited(lambda content: patched(content, sample_entry(content) + 4, b"zzzz"))


def _zeroed_samples(path: Path) -> None:
    content = write_clip(path).read_bytes()
    samples = find(content, "mdat")
    path.write_bytes(patched(content, samples.start, box(b"mdat", bytes(samples.end - samples.payload))))


def _head_of_matroska(path: Path) -> None:
    path.write_bytes(write_clip(path).read_bytes()[:40])
