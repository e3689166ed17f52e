"""What the benches are made of: clips that are long without being encoded for long, and the picture of the stages."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.clip import make_clip
from services.preprocess.decode.video import open_video
from tests.bench.clips import repeated
from tests.bench.picture import COLOURS, Lane, bars
from tests.bench.rivals import sampled


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "second.mp4"
    make_clip(path, seconds=1)
    return path


def test_a_repeated_clip_shows_every_picture_each_time_at_its_time(second: Path, tmp_path: Path) -> None:
    with open_video(repeated(second, tmp_path / "long.mp4", seconds=60)) as video:
        frames = list(video.frames(5))
        assert video.warnings == ()
        assert video.media().duration_ms == 60_000
    assert [frame.pts_ms for frame in frames] == list(range(0, 60_000, 200))
    assert all((frame.rgb_hwc == frames[number % 5].rgb_hwc).all() for number, frame in enumerate(frames))


@pytest.mark.parametrize(("fps", "frames"), [(60, 25), (25, 25), (8, 8), (1, 1)])
def test_rivals_look_at_as_many_frames_as_asked(second: Path, fps: float, frames: int) -> None:
    assert sum(1 for _ in sampled(second, fps=fps)) == frames


def test_the_picture_shows_each_part_as_long_as_it_takes() -> None:
    lanes = [Lane(name="thread <1>", parts={"a & b": 1.0, "c": 3.0}), Lane(name="other", parts={"c": 2.0})]
    picture = ElementTree.fromstring(bars({"360p": lanes}, title="Milliseconds", unit="ms"))  # noqa: S314 -- our own
    drawn = {rect[0].text: rect for rect in picture.iter("{http://www.w3.org/2000/svg}rect") if len(rect)}
    assert set(drawn) == {"thread <1>, a & b: 1.0 ms", "thread <1>, c: 3.0 ms", "other, c: 2.0 ms"}
    widths = [float(rect.get("width", "")) for rect in drawn.values()]
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.2)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.2)
    assert [rect.get("fill") for rect in drawn.values()] == [COLOURS[0], COLOURS[1], COLOURS[1]]
