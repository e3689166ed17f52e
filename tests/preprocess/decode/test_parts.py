"""A part of a video is decoded as a slice of the whole, and nothing but it counts."""

import numpy as np
import pytest

from services.preprocess.decode.limits import most_frames
from services.preprocess.decode.video import open_video
from shared.errors import (
    MediaDurationExceeded,
    MediaFramesExceeded,
    MediaRangeEmpty,
)

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
