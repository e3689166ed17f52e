"""Real files through the real decoder. Every frame shows its own number, so a test knows exactly which ones came out."""

import gc
import re
import socket
import struct
import threading
import time
import weakref
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from services.preprocess.decode.frames import Frame
from services.preprocess.decode.limits import most_frames
from services.preprocess.decode.video import open_video
from shared.errors import (
    DecodeTimeout,
    MediaCodecUnsupported,
    MediaContainerNotAllowed,
    MediaCorrupt,
    MediaDimensionsExceeded,
    MediaDurationExceeded,
    MediaEmpty,
    MediaEncrypted,
    MediaError,
    MediaFramesExceeded,
    MediaNoVideoStream,
    MediaRangeEmpty,
    MediaTimestampsInvalid,
    MediaUnrecognised,
    StorageError,
)


@pytest.fixture
def read(number_of):
    """Read a whole clip: the numbers shown with their times, what the video was, and its warnings."""

    def read(path, sample_fps=60, **limits):
        with open_video(path, **limits) as video:
            seen = [(frame.pts_ms, number_of(frame.rgb_hwc)) for frame in video.frames(sample_fps)]
            return seen, video.media(), video.warnings

    return read


# --- times and sampling --------------------------------------------------------------------------------------------


def test_frames_come_out_with_their_times(clips, read):
    seen, media, warnings = read(clips.write(frames=50, fps=25))
    assert seen == [(40 * k, k) for k in range(50)]
    assert (media.duration_ms, media.frames_decoded, media.width, media.height) == (2000, 50, 128, 32)
    assert (media.codec, media.rotation_degrees, warnings) == ("h264", 0, ())
    assert "mp4" in media.container


def test_sampling_takes_the_first_frame_at_or_after_each_tick(clips, read):
    seen, media, _ = read(clips.write(frames=25, fps=25), sample_fps=8)
    assert seen == [(0, 0), (160, 4), (280, 7), (400, 10), (520, 13), (640, 16), (760, 19), (880, 22)]
    assert media.frames_decoded == 25


def test_240_frames_per_second(clips, read):
    seen, media, _ = read(clips.write(frames=240, fps=240), sample_fps=60)
    assert [number for _, number in seen] == list(range(0, 240, 4))
    assert media.duration_ms == pytest.approx(1000, abs=1)


def test_variable_frame_rate(clips, read):
    pts_ms = [0, 40, 80, 500, 520, 1000, 2000, 2040]
    seen, _, warnings = read(clips.write(pts_ms=pts_ms))
    assert seen == [(pts, k) for k, pts in enumerate(pts_ms)]
    assert warnings == ("variable-frame-rate",)


def test_negative_times(clips, read):
    seen, _, warnings = read(clips.write("clip.mkv", pts_ms=range(-400, 600, 40)))
    assert seen == [(40 * k, k) for k in range(25)]
    assert warnings == ()


def test_one_frame(clips, read):
    seen, media, _ = read(clips.write(frames=1))
    assert seen == [(0, 0)]
    assert media.frames_decoded == 1


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_times_are_those_that_a_player_shows_when_sound_begins_first(clips, read, name):
    seen, _, _ = read(clips.write(name, pts_ms=range(2000, 3000, 40), sound_ms=3000))
    assert seen[0] == (2000, 0)
    assert seen[-1] == (2960, 24)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_sound_that_goes_on_after_the_picture_is_no_damage(clips, read, name):
    path = clips.write(name, frames=50, sound_ms=10_000)
    assert read(path)[2] == ()
    with open_video(path) as video:
        assert video.expected_frames(8) == 16


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "libx264"), ("b.avi", "mpeg4"), ("c.mkv", "ffv1"), ("d.webm", "libvpx-vp9"), ("e.mov", "mjpeg")]
)
def test_containers_and_codecs(clips, read, name, codec):
    seen, media, warnings = read(clips.write(name, codec=codec, frames=30, fps=25))
    assert seen == [(40 * k, k) for k in range(30)]
    assert media.duration_ms == pytest.approx(1200, abs=1)
    assert warnings == ()


def test_expected_frames_is_what_comes(clips):
    path = clips.write(frames=100, fps=25)
    for sample_fps in (0.1, 1, 8, 25, 60):
        with open_video(path) as video:
            expected = video.expected_frames(sample_fps)
            assert expected == len(list(video.frames(sample_fps)))


