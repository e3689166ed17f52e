"""What an analysis says: who was on screen, when, which expression, and why.

Times are integer milliseconds of media time (presentation timestamps), boxes are fractions of the upright frame,
and scores are 0 to 1, sum to 1 and follow the order of `shared.expressions.LABELS`.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from shared.expressions import LABELS, REGIONS
from shared.jobs import Contract, Enhance, Milliseconds

Label = Literal["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
assert get_args(Label) == LABELS

Fraction = Annotated[float, Field(ge=0, le=1)]

TrackId = Annotated[str, Field(pattern=r"^t[1-9]\d*$", examples=["t1"])]

SCORES_EXAMPLE = {"angry": 0.01, "disgust": 0.01, "fear": 0.02, "happy": 0.88, "neutral": 0.05, "sad": 0.02, "surprise": 0.01}
REGION_EXAMPLE = {"face": 0.41, "eyes": 0.2, "mouth": 0.39}
SUM_TOLERANCE = 1e-3


class Verdict(Contract):
    """One judgement over a stretch of one track."""

    label: Annotated[Label, Field(examples=["happy"])]
    """The expression with the highest score."""
    scores: Annotated[dict[Label, Fraction], Field(examples=[SCORES_EXAMPLE])]
    """A score for each expression; they sum to 1. Not a determination of the person's inner state."""

    @model_validator(mode="after")
    def _is_a_distribution(self) -> "Verdict":
        if tuple(self.scores) != LABELS:
            raise ValueError(f"scores must name {LABELS} in this order")
        if abs(sum(self.scores.values()) - 1) > SUM_TOLERANCE:
            raise ValueError("scores must sum to 1")
        if self.scores[self.label] < max(self.scores.values()):
            raise ValueError("label must have the highest score")
        return self


class Window(Verdict):
    """The verdict over one short stretch of a track."""

    start_ms: Annotated[Milliseconds, Field(examples=[2000])]
    """Inclusive; on the grid of the whole video, so before the `start_ms` that was asked for where that lies within the window."""
    end_ms: Annotated[Milliseconds, Field(examples=[2500])]
    """Exclusive."""
    frames: Annotated[int, Field(ge=1, examples=[4])]
    """Face frames that were used."""


class TrackWindow(Window):
    """A window of a track, by itself: what can be read of an analysis that still runs."""

    track_id: TrackId
    """The track, as in the result."""


class DecidingFrame(Contract):
    """One of the frames that weighed most in a track's verdict."""

    pts_ms: Annotated[Milliseconds, Field(examples=[2125])]
    """When the frame is shown."""
    weight: Annotated[Fraction, Field(examples=[0.19])]
    """The frame's share in frame attention; the weights of all frames of a track sum to 1."""
    box: Annotated[tuple[float, float, float, float], Field(examples=[(0.39, 0.15, 0.61, 0.72)])]
    """The face as left, top, right, bottom, in fractions of the upright frame."""
    regions: Annotated[dict[Literal["face", "eyes", "mouth"], Fraction], Field(examples=[REGION_EXAMPLE])]
    """The share of each region in this frame's feature (channel attention); they sum to 1."""


class Explanation(Contract):
    """Why the track was judged as it was, read from the network's own attention."""

    regions: Annotated[dict[Literal["face", "eyes", "mouth"], Fraction], Field(examples=[REGION_EXAMPLE])]
    """The share of each region over the track, frames weighted by frame attention; they sum to 1."""
    frames: Annotated[tuple[DecidingFrame, ...], Field(min_length=1, max_length=16)]
    """The frames that decided, heaviest first."""


class Track(Contract):
    """One face, followed through the video. Not an identity: a person who leaves and returns may be a new track."""

    track_id: TrackId
    """Unique within this result only, numbered in the order in which faces were seen often enough to be trusted."""
    start_ms: Annotated[Milliseconds, Field(examples=[0])]
    """First sampled frame the face was seen in."""
    end_ms: Annotated[Milliseconds, Field(examples=[2367])]
    """Last sampled frame the face was seen in."""
    frames: Annotated[int, Field(ge=1, examples=[19])]
    """Sampled frames in which the face was used."""
    verdict: Verdict
    """Over the whole track."""
    explanation: Explanation
    """Which regions and which frames the verdict rests on."""
    timeline: tuple[Window, ...]
    """In order of time, with gaps where the face was not seen."""


