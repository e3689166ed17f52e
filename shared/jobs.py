"""One analysis, from the moment it is accepted: a frozen record and the words it is written in.

The record is what Redis keeps, what the manifest on disk repeats, and what the API shows. It holds references and
results' addresses, never media. Only `shared.queue` changes it.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.errors import MienError

Milliseconds = Annotated[int, Field(ge=0)]


class Contract(BaseModel):
    """Frozen, keyword-only data that checks its own shape when it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class JobState(StrEnum):
    """Where a job is. The last three are final: nothing changes after them."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL_STATES: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})


class Stage(StrEnum):
    """What a running job is busy with, in order."""

    WAITING = "waiting"
    """Not begun: in the queue, or waiting for the model to be ready."""
    ANALYSING = "analysing"
    """Decoding, finding, following and encoding faces, frame by frame."""
    CLASSIFYING = "classifying"
    """Every frame is encoded; the clips are being judged."""
    DONE = "done"


def _written_out(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Yes = Annotated[bool, Field(strict=True, examples=[False]), BeforeValidator(_written_out)]
"""`true` or `false`, as JSON or as the word: nobody's yes is read into a `1` or an `on`."""


class Enhance(StrEnum):
    """Whether dark pictures are brightened before faces are looked for and judged."""

    AUTO = "auto"
    """Those that are darker than the luminance rule allows."""
    ALWAYS = "always"
    """Every one."""
    NEVER = "never"
    """None."""


MAX_FACES: Final = 32
"""Faces of one frame that are followed, at most."""
LATEST_MS: Final = 86_400_000
"""Of media time that can be asked for: a day, which is far beyond what any worker takes, and within every decoder's clock."""


class Options(Contract):
    """What a client may ask for, beside the video itself."""

    start_ms: Annotated[Milliseconds, Field(le=LATEST_MS, examples=[0])] = 0
    """Media time of the first frame that is looked at. Windows lie on the whole video's grid, so the first one may start before it."""
    end_ms: Annotated[int | None, Field(gt=0, le=LATEST_MS, examples=[None, 60_000])] = None
    """Media time before which the last frame lies that is looked at; null for the whole rest. After `start_ms`."""
    sample_fps: Annotated[float, Field(gt=0, le=60, examples=[8.0])] = 8.0
    """Frames per second of media time that are looked at. A slower video is used frame by frame."""
    min_face: Annotated[int | None, Field(ge=20, le=2000, examples=[None, 40])] = None
    """Side of the smallest face that is looked for, in pixels of the upright video; smaller takes longer. Null takes a sixteenth of the
    video's longer side, and 24 at least."""
    max_faces: Annotated[int, Field(ge=1, le=MAX_FACES, examples=[MAX_FACES])] = MAX_FACES
    """Faces of one frame that are judged: the largest."""
    enhance: Annotated[Enhance, Field(examples=["auto"])] = Enhance.AUTO
    """Whether dark pictures are brightened."""
    model_version: Annotated[int | None, Field(ge=1, le=999_999, examples=[None, 2])] = None
    """The release that judges; null for the one that is the champion when the analysis starts."""
    training_consent: Yes = False
    """Whether the people shown have agreed that faces cut from this video are used, without labels, to train later models. Without
    a yes they never are, and an analysis that is deleted is in no training data that is gathered from then on."""
    keep_video: Yes = False
    """Whether the video is kept for as long as the result: 7 days, or until the analysis is deleted. Without a yes it is deleted within
    5 minutes of the end, unless `training_consent` keeps it."""

    @field_validator("end_ms")  # and not of the whole: the error names the field
    @classmethod
    def _ends_after_it_starts(cls, end_ms: int | None, info: ValidationInfo) -> int | None:
        if end_ms is not None and end_ms <= info.data.get("start_ms", 0):  # absent when it is not valid itself
            raise PydanticCustomError("not_after_start", "end_ms must lie after start_ms")
        return end_ms


