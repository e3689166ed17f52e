"""What only the API says. Jobs and results are `shared.jobs` and `shared.results`, shown as they are."""

from typing import Annotated, Any

from pydantic import Field

from services.web import schemas as web
from shared.jobs import FINAL_STATES, Contract, Failure, Job, JobState
from shared.results import Result, TrackWindow

EXAMPLE_ID = "an_4c6a225931052afbc86aa746c02fb74c"
"""Of the analysis in example.json."""
EXAMPLE_UPLOAD_ID = "up_4c6a225931052afbc86aa746c02fb74c"


class Links(Contract):
    """Where this analysis can be read and acted on, as paths on this server."""

    analysis: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}"])]
    """This record. DELETE it to remove the video, the result and the record."""
    windows: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}/windows"])]
    """The windows of all timelines that are judged so far, while it runs and afterwards."""
    events: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}/events"])]
    """All of this as it happens, as server-sent events."""
    results: Annotated[str | None, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}/results"])] = None
    """The result; null until the analysis has succeeded."""
    cancel: Annotated[str | None, Field(examples=[None])] = None
    """POST here to stop the analysis; null once it is final."""
    model: Annotated[str | None, Field(examples=["/v1/models/1"])] = None
    """The release that the running or last attempt is pinned to; null before the first."""


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


class ResultLinks(Contract):
    """Where this result comes from, as paths on this server."""

    analysis: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}"])]
    """The analysis that it answers."""
    model: Annotated[str, Field(examples=["/v1/models/1"])]
    """The release that judged; its card is under `/card` beneath."""


class ResultPage(Result):
    """A result, or one page of it. Every page repeats all but the tracks.

    A page holds the tracks that have windows on it, each with those windows only. A track whose timeline goes on is
    repeated on the next page under the same `track_id`; put together, the timelines are the whole ones.
    """

    links: ResultLinks
    """Where this result comes from."""
    next_page_token: Annotated[str | None, Field(examples=[None])] = None
    """Pass it as `page_token` to get the next page; null on the last."""


class WindowPage(Contract):
    """Some windows of one analysis, in the order in which they were finished.

    Of two with the same `track_id` and `start_ms` on different pages the later one counts.
    """

    state: Annotated[JobState, Field(examples=["running"])]
    """Where the analysis is."""
    windows: tuple[TrackWindow, ...]
    """At most `page_size` of them; none while no more are finished. Once it has succeeded they are those of the result's timelines."""
    next_page_token: Annotated[str | None, Field(examples=["AAAAAAAE"])] = None
    """Pass it as `page_token` to go on from here, at the earliest after the seconds that `Retry-After` says; null when the analysis
    is final and all is read."""


class ResumableUpload(Contract):
    """An upload that may take more than one request."""

    id: Annotated[str, Field(examples=[EXAMPLE_UPLOAD_ID])]
    """128 random bits."""
    offset: Annotated[int, Field(ge=0, examples=[8_388_608])]
    """Bytes that are on the disk to stay: where the next request goes on."""
    length: Annotated[int, Field(gt=0, examples=[44_040_192])]
    """Bytes of the whole video."""
    expires_ms: Annotated[int, Field(ge=0, examples=[1_767_225_600_000])]
    """When it is removed, in Unix milliseconds, whole or not."""
    analysis: Annotated[str | None, Field(examples=[None])] = None
    """The path of the analysis that it has become; null while bytes are missing, and for as long as the queue is full."""

    @classmethod
    def shown(cls) -> dict[str, Any]:
        """For a route's `responses`."""
        return {
            "content": {"application/json": {"example": {name: of.examples[0] for name, of in cls.model_fields.items() if of.examples}}}
        }


class Problem(web.Problem):
    """What went wrong (RFC 9457). Test `code`, never `title` or `detail`."""

    instance: Annotated[str, Field(examples=[f"/v1/analyses/{EXAMPLE_ID}"])]
    """The path that was asked for."""
    limit_bytes: Annotated[int | None, Field(examples=[None])] = None
    """Of `upload-too-large`: size of the largest video that is taken."""
    accepted: Annotated[tuple[str, ...] | None, Field(examples=[None])] = None
    """Of `unsupported-media-type`: the Content-Types that are taken."""
    state: Annotated[JobState | None, Field(examples=[None])] = None
    """Of `state-conflict` and `result-not-ready`: the state the analysis is in."""
    available: Annotated[tuple[int, ...] | None, Field(examples=[None])] = None
    """Of `model-version-unavailable` on submission: the newest versions that can be asked for instead."""
    expected_offset: Annotated[int | None, Field(examples=[None])] = None
    """Of `mismatching-upload-offset`: where the upload goes on."""
    provided_offset: Annotated[int | None, Field(examples=[None])] = None
    """Of `mismatching-upload-offset`: where the request was to begin."""
    failure: Annotated[Failure | None, Field(examples=[None])] = None
    """Of `state-conflict` about a failed analysis: why it failed."""


def links(job: Job) -> Links:
    here = analysis_path(job.id)
    return Links(
        analysis=here,
        windows=f"{here}/windows",
        events=f"{here}/events",
        results=f"{here}/results" if job.state is JobState.SUCCEEDED else None,
        cancel=None if job.state in FINAL_STATES else f"{here}:cancel",
        model=None if job.release is None else model_path(job.release),
    )


def result_links(result: Result) -> ResultLinks:
    return ResultLinks(analysis=analysis_path(result.id), model=model_path(result.model.release))


def analysis_path(job_id: str) -> str:
    return f"/v1/analyses/{job_id}"


def upload_path(upload_id: str) -> str:
    return f"/v1/uploads/{upload_id}"


def model_path(version: int) -> str:
    return f"/v1/models/{version}"
