"""What the worker counts, for Prometheus. Labels are codes, stages and releases, of which there are few; never ids or tenants."""

from typing import Final

from prometheus_client import Counter, Histogram

from shared.errors import MediaError
from shared.jobs import Timings
from shared.results import Result

_SECONDS: Final = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, float("inf"))

ATTEMPTS: Final = Counter("mien_attempts", "Attempts at jobs, by how they ended and the release that was to judge.", ["outcome", "release"])
ATTEMPT_SECONDS: Final = Histogram("mien_attempt_seconds", "Duration of an attempt, by how it ended.", ["outcome"], buckets=_SECONDS)
STAGE_SECONDS: Final = Histogram("mien_stage_seconds", "Where the time of succeeded jobs went.", ["stage"], buckets=_SECONDS)
STRANDED: Final = Counter("mien_stranded_jobs", "Jobs that failed because no model answered in time.")
DECODED: Final = Counter("mien_decoded_videos", "Videos by what decoding them came to: `ok`, or the code of the error.", ["verdict"])
FRAMES: Final = Counter("mien_frames", "Frames of succeeded jobs: decoded, sampled, with_face, used, enhanced.", ["kind"])
FACES: Final = Counter("mien_faces", "Faces of succeeded jobs: found, used.", ["kind"])
DROPPED: Final = Counter("mien_faces_dropped", "Faces of succeeded jobs that were found and not judged, by reason.", ["reason"])


def count_attempt(outcome: str, seconds: float, *, release: int) -> None:
    ATTEMPTS.labels(outcome, release).inc()
    ATTEMPT_SECONDS.labels(outcome).observe(seconds)


def count_error(error: Exception) -> None:
    """Of an attempt without a result. Whatever is no matter of the video says nothing about decoding."""
    if isinstance(error, MediaError):
        DECODED.labels(error.code()).inc()


def count_result(result: Result, timings: Timings) -> None:
    """Of a job that has succeeded."""
    seen = result.coverage
    DECODED.labels("ok").inc()
    for stage, milliseconds in timings.model_dump(exclude={"total"}).items():
        STAGE_SECONDS.labels(stage).observe(milliseconds / 1000)
    for kind, frames in {
        "decoded": result.media.frames_decoded,
        "sampled": seen.frames_sampled,
        "with_face": seen.frames_with_face,
        "used": seen.frames_used,
        "enhanced": result.enhancement.frames,
    }.items():
        FRAMES.labels(kind).inc(frames)
    FACES.labels("found").inc(seen.faces_found)
    FACES.labels("used").inc(seen.faces_used)
    for reason, faces in seen.dropped.items():
        DROPPED.labels(reason).inc(faces)
