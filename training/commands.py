"""What each command of `python -m training` does. A command answers with data; `training.__main__` prints it."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError

from shared import releases
from shared.errors import KeyUnusable, ModelContractMismatch, ModelVersionUnavailable, PlanImpossible, QueueUnavailable, RunNotFound
from shared.jobs import FINAL_STATES, JobState
from shared.queue import CHAMPION, WorkerQueue
from shared.releases import Release
from shared.signatures import Signer, TrustedKeys
from training import news
from training.comparison import Comparison, compare
from training.ledger import Entry
from training.plan import Plan
from training.publications import Publication, Publications
from training.record import CANDIDATE
from training.runs import Epoch, Run, Runs, RunStatus, RunSummary, id_of_plan
from training.settings import Settings
from training.stores import Stores, placed
from training.work import work

if TYPE_CHECKING:
    from training.publish import Publisher

log = logging.getLogger(__name__)

FOLLOWS_WITHIN_S: Final = 60.0
"""How long processes under `torchrun` wait for the first one to have accepted the run."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command came to."""

    data: BaseModel | Sequence[BaseModel]
    """For machines."""
    lines: Iterable[str]
    """For people."""
    ok: bool = True


class Commands:
    """The commands, over the folders and servers that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runs = Runs(settings.runs, models=settings.models)
        self._publications = Publications(settings.runs)

    # --- runs --------------------------------------------------------------------------------------------------------

    def run(self, target: str) -> Answer:
        """Work on a run in this process to its end: a new one of a plan, or the one that this plan, id or folder stands for.

        A plan lets its run go on, also one that failed or was canceled. An id does not: a service gives it, and somebody may have
        canceled the run since. Raises RunConflict for such a run, until `resume_run`.
        """
        if int(os.environ.get("RANK", "0")) > 0:
            return self._follow(target)
        run = self._accepted(target)
        if run.state is not JobState.SUCCEEDED:
            work(self._runs, run.id, self._train, alone=os.environ.get("WORLD_SIZE", "1") == "1")
        return self.show_run(run.id)

    def _follow(self, target: str) -> Answer:
        """The part of a process that `torchrun` started beside the first one: that one keeps the ledger."""
        run_id = id_of_plan(plan) if (plan := read_plan(target)) else self._id(target)
        deadline = time.monotonic() + FOLLOWS_WITHIN_S
        while (run := self._known(run_id)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if run is None:
            raise RunNotFound(run_id)
        if run.state is not JobState.SUCCEEDED:  # or else the first one does not train either, and nobody would be there to meet
            self._train(run)
        return Answer(data=run, lines=())

    def _accepted(self, target: str) -> Run:
        plan = read_plan(target)
        if plan is None:
            return self._runs.get(self._id(target))
        run = self._runs.accept(plan, run_id=id_of_plan(plan))
        return run if run.state is JobState.SUCCEEDED else self._runs.resume(run.id)

    def _train(self, run: Run) -> dict[str, object]:
        train(run, self._runs.folder(run.id), self._settings)
        return {}

    def _known(self, run_id: str) -> Run | None:
        try:
            return self._runs.get(run_id)
        except RunNotFound:
            return None

    def list_runs(self) -> Answer:
        runs = [self._runs.summary(run) for run in self._runs.all()]
        return Answer(data=runs, lines=[in_a_line(run) for run in runs] or ["no runs"])

    def show_run(self, run_id: str) -> Answer:
        status = self._runs.status(self._id(run_id))
        return Answer(data=status, lines=in_lines(status), ok=status.state is not JobState.FAILED)

    def watch_run(self, run_id: str) -> Answer:
        """Print what happens as it happens, until the run has ended."""
        run_id, place, over = self._id(run_id), news.Place(), False
        while not over:
            over = self._runs.get(run_id).state in FINAL_STATES
            for each in news.since(self._runs, run_id, place):
                place = each.place
                if isinstance(each.what, Epoch):
                    print(epoch_in_a_line(each.what), flush=True)  # noqa: T201
            if not over:
                time.sleep(news.LOOK_EVERY_S)
        return self.show_run(run_id)

    def cancel_run(self, run_id: str) -> Answer:
        self._runs.cancel(self._id(run_id))
        return self.show_run(run_id)

    def resume_run(self, run_id: str) -> Answer:
        self._runs.resume(self._id(run_id))
        return self.show_run(run_id)

    def delete_run(self, run_id: str) -> Answer:
        run = self._runs.get(self._id(run_id))
        self._runs.delete(run.id)
        return Answer(data=run, lines=[f"{run.id} is gone"])

    def _id(self, target: str) -> str:
        """An id, or a run's folder: only the name counts."""
        return Path(target).name

    # --- releases ----------------------------------------------------------------------------------------------------

    def list_releases(self) -> Answer:
        champion = self._champion()
        found = list(self._readable())
        return Answer(data=found, lines=[release_in_a_line(each, champion=champion) for each in found] or ["no releases"])

    def show_release(self, version: int) -> Answer:
        release = self._release(version)
        return Answer(data=release, lines=[release.model_dump_json(indent=1)])

    def compare_releases(self, left: int, right: int) -> Answer:
        comparison = compare(self._release(left), self._release(right))
        return Answer(data=comparison, lines=side_by_side(comparison))

    def publish(self, target: str, *, promote: bool) -> Answer:
        """Make a candidate a release: a run's, a folder's, or the one that an accepted publication asks for."""
        name = Path(target).name
        if Publication.ID.fullmatch(name):
            return self._publish_accepted(name)
        candidate = self._runs.candidate(name) if Run.ID.fullmatch(name) else Path(target)
        release = publisher(self._settings, signs=True).publish(candidate, promote=promote)
        return Answer(data=release, lines=[f"{release.name} is published{' and champion' if promote else ''}"])

    def _publish_accepted(self, publication_id: str) -> Answer:
        def task(publication: Publication) -> dict[str, object]:
            candidate, commit = self._runs.candidate(publication.run), partial(self._publications.commit, publication.id)
            release = publisher(self._settings, signs=True).publish(candidate, promote=publication.promote, commit=commit)
            return {"version": release.version}

        done = work(self._publications, publication_id, task)
        return Answer(data=done, lines=[in_a_line(done)], ok=done.state is JobState.SUCCEEDED)

    def list_publications(self) -> Answer:
        found = self._publications.all()
        return Answer(data=found, lines=[in_a_line(each) for each in found] or ["no publications"])

    def show_publication(self, publication_id: str) -> Answer:
        return self._shown(self._publications.get(self._id(publication_id)))

    def cancel_publication(self, publication_id: str) -> Answer:
        """Raises PublicationOver once the release has its name."""
        return self._shown(self._publications.cancel(self._id(publication_id)))

    def _shown(self, publication: Publication) -> Answer:
        return Answer(data=publication, lines=[in_a_line(publication)], ok=publication.state is not JobState.FAILED)

    def promote(self, version: int) -> Answer:
        publisher(self._settings).promote(version)
        return self._now_champion(version)

    def rollback(self) -> Answer:
        return self._now_champion(publisher(self._settings).rollback())

    def _now_champion(self, version: int) -> Answer:
        release = self._release(version)
        return Answer(data=release, lines=[f"{release.name} is champion"])

    def _readable(self) -> Iterator[Release]:
        """Every release but those whose `release.json` cannot be read: they must not hide the others."""
        for version in releases.published(self._settings.models):
            try:
                yield self._release(version)
            except (ModelVersionUnavailable, ModelContractMismatch) as error:
                log.warning("%s cannot be read: %s", releases.folder_name(version), error.code())

    def _release(self, version: int) -> Release:
        return releases.read(self._settings.models / releases.folder_name(version) / releases.MANIFEST)

    def _champion(self) -> int | None:
        try:
            return WorkerQueue(self._settings.redis()).alias(CHAMPION)
        except QueueUnavailable:
            return None  # a list without the mark is of use, too

    # --- stores ------------------------------------------------------------------------------------------------------

    def list_stores(self) -> Answer:
        found = Stores(self._settings.crops).all()
        lines = [
            f"{each.store:32} {each.size:4} px {each.samples:7} samples {each.unlabelled:7} unlabelled  {each.licence}" for each in found
        ]
        return Answer(data=found, lines=lines or [f"no crop stores in {self._settings.crops}"])


