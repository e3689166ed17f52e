"""One analysis as the API shows it, made with the models themselves so that it cannot be wrong about them."""

from typing import Any, Final

from services.gateway.schemas import EXAMPLE_ID, Analysis, AnalysisPage, ResultPage
from shared.jobs import Job, JobState, Progress, Stage, Timings
from shared.results import Coverage, DecidingFrame, Explanation, Label, Media, ModelInfo, Track, Verdict, Window

CREATED_MS: Final = 1_790_000_000_000
FACE_BOX: Final = (0.39, 0.15, 0.61, 0.72)


def scores(**given: float) -> dict[Label, float]:
    names: tuple[Label, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    return {name: given.get(name, 0.0) for name in names}


QUEUED: Final = Job(
    id=EXAMPLE_ID,
    size_bytes=229_376,
    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    created_ms=CREATED_MS,
)

SUCCEEDED: Final = QUEUED.model_copy(
    update={
        "state": JobState.SUCCEEDED,
        "started_ms": CREATED_MS + 12,
        "ended_ms": CREATED_MS + 1_902,
        "attempts": 1,
        "release": 1,
        "progress": Progress(stage=Stage.DONE, frames_done=19, frames_total=19, percent=100),
        "timings": Timings(queue=12, decode=140, detect=1_010, infer=690, total=1_890),
    }
)

RESULT: Final = ResultPage(
    id=EXAMPLE_ID,
    model=ModelInfo(release=1, preprocess="p1"),
    media=Media(
        duration_ms=2_400, width=640, height=360, frames_decoded=72, codec="h264", container="mov,mp4,m4a,3gp,3g2,mj2", rotation_degrees=0
    ),
    coverage=Coverage(frames_sampled=19, frames_with_face=19, frames_used=18, faces_found=19, faces_used=18, dropped={"too_small": 1}),
    tracks=(
        Track(
            track_id="t1",
            start_ms=0,
            end_ms=2_250,
            frames=18,
            verdict=Verdict(label="happy", scores=scores(happy=0.78, neutral=0.17, surprise=0.05)),
            explanation=Explanation(
                regions={"face": 0.41, "eyes": 0.2, "mouth": 0.39},
                frames=(
                    DecidingFrame(pts_ms=2_125, weight=0.19, box=FACE_BOX, regions={"face": 0.4, "eyes": 0.17, "mouth": 0.43}),
                    DecidingFrame(pts_ms=1_875, weight=0.14, box=FACE_BOX, regions={"face": 0.42, "eyes": 0.18, "mouth": 0.4}),
                ),
            ),
            timeline=(
                Window(start_ms=0, end_ms=500, frames=4, label="neutral", scores=scores(neutral=0.91, sad=0.06, happy=0.03)),
                Window(start_ms=2_000, end_ms=2_500, frames=3, label="happy", scores=scores(happy=0.94, neutral=0.04, surprise=0.02)),
            ),
        ),
    ),
)


def shown(model: Analysis | AnalysisPage | ResultPage) -> dict[str, Any]:
    """For a route's `responses`."""
    return {"content": {"application/json": {"example": model.model_dump(mode="json")}}}
