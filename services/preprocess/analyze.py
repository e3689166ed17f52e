"""The serving road, as the picture in the README draws it: decode, find, follow, crop, encode, judge.

Knows no queue and no job record; what it learns on the way it tells through `report`.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from services.preprocess.classifier import Classifier
from services.preprocess.faces import Face, FaceDetector
from services.preprocess.regions import Pixels, face_tensor, upright_side_px
from services.preprocess.sightings import Sighting, Sightings
from services.preprocess.tracks import Tracker
from services.preprocess.verdicts import judge_track
from services.preprocess.video import MAX_DURATION_MS, Frame, open_video
from shared.jobs import Options, Progress, Stage, Timings
from shared.releases import Release
from shared.results import ModelInfo, Result, Track

FRAMES_PER_BATCH = 16
"""Sampled frames in memory at a time, and about as many faces as one request to the model holds."""

LEAST_FACE_PX = 24
"""An upright face with a shorter side holds too little of an expression to be judged."""

Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One face of one sampled frame, on its way to the model."""

    track: int
    frame: int
    pts_ms: int
    box: tuple[float, float, float, float]
    tensor: Pixels
    """(9, S, S)"""


def analyze(
    video: Path,
    *,
    job_id: str,
    options: Options,
    release: Release,
    detector: FaceDetector,
    classifier: Classifier,
    report: Report,
    max_duration_ms: int = MAX_DURATION_MS,
) -> tuple[Result, Timings]:
    """Judge every face of a video. Memory does not grow with the video's pixels, only by one feature per face and frame.

    `report` is called after every batch of frames and before every track, and may raise to stop the analysis. Raises MediaError for a video
    that cannot be read and InferenceError for a model that does not answer.
    """
    watch = Stopwatch()
    sightings, tracker = Sightings(), Tracker()
    with open_video(video, max_duration_ms=max_duration_ms) as source:
        expected = source.expected_frames(options.sample_fps)
        frames = watch.timed("decode", source.frames(options.sample_fps))
        for batch in in_batches(frames, FRAMES_PER_BATCH):
            with watch("detect"):
                found = detector.detect([frame.rgb_hwc for frame in batch])
                crops = [
                    crop
                    for frame, faces in zip(batch, found, strict=True)
                    for crop in follow(frame, faces, tracker, sightings, size=release.size)
                ]
            with watch("infer"):
                encode(crops, sightings, release=release, classifier=classifier)
            report(progress(Stage.ANALYSING, done=sightings.frames_sampled, expected=expected))
        media, warnings = source.media(), source.warnings
    sightings.settle()
    tracks: list[Track] = []
    for number, track in enumerate(sightings.tracks(), start=1):
        report(progress(Stage.CLASSIFYING, done=sightings.frames_sampled, expected=sightings.frames_sampled))
        with watch("infer"):
            tracks.append(judge_track(track, number=number, duration_ms=media.duration_ms, release=release, classifier=classifier))
    result = Result(
        id=job_id,
        model=ModelInfo(release=release.version, preprocess=release.preprocess),
        media=media,
        coverage=sightings.coverage(),
        tracks=tuple(tracks),
        warnings=(*warnings, *sightings.warnings()),
    )
    return result, watch.timings()


def follow(frame: Frame, faces: list[Face], tracker: Tracker, sightings: Sightings, *, size: int) -> Iterator[Crop]:
    """Give each face its track, and cut those that are large enough to be judged."""
    number = sightings.frames_sampled
    sightings.saw_frame(faces=len(faces))
    boxes = np.array([face.box_xyxy for face in faces], dtype=np.float32).reshape(-1, 4)
    for face, track in zip(faces, tracker.update(frame.pts_ms, boxes), strict=True):
        if upright_side_px(face.landmarks_xy) < LEAST_FACE_PX:
            sightings.drop("too_small")
            continue
        yield Crop(
            track=track,
            frame=number,
            pts_ms=frame.pts_ms,
            box=fractions(face, frame.rgb_hwc),
            tensor=face_tensor(frame.rgb_hwc, face.landmarks_xy, size=size),
        )


def encode(crops: list[Crop], sightings: Sightings, *, release: Release, classifier: Classifier) -> None:
    """One feature for each crop, which is all that is kept of it."""
    if not crops:
        return
    encoded = classifier.encode(release, np.stack([crop.tensor for crop in crops]))
    for crop, feature, regions in zip(crops, encoded.features, encoded.region_weights, strict=True):
        sightings.add(crop.track, Sighting(frame=crop.frame, pts_ms=crop.pts_ms, box=crop.box, feature=feature, regions=regions))


def fractions(face: Face, rgb_hwc: Pixels) -> tuple[float, float, float, float]:
    """The face's box in fractions of the frame, cut off at its edges."""
    height, width = rgb_hwc.shape[:2]
    left, top, right, bottom = np.clip(face.box_xyxy / (width, height, width, height), 0, 1).round(4).tolist()
    return left, top, right, bottom


def progress(stage: Stage, *, done: int, expected: int | None) -> Progress:
    """99 % at most: only the queue says 100, once the job has succeeded."""
    if not expected:
        return Progress(stage=stage, frames_done=done)
    return Progress(stage=stage, frames_done=done, frames_total=max(expected, done), percent=min(99, 100 * done // expected))


def in_batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch


class Stopwatch:
    """Where the time goes, by stage."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[stage] += time.monotonic() - began

    def timed(self, stage: str, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The same frames; the time spent waiting for each is the stage's."""
        while True:
            with self(stage):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def timings(self) -> Timings:
        milliseconds = {stage: round(seconds * 1000) for stage, seconds in self._seconds.items()}
        return Timings(total=round((time.monotonic() - self._began) * 1000), **milliseconds)
