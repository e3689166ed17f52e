"""What the demo says when there is nothing to show. What it shows is in tests/e2e."""

from pathlib import Path

import pytest

from deploy import demo
from deploy.stack import free_ports
from shared.expressions import LABELS
from shared.results import DecidingFrame, Explanation, Track, Verdict, Window

REGIONS = {"face": 0.5, "eyes": 0.3, "mouth": 0.2}
SCORES = {label: 1.0 if label == "happy" else 0.0 for label in LABELS}


def track(track_id: str, *starts_ms: int) -> Track:
    """A track, or the part of one that is on one page of a result."""
    timeline = tuple(Window(label="happy", scores=SCORES, start_ms=start, end_ms=start + 500, frames=4) for start in starts_ms)
    frames = (DecidingFrame(pts_ms=0, weight=1, box=(0, 0, 1, 1), regions=REGIONS),)
    return Track(
        track_id=track_id,
        start_ms=0,
        end_ms=1500,
        frames=8,
        verdict=Verdict(label="happy", scores=SCORES),
        explanation=Explanation(regions=REGIONS, frames=frames),
        timeline=timeline,
    )


@pytest.mark.parametrize(("name", "said"), [("absent.mp4", "there is no file"), ("", "is not a file")])
def test_a_bad_path_is_said_before_anything_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    home = tmp_path / "home"
    assert demo.main([str(tmp_path / name), "--home", str(home)]) == 1
    assert said in capsys.readouterr().out
    assert not home.exists()


def test_a_server_that_does_not_answer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("MIEN_URL", address)
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"never read")
    assert demo.main([str(video)]) == 1
    assert f"{address} does not answer" in capsys.readouterr().out


def test_the_pages_of_a_long_result_make_whole_tracks_again() -> None:
    parts = [track("t1", 0, 500), track("t1", 1000), track("t2", 0)]
    assert [(whole.track_id, [window.start_ms for window in whole.timeline]) for whole in demo.joined(parts)] == [
        ("t1", [0, 500, 1000]),
        ("t2", [0]),
    ]
