"""Upright, square pixels of whole pictures, from the stream that a player would show."""

from fractions import Fraction

import av
import numpy as np
import pytest

from services.preprocess.decode.video import open_video
from shared.errors import (
    MediaNoVideoStream,
)
from tests.preprocess.decode.drawn import box, write_frames


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_clips_come_out_upright(clips, read, coded_picture, degrees):
    def as_held(k):
        return np.rot90(coded_picture(k), degrees // 90)  # counterclockwise, so that turning it clockwise sets it right

    seen, media, warnings = read(clips.write(picture=as_held, rotate_clockwise=degrees, frames=5))
    assert [number for _, number in seen] == [0, 1, 2, 3, 4]
    assert (media.width, media.height, media.rotation_degrees) == (128, 32, degrees)
    assert warnings == ("rotated",)


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
