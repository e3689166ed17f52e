"""What the API page shows is something that could have been answered."""

from services.gateway import examples
from services.gateway.schemas import EXAMPLE_ID


def test_the_example_is_one_analysis_and_its_whole_result() -> None:
    assert examples.SUCCEEDED.id == examples.RESULT.id == examples.QUEUED.id == EXAMPLE_ID
    assert examples.RESULT.next_page_token is None
    assert examples.SUCCEEDED.release == examples.RESULT.model.release == examples.MODEL.version
    assert examples.RESULT.links.model == examples.MODEL.links.model


def test_its_numbers_add_up() -> None:
    seen = examples.RESULT.coverage
    assert seen.faces_found == seen.faces_used + sum(seen.dropped.values())
    assert seen.faces_used == sum(track.frames for track in examples.RESULT.tracks)
    assert seen.frames_sampled == examples.SUCCEEDED.progress.frames_done
    for track in examples.RESULT.tracks:
        assert sum(window.frames for window in track.timeline) == track.frames
        assert all(first.end_ms <= second.start_ms for first, second in zip(track.timeline, track.timeline[1:], strict=False))
        assert track.timeline[-1].end_ms <= examples.RESULT.media.duration_ms