# These two import what they need when they are called: torch takes seconds, which `runs list` does not have to wait for.


def train(run: Run, folder: Path, settings: Settings) -> None:
    """All rounds of a run, from wherever it stands. Its candidate is signed by who saw it trained, if there is a key."""
    from training.processes import Processes
    from training.rounds import run_plan

    signer = (
        Signer.load(settings.signing_key) if settings.signing_key else None
    )  # first: nobody should train for days to learn that it is lost
    plan = placed(run.plan, crops=settings.crops, models=settings.models, version=run.version)
    with Processes.joined() as processes:
        run_plan(plan, folder, processes=processes)
        if signer and processes.leads and (folder / CANDIDATE).is_dir():
            signer.sign(folder / CANDIDATE)


def publisher(settings: Settings, *, signs: bool = False) -> "Publisher":
    """Raises KeyUnusable. What moves an alias signs nothing: in an emergency it has to do without the private key."""
    if settings.signing_key is None and (signs or settings.trusted_keys is None):
        raise KeyUnusable("MIEN_SIGNING_KEY names no file with a private key")
    signer = Signer.load(settings.signing_key) if settings.signing_key else Signer.generate()
    trusted = TrustedKeys.load(settings.trusted_keys) if settings.trusted_keys else signer.trusted
    from training.publish import Publisher

    return Publisher(
        models=settings.models,
        frozen=tuple(settings.crops / name for name in settings.frozen),
        signer=signer,
        trusted=trusted,
        aliases=WorkerQueue(settings.redis()),
        triton_http=settings.triton_http,
        triton_secret=settings.triton_secret,
    )


