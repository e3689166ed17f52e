import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.stack import newest_release
from services.preprocess.judge.classifier import softmax
from services.preprocess.judge.sightings import Sighting, Sightings, halved
from shared.releases import Release
from training.export import WEIGHTS, read_release_network

FEATURE_SIZE = 192
OF_A_SIGHTING = 600
"""Bytes beside the feature: numbers, the box, and what Python makes of them."""


def sighting(frame: int, pts_ms: int) -> Sighting:
    return Sighting(
        frame=frame,
        pts_ms=pts_ms,
        box=(0.1, 0.1, 0.2, 0.2),
        feature=np.zeros(4, dtype=np.float16),
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


@settings(deadline=None)
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


def test_what_is_kept_of_a_face_is_little_more_than_its_feature() -> None:
    """What came with it from the model, a batch at full width, is not."""
    seen, many = Sightings(), 1600
    tracemalloc.start()
    try:
        for frame in range(many):
            if frame % 16 == 0:
                features, regions = np.zeros((16, FEATURE_SIZE), np.float32), np.zeros((16, 3), np.float32)
            box = (frame / 7.0, frame / 5.0, frame / 3.0, frame / 2.0)
            feature, weights = halved(features[frame % 16]), regions[frame % 16]
            seen.add(1, Sighting(frame=frame, pts_ms=125 * frame, box=box, feature=feature, regions=weights))
        of_each = tracemalloc.get_traced_memory()[0] / many
    finally:
        tracemalloc.stop()
    assert of_each < 2 * FEATURE_SIZE + OF_A_SIGHTING


def test_a_feature_that_is_too_large_for_its_half_stays_a_number() -> None:
    kept = halved(np.array((1e6, -1e6, 0.5), np.float32))
    assert kept.dtype == np.float16
    assert np.isfinite(kept).all()
    assert kept[2] == 0.5


@pytest.mark.parametrize("frames", [1, 4, 40])
def test_verdicts_are_the_same_from_halves(frames: int) -> None:
    """Of the release that is served; its features are of faces that are noise, which are harder to tell apart than those of people."""
    folder = newest_release()
    release = Release.model_validate_json((folder / "release.json").read_text())
    network = read_release_network(release, folder / WEIGHTS)
    faces = np.random.default_rng(frames).integers(0, 256, (frames, 9, release.size, release.size), dtype=np.uint8)
    with torch.inference_mode():
        features = network.encoder(torch.from_numpy(faces))[0].numpy()
        halves = np.stack([halved(feature) for feature in features]).astype(np.float32)
        mask = torch.ones(1, frames)
        (whole, weights), (half, half_weights) = (
            [output.numpy() for output in network.clip(torch.from_numpy(kept)[None], mask)] for kept in (features, halves)
        )
    np.testing.assert_allclose(softmax(half), softmax(whole), atol=1e-3)
    np.testing.assert_allclose(half_weights, weights, atol=1e-3)
