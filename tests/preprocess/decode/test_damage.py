"""Damaged files give what can be decoded of them, or say that nothing can."""

import numpy as np
import pytest

from services.preprocess.decode.frames import Frame
from services.preprocess.decode.video import open_video
from shared.errors import (
    MediaCorrupt,
    MediaError,
)


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