def read_plan(target: str) -> Plan | None:
    """The plan in a file; None when the target is no file. Raises PlanImpossible."""
    path = Path(target)
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PlanImpossible("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())) from error


# --- for people ----------------------------------------------------------------------------------------------------


def in_a_line(entry: Entry) -> str:
    line = f"{entry.id}  {entry.state:9}"
    if isinstance(entry, RunSummary):
        at = entry.progress
        line += f"  {entry.plan.name:24}  round {at.round} of {at.rounds}, epoch {at.epoch} of {at.epochs}"
    if isinstance(entry, Publication):
        line += f"  of {entry.run}{f', release {entry.version}' if entry.version else ''}"
    if entry.failure is not None:
        line += f"  {entry.failure.code}: {entry.failure.detail or entry.failure.title}"
    return line


def in_lines(status: RunStatus) -> list[str]:
    rounds = status.record.rounds if status.record else ()
    return [
        in_a_line(status),
        *(f"  round {each.number}: {'champion' if each.became_champion else 'not better'}. {each.why}" for each in rounds),
        *([f"  {status.record.why}"] if status.record and status.record.why else []),
    ]


def epoch_in_a_line(epoch: Epoch) -> str:
    return f"round {epoch.round} epoch {epoch.epoch}  {json.dumps(epoch.figures)}"


def release_in_a_line(release: Release, *, champion: int | None) -> str:
    accuracies = ", ".join(f"{name} {figures['accuracy']:.1%}" for name, figures in release.metrics.items() if "accuracy" in figures)
    mark = "champion" if release.version == champion else ""
    return f"{release.version:6}  {mark:8}  {release.size:4} px  width {release.width:<5g}  accuracy: {accuracies or 'not measured'}"


def side_by_side(comparison: Comparison) -> list[str]:
    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    head = f"{'set':24} {'figure':20} {comparison.left:>10} {comparison.right:>10} {'difference':>10}"
    rows = [
        f"{one.set:24} {one.figure:20} {cell(one.left):>10} {cell(one.right):>10} {cell(one.difference):>10}" for one in comparison.metrics
    ]
    return [head, *rows, *(f"{one.field}: {one.left} -> {one.right}" for one in comparison.differences)]


def say(answer: Answer, *, as_json: bool) -> None:
    """On standard output."""
    if as_json:
        one = answer.data
        sys.stdout.write(
            one.model_dump_json(indent=1)
            if isinstance(one, BaseModel)
            else json.dumps([each.model_dump(mode="json") for each in one], indent=1)
        )
        sys.stdout.write("\n")
        return
    sys.stdout.writelines(f"{line}\n" for line in answer.lines)
