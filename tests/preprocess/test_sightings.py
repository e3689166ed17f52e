import numpy as np

from services.preprocess.sightings import Sighting, Sightings


def sighting(frame: int, pts_ms: int) -> Sighting:
    return Sighting(
        frame=frame,
        pts_ms=pts_ms,
        box=(0.1, 0.1, 0.2, 0.2),
        feature=np.zeros(4, dtype=np.float32),
        regions=np.full(3, 1 / 3, dtype=np.float32),
    )


def test_every_face_is_used_or_counted_under_a_reason() -> None:
    seen = Sightings()
    for frame, faces in enumerate([2, 1, 0, 1]):
        seen.saw_frame(faces=faces)
        if faces:
            seen.add(7, sighting(frame, frame * 125))
    seen.drop("too_small")
    seen.settle()
    coverage = seen.coverage()
    assert (coverage.frames_sampled, coverage.frames_with_face, coverage.frames_used) == (4, 3, 3)
    assert coverage.faces_found == coverage.faces_used + sum(coverage.dropped.values()) == 4


def test_a_face_seen_once_in_many_frames_is_not_judged() -> None:
    seen = Sightings()
    for frame in range(5):
        seen.saw_frame(faces=2 if frame == 3 else 1)
        seen.add(1, sighting(frame, frame * 125))
    seen.add(2, sighting(3, 375))
    seen.settle()
    assert [len(track) for track in seen.tracks()] == [5]
    assert seen.coverage().dropped == {"short_track": 1}


def test_a_video_of_one_frame_is_judged() -> None:
    seen = Sightings()
    seen.saw_frame(faces=1)
    seen.add(1, sighting(0, 0))
    seen.settle()
    assert [len(track) for track in seen.tracks()] == [1]


def test_tracks_come_in_order_of_appearance() -> None:
    seen = Sightings()
    for _ in range(4):
        seen.saw_frame(faces=1)
    for track, frames in ((9, (0, 1)), (2, (2, 3))):
        for frame in frames:
            seen.add(track, sighting(frame, frame * 125))
    assert [track[0].pts_ms for track in seen.tracks()] == [0, 250]
