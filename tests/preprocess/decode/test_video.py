"""Real files through the real decoder. Every frame shows its own number, so a test knows exactly which ones came out."""

import gc
import weakref
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from services.preprocess.decode.picture import Geometry
from services.preprocess.decode.video import open_video


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


@pytest.mark.parametrize(("sample_fps", "part"), [(8, {}), (60, {}), (8, {"start_ms": 300, "end_ms": 700})])
def test_only_sampled_frames_are_converted(clips, number_of, monkeypatch, sample_fps, part):
    converted = []

    def counted(geometry, picture, converter):
        pixels = upright_rgb(geometry, picture, converter)
        converted.append(40 * number_of(pixels))
        return pixels

    upright_rgb = Geometry.upright_rgb
    monkeypatch.setattr(Geometry, "upright_rgb", counted)
    with open_video(clips.write(frames=25, fps=25)) as video:
        sampled = [frame.pts_ms for frame in video.frames(sample_fps, **part)]
        assert video.media().frames_decoded > len(sampled) or sample_fps == 60
    assert converted == sampled


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