# --- a part of it --------------------------------------------------------------------------------------------------

KINDS = {
    "b-frames.mp4": {"codec": "libx264", "g": "25", "bf": "3"},
    "open-groups.mkv": {"codec": "libx264", "g": "25", "bf": "3", "x264-params": "open-gop=1"},
    "one-keyframe.mp4": {"codec": "libx264", "g": "1000"},
    "b-frames.avi": {"codec": "mpeg4", "g": "25", "bf": "2", "qscale": "2"},
    "clip.webm": {"codec": "libvpx-vp9", "g": "25", "deadline": "realtime", "cpu-used": "8"},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_part_is_a_slice_of_the_whole(clips, read, number_of, name):
    path = clips.write(name, frames=150, fps=25, **KINDS[name])
    whole = {sample_fps: read(path, sample_fps)[0] for sample_fps in (3, 8, 60)}
    assert len(whole[60]) == 150
    random = np.random.default_rng(4)
    parts = [(0, 1000), (5000, None), (1000, 1001), (5960, 9000), *(sorted(part) for part in random.integers(0, 6000, (6, 2)).tolist())]
    for start_ms, end_ms in parts:
        for sample_fps, frames in whole.items():
            expected = [(pts, number) for pts, number in frames if start_ms <= pts < (end_ms or 6000)]
            with open_video(path) as video:
                part = video.frames(sample_fps, start_ms=start_ms, end_ms=end_ms)
                if expected:
                    assert [(frame.pts_ms, number_of(frame.rgb_hwc)) for frame in part] == expected
                    assert video.warnings == ()
                else:
                    with pytest.raises(MediaRangeEmpty):
                        next(part)


def test_a_part_at_variable_frame_rate_after_sound_that_begins_first(clips, read, number_of):
    path = clips.write("clip.mkv", pts_ms=[2000 + 40 * k + 35 * (k % 3 == 0) for k in range(100)], sound_ms=6000, g="10")
    expected = [(pts, number) for pts, number in read(path, 8)[0] if 4111 <= pts < 5000]
    with open_video(path) as video:
        assert [(frame.pts_ms, number_of(frame.rgb_hwc)) for frame in video.frames(8, start_ms=4111, end_ms=5000)] == expected


@pytest.mark.parametrize("start_ms", [1000, 5000])
def test_a_part_that_nothing_lies_in(clips, start_ms):
    with open_video(clips.write(frames=25, fps=25)) as video, pytest.raises(MediaRangeEmpty, match=f"{start_ms} ms"):
        next(video.frames(8, start_ms=start_ms))


def test_only_a_part_is_decoded(clips):
    path = clips.write(frames=500, fps=25, g="25", preset="ultrafast")
    decoded = 0

    def count():
        nonlocal decoded
        decoded += 1

    with open_video(path) as video:
        assert len(list(video.frames(8, start_ms=15_000, end_ms=15_500, heartbeat=count))) == 4
        assert video.media().frames_decoded == 13
    assert decoded < 80


def test_damage_elsewhere_is_none_of_a_parts(clips):
    path = clips.write("clip.mkv", frames=200, fps=25, g="10", bf="0")
    content = bytearray(path.read_bytes())
    early = len(content) // 10
    content[early : early + 150] = np.random.default_rng(0).bytes(150)
    with open_video(clips.bytes("hurt.mkv", bytes(content))) as video:
        assert len(list(video.frames(60, start_ms=6000, end_ms=7000))) == 25
        assert video.warnings == ()


def test_the_length_of_a_part_counts_not_that_of_the_whole(clips):
    path = clips.write(frames=100, fps=25, g="25")
    with open_video(path, max_duration_ms=1000) as video:
        assert len(list(video.frames(8, start_ms=2000, end_ms=3000))) == 8
    with open_video(path, max_duration_ms=999) as video, pytest.raises(MediaDurationExceeded):
        list(video.frames(8, start_ms=2000, end_ms=3000))


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "duration_ms"), [(0, 2000, 2000), (1500, 2800, 2800), (0, 2750, 2750), (0, 5000, 3000), (0, None, 3000)]
)
def test_a_part_lasts_no_longer_than_was_asked_for(clips, start_ms, end_ms, duration_ms):
    with open_video(clips.write(frames=30, fps=10)) as video:
        list(video.frames(10, start_ms=start_ms, end_ms=end_ms))
        assert video.media().duration_ms == duration_ms