class Coverage(Contract):
    """How much of the video the verdicts rest on. Every sampled face is either used or counted under its reason."""

    frames_sampled: Annotated[int, Field(ge=0, examples=[19])]
    """Frames that were looked at."""
    frames_with_face: Annotated[int, Field(ge=0, examples=[19])]
    """Sampled frames with at least one detected face."""
    frames_used: Annotated[int, Field(ge=0, examples=[18])]
    """Sampled frames with at least one face that was judged."""
    faces_found: Annotated[int, Field(ge=0, examples=[19])]
    """Detected faces over all sampled frames."""
    faces_used: Annotated[int, Field(ge=0, examples=[18])]
    """Faces that were judged."""
    dropped: Annotated[dict[str, int], Field(examples=[{"too_small": 1}])]
    """Detected faces that were not judged, counted by reason; they make up faces_found - faces_used. `uncertain`: the
    detector was not sure; `too_small`, `blurred`, `turned_away`: nothing can be read from it; `short_track`: seen only once; `too_many`:
    more in one frame than `max_faces`."""


class Enhancement(Contract):
    """What was done against the dark."""

    asked: Annotated[Enhance, Field(examples=["auto"])] = Enhance.AUTO
    """As on submission."""
    method: Annotated[str, Field(examples=["none"])] = "none"
    """How those that were brightened were; `none` where none was."""
    frames: Annotated[int, Field(ge=0, examples=[0])] = 0
    """Sampled frames that were brightened."""
    luminance_before: Annotated[Fraction | None, Field(examples=[None])] = None
    """Mean luma (BT.601) of those frames as they were decoded; null when there are none."""
    luminance_after: Annotated[Fraction | None, Field(examples=[None])] = None
    """Mean luma of the same frames as they were looked at."""


class Media(Contract):
    """The video as it was decoded."""

    duration_ms: Annotated[Milliseconds, Field(examples=[2400])]
    """End of the last decoded frame."""
    width: Annotated[int, Field(gt=0, examples=[640])]
    """Pixels of the upright frame."""
    height: Annotated[int, Field(gt=0, examples=[360])]
    """Pixels of the upright frame."""
    frames_decoded: Annotated[int, Field(ge=1, examples=[72])]
    """All of them, sampled or not."""
    codec: Annotated[str, Field(examples=["h264"])]
    """Of the video stream, in FFmpeg's words."""
    container: Annotated[str, Field(examples=["mov,mp4,m4a,3gp,3g2,mj2"])]
    """In FFmpeg's words, which name a family of formats."""
    rotation_degrees: Annotated[int, Field(examples=[0])]
    """Clockwise rotation that the container asked for and that was applied."""


class ModelInfo(Contract):
    """The release that judged the video: everything needed to reproduce the result."""

    release: Annotated[int, Field(ge=1, examples=[1])]
    """Version of the release; the job was pinned to it when it started."""
    preprocess: Annotated[str, Field(examples=["p1"])]
    """Version of the cropping code, which training and serving share."""


class Result(Contract):
    """The whole answer to one analysis."""

    id: Annotated[str, Field(pattern=r"^an_[0-9a-f]{32}$")]
    """The analysis that this answers."""
    model: ModelInfo
    """The release that judged the video."""
    media: Media
    """What the decoder found."""
    coverage: Coverage
    """How much of the video the verdicts rest on."""
    enhancement: Enhancement = Enhancement()
    """How many frames were brightened, and by how much."""
    tracks: tuple[Track, ...]
    """By number. Empty when no face was found."""
    warnings: tuple[str, ...] = ()
    """Codes of what was imperfect, such as `partial-decode`."""
    disclosure: str = (
        "Scores describe how a face looks to a statistical model. They are not a determination of a person's inner state, and inferring"
        " emotions in workplaces or education is prohibited in the European Union (Regulation (EU) 2024/1689, Article 5(1)(f))."
    )
    """What anyone who acts on this result must know."""


assert set(REGION_EXAMPLE) == set(REGIONS)
