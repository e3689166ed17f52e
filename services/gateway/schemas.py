"""What only the API says. Jobs and results are `shared.jobs` and `shared.results`, shown as they are."""

from typing import Annotated

from pydantic import Field

from shared.jobs import FINAL_STATES, Contract, Failure, Job, JobState
from shared.results import Result

EXAMPLE_ID = "an_4c6a225931052afbc86aa746c02fb74c"
"""Of the analysis in example.json."""


class Links(Contract):
    """Where this analysis can be read and acted on, as paths on this server."""

    analysis: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}"])]
    """This record. DELETE it to remove the video, the result and the record."""
    results: Annotated[str | None, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}/results"])] = None
    """The result; null until the analysis has succeeded."""
    cancel: Annotated[str | None, Field(examples=[None])] = None
    """POST here to stop the analysis; null once it is final."""


class Analysis(Job):
    """One analysis: the job's whole record, and where to go from here."""

    links: Links
    """Where this analysis can be read and acted on."""

    @classmethod
    def of(cls, job: Job) -> "Analysis":
        return cls(**dict(job), links=links(job))


class AnalysisPage(Contract):
    """Some analyses, newest first."""

    analyses: tuple[Analysis, ...]
    """At most `page_size` of them; fewer does not mean that it is the last page."""
    next_page_token: Annotated[str | None, Field(examples=[None])] = None
    """Pass it as `page_token` to get the next page; null on the last."""


class ResultPage(Result):
    """A result, or one page of it. Every page repeats all but the tracks.

    A page holds the tracks that have windows on it, each with those windows only. A track whose timeline goes on is
    repeated on the next page under the same `track_id`; put together, the timelines are the whole ones.
    """

    next_page_token: Annotated[str | None, Field(examples=[None])] = None
    """Pass it as `page_token` to get the next page; null on the last."""


class FieldError(Contract):
    """One parameter or form field that is not valid."""

    field: Annotated[str, Field(examples=["query.sample_fps"])]
    """Where it is: `query`, `path` or `body`, and its name."""
    code: Annotated[str, Field(examples=["less_than_equal"])]
    """What is wrong with it, for machines."""
    message: Annotated[str, Field(examples=["Input should be less than or equal to 60"])]
    """What is wrong with it, for people."""


class Check(Contract):
    """How one dependency is doing."""

    ok: Annotated[bool, Field(examples=[True])]
    """Whether it answered as it must within 2 seconds."""
    ms: Annotated[int, Field(ge=0, examples=[3])]
    """How long the answer took."""
    detail: Annotated[str, Field(examples=["mien_000001_frames and mien_000001_clip are ready"])] = ""
    """What was found, for people."""


class Health(Contract):
    """The process is alive."""

    status: Annotated[str, Field(examples=["alive"])] = "alive"
    """Always `alive`."""


class Readiness(Contract):
    """Everything needed to take a video and to analyse it is there."""

    status: Annotated[str, Field(examples=["ready"])] = "ready"
    """Always `ready`; when it is not, the answer is a problem."""
    checks: Annotated[
        dict[str, Check], Field(examples=[{name: {"ok": True, "ms": 3, "detail": ""} for name in ("redis", "storage", "model")}])
    ]
    """The dependencies `redis`, `storage` and `model`."""


class Problem(Contract):
    """What went wrong (RFC 9457). Test `code`, never `title` or `detail`."""

    type: Annotated[str, Field(examples=["/problems/job-not-found"])]
    """Address of a page on this server that explains the code."""
    title: Annotated[str, Field(examples=["There is no analysis with this id."])]
    """The code as a sentence."""
    status: Annotated[int, Field(ge=400, le=599, examples=[404])]
    """The HTTP status of this response."""
    detail: Annotated[str, Field(examples=["There is no analysis with this id."])]
    """What happened this time, for people."""
    instance: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}"])]
    """The path that was asked for."""
    code: Annotated[str, Field(examples=["job-not-found"])]
    """Stable and machine-readable."""
    retryable: Annotated[bool, Field(examples=[False])]
    """Whether the same request may succeed later without being changed."""
    request_id: Annotated[str, Field(examples=["6f1f7f0f9b5c4d0c8f9f0a1b2c3d4e5f"])]
    """As in the X-Request-Id header; name it when reporting a problem."""
    errors: Annotated[tuple[FieldError, ...] | None, Field(examples=[None])] = None
    """Of `validation-failed`: each parameter or field that is not valid."""
    limit_bytes: Annotated[int | None, Field(examples=[None])] = None
    """Of `upload-too-large`: size of the largest video that is taken."""
    accepted: Annotated[tuple[str, ...] | None, Field(examples=[None])] = None
    """Of `unsupported-media-type`: the Content-Types that are taken."""
    dependency: Annotated[str | None, Field(examples=[None])] = None
    """Of `dependency-unavailable`: which one (`redis`, `storage` or `model`); comma-separated when several."""
    checks: Annotated[dict[str, Check] | None, Field(examples=[None])] = None
    """Of `dependency-unavailable` from /readyz: how each dependency is doing."""
    state: Annotated[JobState | None, Field(examples=[None])] = None
    """Of `state-conflict` and `result-not-ready`: the state the analysis is in."""
    failure: Annotated[Failure | None, Field(examples=[None])] = None
    """Of `state-conflict` about a failed analysis: why it failed."""


def links(job: Job) -> Links:
    here = f"/v1/analyses/{job.id}"
    return Links(
        analysis=here,
        results=f"{here}/results" if job.state is JobState.SUCCEEDED else None,
        cancel=None if job.state in FINAL_STATES else f"{here}:cancel",
    )
