import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.preprocess.judge.sightings import Sighting, Sightings


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
    assert [(number, len(track)) for number, track in seen.established()] == [(1, 5)]
    assert seen.coverage().dropped == {"short_track": 1}


def test_a_video_of_one_frame_is_judged() -> None:
    seen = Sightings()
    seen.saw_frame(faces=1)
    seen.add(1, sighting(0, 0))
    seen.settle()
    assert [(number, len(track)) for number, track in seen.established()] == [(1, 1)]


def test_tracks_are_numbered_in_the_order_in_which_they_are_established() -> None:
    """Track 9 is seen first; track 2 is the first to be seen twice."""
    seen = Sightings()
    for frame, tracks in enumerate([(9, 2), (2,), (9,), (5,)]):
        seen.saw_frame(faces=len(tracks))
        for track in tracks:
            seen.add(track, sighting(frame, frame * 125))
    assert [seen.number_of(track) for track in (2, 9, 5)] == [1, 2, None]
    assert [[each.pts_ms for each in track] for _, track in seen.established()] == [[0, 125], [0, 250]]
    seen.settle()
    assert [seen.number_of(track) for track in (2, 9, 5)] == [1, 2, None], "numbers that were shown stay"
    assert seen.coverage().dropped == {"short_track": 1}


def test_what_was_read_of_a_track_stays_where_it_is_while_it_grows() -> None:
    seen = Sightings()
    read: list[int] = []
    for frame in range(6):
        seen.saw_frame(faces=1)
        seen.add(4, sighting(frame, frame * 125))
        for _, track in seen.established():
            read += [each.frame for each in track[len(read) :]]
    assert read == list(range(6))


def test_more_faces_than_are_wanted_are_counted() -> None:
    seen = Sightings()
    for frame in range(3):
        seen.saw_frame(faces=1, more=2)
        seen.add(1, sighting(frame, frame * 125))
    seen.settle()
    coverage = seen.coverage()
    assert (coverage.faces_found, coverage.faces_used, coverage.dropped) == (9, 3, {"too_many": 6})
    assert seen.warnings() == ("faces-truncated",)


frames = st.lists(st.tuples(st.lists(st.integers(1, 6), max_size=4, unique=True), st.integers(0, 2), st.booleans()), max_size=12)


@given(frames)
def test_whatever_is_seen_it_adds_up(video: list[tuple[list[int], int, bool]]) -> None:
    seen = Sightings()
    for frame, (tracks, more, blurred) in enumerate(video):
        seen.saw_frame(faces=len(tracks), more=more)
        for track in tracks:
            if blurred:
                seen.drop("blurred")
            else:
                seen.add(track, sighting(frame, frame * 125))
    seen.settle()
    coverage = seen.coverage()
    assert coverage.faces_found - coverage.faces_used == sum(coverage.dropped.values())
    assert coverage.faces_used == sum(len(track) for _, track in seen.established())
    assert coverage.frames_used <= coverage.frames_with_face <= coverage.frames_sampled == len(video)
