"""Videos that are odd, and right: each must be decoded as a good player would show it."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import MediaCorrupt, MediaDurationExceeded, MediaEncrypted, MediaTimestampsInvalid
from tests.corpus.cases import Case, Maker, refused, taken
from tests.corpus.clips import FRAMES, Picture, enlarged, key_frame, write_clip, write_key_frames
from tests.corpus.edits import claiming_size, edited_out, polyglot, promising, still_growing, with_display_matrix, zero_rate, zero_timescale
from tests.corpus.pictures import HEIGHT, WIDTH, painted

CENC = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}


def corners() -> list[Case]:
    return [*codecs(), *pixels(), *held(), *clocks(), *structures()]


def codecs() -> list[Case]:
    made: dict[str, tuple[str, dict[str, str]]] = {
        "h264.mp4": ("libx264", {}),
        "hevc.mp4": ("libx265", {"x265-params": "log-level=none:pools=none:frame-threads=1"}),
        "vp8.webm": ("libvpx", {}),
        "vp9.webm": ("libvpx-vp9", {"deadline": "realtime"}),
        "av1.mkv": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
        "mpeg4.avi": ("mpeg4", {}),
        "mjpeg.mov": ("mjpeg", {}),
        "ffv1.mkv": ("ffv1", {}),
    }
    return [
        Case(name=name, what=f"{codec}, nothing odd", make=_clip(codec=codec, options=options, pixels=_pixels_of(codec)), expected=taken())
        for name, (codec, options) in made.items()
    ]


def pixels() -> list[Case]:
    hdr = "log-level=none:pools=none:frame-threads=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1"
    return [
        Case(name="10-bit.mp4", what="H.264 with 10 bits", make=_clip(pixels="yuv420p10le"), expected=taken()),
        Case(
            name="hdr10.mp4",
            what="H.265, 10 bits, BT.2020, PQ",
            make=_clip(codec="libx265", pixels="yuv420p10le", options={"x265-params": hdr}),
            expected=taken(FRAMES, "hdr-tonemapped"),
        ),
        Case(name="444.mp4", what="no chroma subsampling", make=_clip(pixels="yuv444p"), expected=taken()),
        Case(name="prores.mov", what="ProRes, 4:2:2, 10 bits", make=_clip(codec="prores_ks", pixels="yuv422p10le"), expected=taken()),
        Case(name="grey.mp4", what="no colour", make=_clip(pixels="gray"), expected=taken()),
        Case(
            name="alpha.webm",
            what="VP9 with an alpha channel",
            make=_clip(codec="libvpx-vp9", pixels="yuva420p", options={"deadline": "realtime"}, picture=_half_transparent),
            expected=taken(),
        ),
        Case(
            name="interlaced.mp4",
            what="H.264 in fields, the lower one first",
            make=_clip(options={"flags": "+ildct+ilme"}, picture=_woven),
            expected=taken(),
        ),
        Case(
            name="mpeg2-fields.mkv",
            what="MPEG-2 in fields, as DVDs have it",
            make=_clip(codec="mpeg2video", options={"flags": "+ildct+ilme"}),
            expected=taken(),
        ),
        Case(name="odd-size.mp4", what="127x31", make=_clip(picture=_cropped, pixels="yuv444p"), expected=taken(size=(127, 31))),
        Case(
            name="anamorphic.mp4",
            what="pixels twice as wide as high",
            make=_clip(aspect=Fraction(2, 1)),
            expected=taken(size=(2 * WIDTH, HEIGHT)),
        ),
        Case(
            name="size-changes.mkv",
            what="frames of another size halfway",
            make=_growing_picture,
            expected=taken(),
        ),
    ]


def held() -> list[Case]:
    """Cameras held in each of the eight ways. What is stored is turned so that the matrix sets it right."""
    turned = [
        Case(
            name=f"rotated-{degrees}.mp4",
            what=f"to be turned by {degrees} degrees clockwise",
            make=_clip(picture=_turned(degrees // 90), rotate_clockwise=degrees),
            expected=taken(FRAMES, "rotated", rotation_degrees=degrees),
        )
        for degrees in (90, 180, 270)
    ]
    return [
        *turned,
        Case(
            name="mirrored.mp4",
            what="to be mirrored, as selfies are",
            make=with_display_matrix(lambda number: painted(number)[:, ::-1], (-1, 0, 0, 1, WIDTH, 0)),
            expected=taken(FRAMES, "rotated", rotation_degrees=None),
        ),
        Case(
            name="mirrored-90.mp4",
            what="to be mirrored along its diagonal",
            make=with_display_matrix(lambda number: painted(number).transpose(1, 0, 2), (0, 1, 1, 0, 0, 0)),
            expected=taken(FRAMES, "rotated", rotation_degrees=None),
        ),
    ]


def clocks() -> list[Case]:
    irregular = [0, 40, 80, 500, 520, 1000, 2000, 2040]
    return [
        Case(name="vfr.mp4", what="frames at uneven times", make=_clip(pts_ms=irregular), expected=taken(8, "variable-frame-rate")),
        Case(name="vfr.mkv", what="the same in Matroska", make=_clip(pts_ms=irregular), expected=taken(8, "variable-frame-rate")),
        Case(name="negative-times.mkv", what="begins at -400 ms", make=_clip(pts_ms=range(-400, 600, 40)), expected=taken()),
        Case(name="late-start.mp4", what="begins after an hour", make=_clip(pts_ms=range(3_600_000, 3_601_000, 40)), expected=taken()),
        Case(name="zero-fps.avi", what="a frame rate of 0: players assume 25", make=zero_rate, expected=taken()),
        Case(name="timescale-0.mp4", what="a clock that stands still", make=zero_timescale, expected=refused(MediaTimestampsInvalid)),
        Case(name="1-frame.mp4", what="one frame", make=_clip(frames=1), expected=taken(1)),
        Case(name="no-times.avi", what="H.264 out of order, in a container without times", make=_clip(), expected=taken()),
        Case(
            name="too-long.mp4",
            what="31 minutes between two frames",
            make=_clip(pts_ms=[0, 1_860_000]),
            expected=refused(MediaDurationExceeded),
        ),
        Case(
            name="lying-duration.mp4",
            what="a header that promises 20 hours over one second",
            make=promising(hours=20),
            expected=replace(taken(), errors=(MediaDurationExceeded,)),
        ),
        Case(
            name="240-fps.mp4",
            what="240 frames a second, sampled at 60",
            make=_clip(frames=240, fps=240, options={"preset": "ultrafast"}),
            expected=taken(240, every=4),
        ),
        Case(name="edit-list.mp4", what="an edit that leaves out 10 frames", make=edited_out(10), expected=taken(15, first=10)),
    ]


def structures() -> list[Case]:
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    return [
        Case(name="two-videos.mp4", what="two video streams", make=_clip(tracks=2), expected=taken(FRAMES, "extra-streams-ignored")),
        Case(name="cover-first.mp4", what="a cover picture before the video", make=_clip(cover=True), expected=taken()),
        Case(name="sound-too.mp4", what="silence beside the video", make=_clip(sound=True), expected=taken()),
        Case(name="polyglot.mp4", what="a video that is a ZIP archive, too", make=polyglot, expected=taken()),
        Case(name="fragmented.mp4", what="in fragments", make=_clip(container=fragments, options={"g": "5"}), expected=taken()),
        Case(
            name="index-first.mp4", what="the index before the samples", make=_clip(container={"movflags": "faststart"}), expected=taken()
        ),
        Case(name="wrong-name.avi", what="an MP4 that is called .avi", make=_clip(container_format="mp4"), expected=taken()),
        Case(name="growing.mkv", what="still being written, 20 of 25 frames", make=still_growing(20), expected=taken(19)),
        Case(
            name="growing-fragments.mp4",
            what="still being written, 20 of 25 frames, in fragments of 5",
            make=still_growing(20, container=fragments),
            expected=taken(15),
        ),
        Case(name="growing.mp4", what="still being written, its index to come", make=still_growing(20), expected=refused(MediaCorrupt)),
        Case(name="encrypted.mp4", what="Common Encryption", make=_clip(container=CENC), expected=refused(MediaEncrypted)),
        Case(
            name="encrypted-fragments.mp4",
            what="the same in fragments, as streaming services have it",
            make=_clip(container={**fragments, **CENC}, options={"g": "5"}),
            expected=refused(MediaEncrypted),
        ),
        Case(name="zero-size.mp4", what="a header of 0x0 over frames of 128x32", make=claiming_size(0, 0), expected=taken()),
        Case(name="huge-size.mp4", what="a header of 65535x65535 over the same", make=claiming_size(65535, 65535), expected=taken()),
    ]


def _clip(**how: Any) -> Maker:
    return lambda path: write_clip(path, **how)


def _pixels_of(codec: str) -> str:
    return "yuvj420p" if codec == "mjpeg" else "yuv420p"


def _growing_picture(path: Path) -> None:
    shown = [(key_frame("libvpx-vp9", enlarged(number, 1 + number // 12)), 1) for number in range(FRAMES)]
    write_key_frames(path, shown, size=(WIDTH, HEIGHT), codec="libvpx-vp9")


def _woven(number: int) -> NDArray[np.uint8]:
    """Two moments in one frame, the upper lines' being the later one: who shows both at once shows combs."""
    picture = painted(number)
    picture[0::2] = painted(number + 1)[0::2]
    return picture


def _cropped(number: int) -> NDArray[np.uint8]:
    return painted(number)[:-1, :-1]


def _half_transparent(number: int) -> NDArray[np.uint8]:
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    return np.concatenate([painted(number), alpha], axis=2)


def _turned(quarters: int) -> Picture:
    return lambda number: np.rot90(painted(number), quarters)