def test_frames_before_a_part_are_not_counted(clips, number_of):
    """An AVI without an index is decoded from its beginning."""
    content = clips.write("clip.avi", frames=150, fps=25, codec="mpeg4").read_bytes()
    path = clips.bytes("unindexed.avi", content[: content.rindex(b"idx1")])
    decoded = []
    with open_video(path, max_duration_ms=1000) as video:
        seen = [number_of(frame.rgb_hwc) for frame in video.frames(60, start_ms=5000, heartbeat=lambda: decoded.append(1))]
    assert seen == list(range(125, 150))
    assert len(decoded) == 150 > most_frames(1000)


def test_frames_of_a_part_are_counted(clips):
    path = clips.write("clip.mkv", pts_ms=[*range(0, 2000, 40), *range(2000, 2100)], codec="mpeg4")
    with open_video(path, max_duration_ms=1000) as video, pytest.raises(MediaFramesExceeded, match="60"):
        list(video.frames(8, start_ms=2000))


@pytest.mark.parametrize(("start_ms", "end_ms"), [(0, None), (0, 1000), (900, None), (901, 3300), (3500, 9000)])
def test_what_is_expected_of_a_part_is_what_comes(clips, start_ms, end_ms):
    path = clips.write(frames=100, fps=25)
    for sample_fps in (8, 25):
        with open_video(path) as video:
            expected = video.expected_frames(sample_fps, start_ms=start_ms, end_ms=end_ms)
            assert abs(expected - len(list(video.frames(sample_fps, start_ms=start_ms, end_ms=end_ms)))) <= 1