class Progress(Contract):
    """How far a job has come."""

    stage: Stage = Stage.WAITING
    """What the job is busy with."""
    frames_done: Annotated[int, Field(ge=0, examples=[12])] = 0
    """Sampled frames that have been analysed."""
    frames_total: Annotated[int | None, Field(ge=0, examples=[19])] = None
    """Sampled frames expected, estimated from the container's duration; null while unknown."""
    percent: Annotated[int, Field(ge=0, le=100, examples=[63])] = 0
    """0 to 100; 100 only once the job has succeeded."""
    seconds_left: Annotated[int | None, Field(ge=0, examples=[4])] = None
    """Wall-clock seconds that the running attempt is expected to take yet, at the speed it had so far; null while unknown."""


class Timings(Contract):
    """Where the wall-clock time of a finished job went, in milliseconds."""

    queue: Milliseconds = 0
    """From acceptance to the start of the attempt that finished."""
    decode: Milliseconds = 0
    """Waiting for the decoder, a process of its own: time in which there was nothing else to do."""
    enhance: Milliseconds = 0
    """Measuring how dark frames are, and brightening those that are too dark."""
    detect: Milliseconds = 0
    """Finding faces and landmarks (MTCNN)."""
    follow: Milliseconds = 0
    """Giving faces their tracks, and cutting the regions of those that are fit to be judged."""
    infer: Milliseconds = 0
    """Encoding faces and judging clips (Triton), beside the other stages: their sum may be more than the total."""
    total: Milliseconds = 0
    """The whole attempt, from its start to its end."""


class Failure(Contract):
    """Why a job failed: an RFC 9457 problem without `status`, since the request for the job itself succeeds."""

    code: Annotated[str, Field(examples=["media-no-video-stream"])]
    """Stable and machine-readable; the list is in the API description."""
    title: Annotated[str, Field(examples=["The file has no video stream."])]
    """The code as a sentence."""
    detail: Annotated[str, Field(examples=["streams found: audio"])] = ""
    """What happened this time, for people."""
    retryable: bool = False
    """Whether asking for the same again may succeed."""

    @classmethod
    def of(cls, error: MienError) -> "Failure":
        return cls(code=error.code(), title=error.title(), detail=error.detail, retryable=error.retryable)


Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", examples=["public"])]
"""Whose an analysis is: what one tenant sees, changes and waits for is its own. Part of Redis keys, so short and plain."""

PUBLIC: Final[Tenant] = "public"
"""The one tenant of a service that asks nobody for a key."""


class Job(Contract):
    """The whole record of one analysis. Wall-clock times are Unix milliseconds."""

    id: Annotated[str, Field(pattern=r"^an_[0-9a-f]{32}$")]
    """128 random bits: an id is never guessed, and names the job's folder."""
    tenant: Tenant = PUBLIC
    """Whose analysis it is."""
    size_bytes: Annotated[int, Field(gt=0)]
    """Size of the uploaded video."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the uploaded video."""
    options: Options = Options()
    """As asked for on submission."""
    state: JobState = JobState.QUEUED
    """Where the job is."""
    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$", examples=["6f1f7f0f9b5c4d0c8f9f0a1b2c3d4e5f"])] = ""
    """`X-Request-Id` of the submission; every log line about the job names it, in whichever service."""
    traceparent: Annotated[str, Field(pattern=r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$", examples=[""])] = ""
    """W3C trace context of the submission, for the spans of the worker; empty when nobody asked for traces."""
    created_ms: Milliseconds
    """When the job was accepted."""
    started_ms: Milliseconds | None = None
    """When the current or last attempt started."""
    ended_ms: Milliseconds | None = None
    """When the job reached a final state."""
    attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts begun, counted before each one runs."""
    release: Annotated[int, Field(ge=1)] | None = None
    """The release the running attempt is pinned to."""
    progress: Progress = Progress()
    """How far the job has come."""
    timings: Timings | None = None
    """Only of a succeeded job."""
    warnings: tuple[str, ...] = ()
    """Codes of what was imperfect about a job that succeeded, such as `partial-decode`."""
    failure: Failure | None = None
    """Only of a failed job."""
    cancel_requested: bool = False
    """A running job stops within seconds."""

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_once_written(cls, data: object) -> object:
        """Records outlive the version that wrote them: `keep_video` was a field of the job before it was an option."""
        match data:
            case {"keep_video": kept, "options": {**options}, **job}:
                return {**job, "options": {"keep_video": kept, **options}}
        return data
