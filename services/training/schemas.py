"""What only this API says. Runs, publications, records and releases are shown as the folders hold them."""

from typing import Annotated, Final

from pydantic import Field

from services.web import schemas
from shared.jobs import FINAL_STATES, Contract, JobState
from shared.releases import Release
from training.ledger import Entry
from training.publications import Publication
from training.runs import RunStatus, RunSummary
from training.stores import StoreSummary

EXAMPLE_RUN: Final = "tr_0d4f1c6a225931052afbc86aa746c02f"
EXAMPLE_PUBLICATION: Final = "pb_7c6a225931052afbc86aa746c02fb74c"


class Problem(schemas.Problem):
    """What went wrong (RFC 9457). Test `code`, never `title` or `detail`."""

    state: Annotated[JobState | None, Field(examples=[None])] = None
    """Of `run-conflict` and `publication-over`: the state that the run or publication is in."""


class RunLinks(Contract):
    """Where this run can be read and acted on, as paths on this server."""

    run: Annotated[str, Field(examples=[f"/v1/runs/{EXAMPLE_RUN}"])]
    """This record. DELETE it once the run has ended."""
    events: Annotated[str, Field(examples=[f"/v1/runs/{EXAMPLE_RUN}/events"])]
    """Everything that happens to it, as server-sent events."""
    record: Annotated[str, Field(examples=[f"/v1/runs/{EXAMPLE_RUN}/record"])]
    """Its rounds, measured."""
    report: Annotated[str, Field(examples=[f"/v1/runs/{EXAMPLE_RUN}/report"])]
    """The same for people."""
    cancel: Annotated[str | None, Field(examples=[f"/v1/runs/{EXAMPLE_RUN}:cancel"])]
    """POST here to stop it; null once it has ended."""
    resume: Annotated[str | None, Field(examples=[None])]
    """POST here to let it go on; null unless it failed or was canceled."""

    @classmethod
    def of(cls, run: Entry) -> "RunLinks":
        here = f"/v1/runs/{run.id}"
        return cls(
            run=here,
            events=f"{here}/events",
            record=f"{here}/record",
            report=f"{here}/report",
            cancel=None if run.state in FINAL_STATES else f"{here}:cancel",
            resume=f"{here}:resume" if run.state in (JobState.FAILED, JobState.CANCELED) else None,
        )


class RunItem(RunSummary):
    """A training run in a list."""

    links: RunLinks
    """Where to go from here."""

    @classmethod
    def of(cls, run: RunSummary) -> "RunItem":
        return cls(**dict(run), links=RunLinks.of(run))


class TrainingRun(RunStatus):
    """A training run: what was asked for, where it is, how far it has come, and what its rounds were measured at."""

    links: RunLinks
    """Where to go from here."""

    @classmethod
    def of(cls, run: RunStatus) -> "TrainingRun":
        return cls(**dict(run), links=RunLinks.of(run))


class RunPage(Contract):
    """Some runs, newest first."""

    runs: tuple[RunItem, ...]
    """At most `page_size` of them."""
    next_page_token: Annotated[str | None, Field(examples=[None])] = None
    """Pass it as `page_token` to get the next page; null on the last."""


class StoreList(Contract):
    """The crop stores that plans may name."""

    stores: tuple[StoreSummary, ...]
    """By name."""


class ReleaseItem(Contract):
    """A published release in a list."""

    version: Annotated[int, Field(examples=[7])]
    """Only ever grows."""
    name: Annotated[str, Field(examples=["mien_000007"])]
    """Of its folder, and of its models in Triton."""
    parent: int | None
    """The release whose network was the teacher."""
    aliases: Annotated[tuple[str, ...] | None, Field(examples=[("champion",)])]
    """What it is used for now; null while Redis does not answer."""
    size: int
    """Side of the crops in pixels."""
    width: float
    """Channel multiplier; 1.0 is the paper's."""
    metrics: dict[str, dict[str, float]]
    """Per set that it was measured on."""
    notes: str
    """Known limits."""

    @classmethod
    def of(cls, release: Release, aliases: tuple[str, ...] | None) -> "ReleaseItem":
        shown = {name: getattr(release, name) for name in cls.model_fields if name != "aliases"}
        return cls(**shown, aliases=aliases)


class ReleaseList(Contract):
    """Everything that was published, newest first."""

    releases: tuple[ReleaseItem, ...]
    """All of them: one is made in hours."""


class PublishedRelease(Release):
    """A published release: all of `release.json`, and what it is used for now."""

    aliases: Annotated[tuple[str, ...] | None, Field(examples=[("champion",)])]
    """Such as `champion`; null while Redis does not answer."""

    @classmethod
    def shown(cls, release: Release, aliases: tuple[str, ...] | None) -> "PublishedRelease":
        return cls(**dict(release), aliases=aliases)


class PublicationRequest(Contract):
    """Which candidate is to become a release."""

    run: Annotated[str, Field(examples=[EXAMPLE_RUN])]
    """A run that has succeeded; its candidate is published."""
    promote: Annotated[bool, Field(examples=[True])] = True
    """Whether the release becomes champion at once. Otherwise it is loaded, warm, and judges nothing."""


class PublicationLinks(Contract):
    """Where to go from here, as paths on this server."""

    publication: Annotated[str, Field(examples=[f"/v1/publications/{EXAMPLE_PUBLICATION}"])]
    """This record."""
    run: Annotated[str, Field(examples=[f"/v1/runs/{EXAMPLE_RUN}"])]
    """The run whose candidate it is."""
    release: Annotated[str | None, Field(examples=["/v1/releases/7"])]
    """What it became; null until it has succeeded."""
    cancel: Annotated[str | None, Field(examples=[None])]
    """POST here to stop it; null once it has come too far for that, or has ended."""


class PublicationStatus(Publication):
    """A request to publish, and what became of it. A refused candidate changes nothing: `failure` says why."""

    links: PublicationLinks
    """Where to go from here."""

    @classmethod
    def of(cls, publication: Publication) -> "PublicationStatus":
        links = PublicationLinks(
            publication=f"/v1/publications/{publication.id}",
            run=f"/v1/runs/{publication.run}",
            release=f"/v1/releases/{publication.version}" if publication.version else None,
            cancel=f"/v1/publications/{publication.id}:cancel" if publication.can_be_canceled else None,
        )
        return cls(**dict(publication), links=links)


class Champion(Contract):
    """Which release judges from now on."""

    version: Annotated[int, Field(examples=[7])]
    """The champion."""