# --- the way it is held --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_clips_come_out_upright(clips, read, coded_picture, degrees):
    def as_held(k):
        return np.rot90(coded_picture(k), degrees // 90)  # counterclockwise, so that turning it clockwise sets it right

    seen, media, warnings = read(clips.write(picture=as_held, rotate_clockwise=degrees, frames=5))
    assert [number for _, number in seen] == [0, 1, 2, 3, 4]
    assert (media.width, media.height, media.rotation_degrees) == (128, 32, degrees)
    assert warnings == ("rotated",)


# --- the shape of its pixels, and its fields -----------------------------------------------------------------------


def write_frames(path, pictures, *, pixel_shape=None, mux=None, **options):
    """A clip of yuv420p `pictures`, (H * 3 / 2, W) each."""
    height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
    with av.open(str(path), "w", options=mux or {}) as container:
        stream = container.add_stream("libx264", rate=25, options={name.replace("_", "-"): value for name, value in options.items()})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def box(left, right, *, width=72, height=48):
    """Grey, with white columns from `left` to `right`."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height, left:right] = 235
    return picture


@pytest.mark.parametrize(
    ("name", "pixel_shape", "size"),
    [
        ("wide.mp4", Fraction(64, 45), (102, 48)),
        ("wide.mkv", Fraction(2), (144, 48)),
        ("tall.mkv", Fraction(3, 4), (72, 64)),
        ("nonsense.mp4", Fraction(200), (72, 48)),
    ],
)
def test_pixels_come_out_square(tmp_path, name, pixel_shape, size):
    path = write_frames(tmp_path / name, [box(36, 72)] * 3, pixel_shape=pixel_shape)
    with open_video(path) as video:
        (frame, *_) = video.frames(60)
        assert (video.media().width, video.media().height) == size
    assert frame.rgb_hwc.shape == (size[1], size[0], 3)
    white = frame.rgb_hwc[size[1] // 2, :, 0] > 190
    assert abs(int(white.sum()) - size[0] / 2) <= 1


def test_square_pixels_are_no_more_than_allowed(tmp_path):
    path = write_frames(tmp_path / "wide.mp4", [box(0, 9, width=96)] * 2, pixel_shape=Fraction(2))
    with open_video(path, max_pixels=96 * 48) as video:
        (frame, *_) = video.frames(60)
    height, width, _ = frame.rgb_hwc.shape
    assert height * width <= 96 * 48
    assert width / height == pytest.approx(4, abs=0.1)


def woven(k, *, width=128, height=64):
    """A box that moves by 4 pixels from field to field, upper first."""
    upper, lower = (box(left, left + 30, width=width, height=height) for left in (10 + 8 * k, 14 + 8 * k))
    upper[1:height:2] = lower[1:height:2]
    return upper


def comb(rgb_hwc):
    """How much each line differs from its neighbours."""
    lines = rgb_hwc[..., 1].astype(int)
    return np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean()


def test_fields_are_untangled_frame_for_frame(tmp_path):
    options = {"flags": "+ildct+ilme", "x264_params": "interlaced=1:tff=1", "crf": "5"}
    with open_video(write_frames(tmp_path / "woven.mkv", [woven(k) for k in range(8)], **options)) as video:
        frames = list(video.frames(60))
        assert video.warnings == ()
    assert [frame.pts_ms for frame in frames] == [40 * k for k in range(8)]
    for k, frame in enumerate(frames[1:], start=1):
        assert comb(frame.rgb_hwc) < 2
        seen = np.flatnonzero(frame.rgb_hwc[32, :, 1] > 190)
        assert seen.min() in range(10 + 8 * k - 2, 14 + 8 * k + 3)
        assert len(seen) == pytest.approx(30, abs=4)


def test_what_is_not_flagged_as_interlaced_is_left_alone(tmp_path):
    with open_video(write_frames(tmp_path / "lines.mkv", [woven(k) for k in range(8)], crf="5")) as video:
        assert min(comb(frame.rgb_hwc) for frame in video.frames(60)) > 10


# --- several streams -----------------------------------------------------------------------------------------------


def test_the_video_stream_that_is_marked_as_default(clips, tmp_path, number_of, coded_picture):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, number in zip(streams, (3, 7), strict=True):
            stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv420p"
            stream.disposition = av.stream.Disposition.default if number == 7 else av.stream.Disposition.forced
        for stream, number in zip(streams, (3, 7), strict=True):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coded_picture(number), format="rgb24")))
            container.mux(stream.encode(None))
    with open_video(path) as video:
        assert [number_of(frame.rgb_hwc) for frame in video.frames(60)] == [7]


def test_the_first_of_several_video_streams(clips, read):
    seen, _, warnings = read(clips.write(tracks=2, frames=5))
    assert [number for _, number in seen] == [0, 1, 2, 3, 4]
    assert warnings == ("extra-streams-ignored",)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_is_no_video_not_even_with_a_cover(clips, cover):
    with pytest.raises(MediaNoVideoStream, match="audio"):
        open_video(clips.audio(cover=cover))


# --- files that are no video ---------------------------------------------------------------------------------------

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
NOT_VIDEOS = {
    "text": b"It was a dark and stormy night.\n" * 100,
    "html": b"<!doctype html><html><body>404</body></html>",
    "zip": b"PK\x03\x04" + bytes(500),
    "one byte": b"\0",
    "noise": np.random.default_rng(0).bytes(5000),
}
NOT_TAKEN = {
    "png": PNG,
    "local list": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "gif": b"GIF89a" + bytes(500),
    "heic": b"\0\0\0\x18ftypheic" + bytes(500),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(500),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(500),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(500),
    "flv": b"FLV\x01\x05" + bytes(500),
    "ogg": b"OggS" + bytes(500),
    "transport stream": (b"G" + bytes(187)) * 10,
    "dash": b"<?xml version='1.0'?>\n<MPD></MPD>",
}


@pytest.mark.parametrize("content", NOT_VIDEOS.values(), ids=NOT_VIDEOS.keys())
def test_other_files_are_not_recognised(clips, content):
    with pytest.raises(MediaUnrecognised):
        open_video(clips.bytes("upload", content))


@pytest.mark.parametrize("content", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_what_is_recognised_and_not_taken(clips, content):
    with pytest.raises(MediaContainerNotAllowed):
        open_video(clips.bytes("upload", content))


def test_no_bytes(clips):
    with pytest.raises(MediaEmpty):
        open_video(clips.bytes("upload", b""))


def test_no_file(tmp_path):
    with pytest.raises(StorageError):
        open_video(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_playlists_reach_no_server(clips, kind):
    with socket.create_server(("127.0.0.1", 0)) as canary:
        address = f"http://127.0.0.1:{canary.getsockname()[1]}/part.mp4"
        content = {
            "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
            "ffconcat": f"ffconcat version 1.0\nfile {address}\n",
        }[kind]
        with pytest.raises(MediaContainerNotAllowed):
            open_video(clips.bytes(f"upload.{kind}", content.encode()))
        canary.settimeout(0.2)
        with pytest.raises(TimeoutError):
            canary.accept()


def test_a_session_description_binds_no_socket(clips):
    """FFmpeg would bind the port and wait for packets: watch this process's sockets for as long as it tries."""
    sdp = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    errors: list[BaseException] = []

    def attempt():
        try:
            open_video(clips.bytes("upload.sdp", sdp), io_timeout_s=2)
        except MediaError as error:
            errors.append(error)

    attempts = threading.Thread(target=attempt)
    attempts.start()
    bound = set()
    while attempts.is_alive():
        bound |= {connection.laddr.port for connection in psutil.Process().net_connections("udp")}
        time.sleep(0.002)
    assert isinstance(errors[0], MediaContainerNotAllowed)
    assert 45004 not in bound


# --- damage --------------------------------------------------------------------------------------------------------


def long_clip(clips, name, **options):
    return clips.write(name, frames=200, fps=25, g="10", bf="0", **options)


@pytest.mark.parametrize(("name", "options"), [("clip.mp4", {"index_first": True}), ("clip.mkv", {}), ("clip.avi", {})])
def test_a_clip_that_was_cut_off_gives_what_is_there(clips, read, name, options):
    whole = long_clip(clips, name, **options).read_bytes()
    seen, media, warnings = read(clips.bytes(f"cut-{name}", whole[: len(whole) * 6 // 10]))
    assert 10 < len(seen) < 190
    assert seen == [(40 * k, k) for k in range(len(seen))]
    assert media.frames_decoded == len(seen)
    assert warnings == ("partial-decode",)


def test_damage_in_the_middle_costs_some_frames_only(clips):
    path = long_clip(clips, "clip.mkv")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 150] = np.random.default_rng(0).bytes(150)
    with open_video(clips.bytes("hurt.mkv", bytes(content))) as video:
        times = [frame.pts_ms for frame in video.frames(60)]
        assert "partial-decode" in video.warnings
    assert times[0] == 0
    assert times[-1] == 199 * 40
    assert len(times) > 100


def test_an_mp4_cut_off_before_its_index(clips):
    whole = clips.write(frames=100).read_bytes()
    assert whole.find(b"mdat") < len(whole) * 0.3 < whole.find(b"moov")
    with pytest.raises(MediaCorrupt):
        open_video(clips.bytes("cut.mp4", whole[: len(whole) * 3 // 10]))


def test_a_header_and_nothing_else(clips):
    whole = clips.write(index_first=True).read_bytes()
    with pytest.raises(MediaCorrupt):
        open_video(clips.bytes("cut.mp4", whole[:40]))


def test_nothing_decodable(clips):
    content = bytearray(clips.write(index_first=True).read_bytes())
    start = content.find(b"mdat") + 4
    content[start:] = bytes(len(content) - start)
    with open_video(clips.bytes("zeros.mp4", bytes(content))) as video, pytest.raises(MediaCorrupt):
        list(video.frames(8))


def test_mutated_files_give_frames_or_a_media_error(clips):
    """Anything else that leaves the module fails this test, as would a crash or a hang."""
    random = np.random.default_rng(20)
    seeds = [clips.write(name, frames=20, codec=codec).read_bytes() for name, codec in [("a.mp4", "libx264"), ("b.mkv", "mpeg4")]]
    outcomes = set()
    for _ in range(120):
        content = bytearray(seeds[random.integers(len(seeds))])
        for place in random.integers(len(content), size=2 ** random.integers(0, 7)):
            content[place] = random.integers(256)
        try:
            with open_video(clips.bytes("mutant", bytes(content[: random.integers(len(content) // 2, len(content) + 1)]))) as video:
                outcomes |= {type(frame) for frame in video.frames(60)}
        except MediaError as error:
            outcomes.add(type(error))
    assert {Frame, MediaCorrupt} <= outcomes


# --- limits --------------------------------------------------------------------------------------------------------


def sample_entry(content):
    """Where the description of the H.264 stream starts in an MP4."""
    return [match.start() for match in re.finditer(b"avc1", content)][-1]


def test_no_decoder(clips):
    content = bytearray(clips.write().read_bytes())
    place = sample_entry(content)
    content[place : place + 4] = b"zzzz"
    with pytest.raises(MediaCodecUnsupported):
        open_video(clips.bytes("upload", bytes(content)))


def test_a_codec_that_is_not_allowed(clips):
    with pytest.raises(MediaCodecUnsupported, match="ffvhuff"):
        open_video(clips.write("clip.avi", codec="ffvhuff"))


def test_too_many_pixels(clips):
    path = clips.write(frames=1)
    assert len(list(open_video(path, max_pixels=128 * 32).frames(8))) == 1
    with pytest.raises(MediaDimensionsExceeded, match="128 x 32"):
        open_video(path, max_pixels=128 * 32 - 1)


def test_huge_frames_that_claim_to_be_small_are_never_decoded(clips):
    black = np.zeros((4096, 4096, 3), np.uint8)
    content = bytearray(clips.write(picture=lambda _: black, frames=1, preset="ultrafast").read_bytes())
    place = sample_entry(content)
    content[place + 28 : place + 32] = struct.pack(">HH", 64, 64)
    with pytest.raises(MediaDimensionsExceeded, match="4096 x 4096"):
        open_video(clips.bytes("bomb.mp4", bytes(content)))


def test_too_long_by_what_was_decoded_not_by_the_header(clips):
    path = clips.write(frames=50, fps=25)
    with open_video(path, max_duration_ms=1999) as video, pytest.raises(MediaDurationExceeded):
        list(video.frames(8))
    with open_video(path, max_duration_ms=2000) as video:
        assert len(list(video.frames(8))) == 16


def test_a_ribbon(tmp_path):
    path = write_frames(tmp_path / "ribbon.mkv", [box(0, 9, width=8208, height=16)], preset="ultrafast")
    with pytest.raises(MediaDimensionsExceeded, match="8208 x 16"):
        open_video(path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_too_many_frames(clips, name):
    path = clips.write(name, pts_ms=range(150), codec="mpeg4")
    with open_video(path, max_duration_ms=2000) as video, pytest.raises(MediaFramesExceeded, match="120"):
        list(video.frames(8))
    with open_video(path, max_duration_ms=4000) as video:
        assert len(list(video.frames(10))) == 2


@pytest.mark.parametrize("movflags", ["", "frag_keyframe+empty_moov"])
def test_encrypted(tmp_path, movflags):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "01" * 16, "encryption_kid": "02" * 16}
    path = write_frames(tmp_path / "secret.mp4", [box(0, 9)] * 5, mux=key | ({"movflags": movflags} if movflags else {}))
    with open_video(path) as video, pytest.raises(MediaEncrypted):
        list(video.frames(8))


def test_a_clock_that_stands_still(clips):
    content = bytearray(clips.write().read_bytes())
    time_scale = content.find(b"mdhd") + 16
    content[time_scale : time_scale + 4] = bytes(4)
    with pytest.raises(MediaTimestampsInvalid):
        open_video(clips.bytes("upload", bytes(content)))


def test_reading_that_takes_too_long(clips):
    with pytest.raises(DecodeTimeout):
        open_video(clips.write(), io_timeout_s=1e-9)


def test_memory_does_not_grow_with_length(clips):
    path = clips.write(frames=3000, fps=50, preset="ultrafast")
    resident, alive, most_alive = [], [], 0
    with open_video(path) as video:
        for index, frame in enumerate(video.frames(50)):
            alive.append(weakref.ref(frame.rgb_hwc))
            most_alive = max(most_alive, sum(reference() is not None for reference in alive[-10:]))
            if index % 500 == 499:
                resident.append(psutil.Process().memory_info().rss)
    gc.collect()
    assert len(alive) == 3000
    assert most_alive <= 2
    assert max(later - earlier for earlier, later in pairwise(resident[1:])) < 4 << 20


# --- how it is used ------------------------------------------------------------------------------------------------


def test_frames_can_be_read_once(clips):
    with open_video(clips.write()) as video:
        list(video.frames(8))
        with pytest.raises(RuntimeError, match="once"):
            next(video.frames(8))


def test_stopping_early_is_fine(clips):
    with open_video(clips.write()) as video:
        assert next(video.frames(8)).pts_ms == 0
        assert video.media().frames_decoded == 1
        assert video.warnings == ()


def test_a_file_name_is_never_a_protocol(clips, read):
    path = clips.write("clip.mp4", frames=2)
    odd = path.rename(Path(path.parent, "concat:a|http:%03d.mp4"))
    assert [number for _, number in read(odd)[0]] == [0, 1]
