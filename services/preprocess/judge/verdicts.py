"""From the encoded faces of one track to a verdict and the reasons, and the windows that a track is cut into."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.preprocess.arrays import Floats
from services.preprocess.judge.classifier import Classifier
from services.preprocess.judge.sightings import Sighting
from shared.expressions import LABELS, REGIONS
from shared.releases import Release, Sampling
from shared.results import DecidingFrame, Explanation, Track, Verdict, Window

DECIDING_FRAMES = 3
DECIMALS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One window of a track: its times, and which of the track's sightings fall into it."""

    start_ms: int
    end_ms: int
    first: int
    last: int
    """Exclusive."""


def judge_track(
    sightings: Sequence[Sighting], *, number: int, timeline: tuple[Window, ...], release: Release, classifier: Classifier
) -> Track:
    """Judge a track as a whole. `sightings` are in order of time and not empty; `timeline` is what its windows were judged."""
    features = np.stack([sighting.feature for sighting in sightings]).astype(np.float32)
    everything = np.ones((1, len(sightings)), dtype=np.float32)
    whole = classifier.judge(release, features[np.newaxis], everything)
    return Track(
        track_id=f"t{number}",
        start_ms=sightings[0].pts_ms,
        end_ms=sightings[-1].pts_ms,
        frames=len(sightings),
        verdict=Verdict(**verdict(whole.scores[0])),
        explanation=explain(sightings, whole.frame_weights[0]),
        timeline=timeline,
    )


def windows(pts_ms: Sequence[int], *, sampling: Sampling, duration_ms: int) -> list[Span]:
    """The windows of the video's common grid in which this track has at least one sighting."""
    times = np.asarray(pts_ms)
    first_start = max(0, (times[0] - sampling.window_ms) // sampling.step_ms + 1) * sampling.step_ms
    starts = np.arange(first_start, times[-1] + 1, sampling.step_ms)
    firsts, lasts = np.searchsorted(times, starts), np.searchsorted(times, starts + sampling.window_ms)
    return [
        Span(start_ms=start, end_ms=min(start + sampling.window_ms, max(duration_ms, int(times[last - 1]) + 1)), first=first, last=last)
        for start, first, last in zip(starts.tolist(), firsts.tolist(), lasts.tolist(), strict=True)
        if last > first
    ]


def verdict(scores: Floats) -> dict[str, object]:
    """Scores (7,) as the fields of a Verdict."""
    named = {label: rounded(score) for label, score in zip(LABELS, scores, strict=True)}
    return {"label": max(named, key=named.__getitem__), "scores": named}


def explain(sightings: Sequence[Sighting], frame_weights: Floats) -> Explanation:
    """Which regions counted over the track, and which frames decided."""
    regions = (np.stack([sighting.regions for sighting in sightings]) * frame_weights[:, np.newaxis]).sum(axis=0)
    heaviest = np.argsort(-frame_weights, kind="stable")[:DECIDING_FRAMES]
    return Explanation(
        regions=shares(regions),
        frames=tuple(
            DecidingFrame(
                pts_ms=sightings[i].pts_ms,
                weight=float(f"{frame_weights[i]:.3g}"),  # one of thousands of frames may weigh less than any fixed decimal
                box=sightings[i].box,
                regions=shares(sightings[i].regions),
            )
            for i in heaviest
        ),
    )


def shares(regions: Floats) -> dict[str, float]:
    return {region: rounded(share) for region, share in zip(REGIONS, regions / regions.sum(), strict=True)}


def rounded(value: np.floating) -> float:
    return round(min(1.0, max(0.0, float(value))), DECIMALS)
