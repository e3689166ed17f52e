"""Noisy-student rounds (section 3.3 of the paper; Xie et al., arXiv 1911.04252), as `run_plan` tells them."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import Tensor

from shared.errors import ModelDigestMismatch, PlanImpossible, TeacherUnsure, TrainingDiverged
from shared.releases import MANIFEST, WEIGHTS, Release, check_servable, file_sha256, read
from training.bootstrap import gain
from training.candidate import described, described_commit, described_hardware, read_luminance, write_candidate
from training.datasets import Clips, check_apart, check_classes, joined, read_clips, split_by_subject
from training.evaluate import Report, evaluate
from training.export import read_release_network
from training.finish import finish
from training.fit import Fitted, fit
from training.network import Network
from training.notebook import Notebook
from training.plan import Design, NoiseStrengths, Plan, Recipe, Source
from training.processes import Processes
from training.pseudo_labels import Lessons, histogram, lessons_of, opinion, softened
from training.record import CANDIDATE, Record, Round
from training.weights import read_network, write_weights

ALONE = Processes()


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a plan learns from and is measured on."""

    labelled: list[Clips]
    unlabelled: list[Clips]
    measured: list[Clips]

    @property
    def size(self) -> int:
        """Side of all crops in pixels."""
        return self.labelled[0].size


@dataclass(frozen=True, kw_only=True)
class Scholar:
    """A network with its marks on everything that is measured on: a student, perhaps a teacher later."""

    name: str
    """`round-0`, or a release's name."""
    network: Network
    reports: dict[str, Report]
    """By the name of the set."""
    size: int
    """Side of the crops that it reads."""
    release: Release | None = None
    """Of a teacher from outside."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What stays the same from round to round."""

    plan: Plan
    data: Data
    notes: Notebook
    processes: Processes


def run_plan(plan: Plan, folder: Path, *, processes: Processes = ALONE) -> Record:
    """Fit a teacher on what is labelled; let it label, without noise, what is not; keep what it is sure of, and balance it; fit
    an equal or larger student on both, with noise. A student that beats the champion is the next teacher; the first that does
    not ends the run. The champion is left as a candidate.

    A killed run goes on from its last epoch and ends with the same numbers. Raises TrainingError kinds, and StorageError.
    """
    check_plan(plan, processes)
    data = gather(plan)
    with Notebook(folder, plan, leads=processes.leads) as notes:
        course = Course(plan=plan, data=data, notes=notes, processes=processes)
        champion = first_teacher(course)
        why = f"it had {plan.rounds} rounds"
        for number in range(1, plan.rounds + 1):
            try:
                student, won = fit_student(course, number, teacher=champion)
            except (TrainingDiverged, TeacherUnsure) as error:  # a lost round is no reason to lose the champion
                why = f"round {number} came to nothing: {error.title()} {error.detail}"
                break
            if not won:
                why = f"round {number} did not beat the champion"
                break
            champion = student
        leave_candidate(course, champion, folder / CANDIDATE)
        notes.closed(why)
        return notes.record


def first_teacher(course: Course) -> Scholar:
    """The release that the plan names, or a network fitted to what people labelled."""
    plan, notes = course.plan, course.notes
    if plan.teacher is not None:
        release = read_teacher(plan.teacher)
        network = read_release_network(release, plan.teacher / WEIGHTS)
        teacher = replace(examined(course, release.name, network, size=release.size), release=release)
        notes.finished(round_of(teacher, number=0, became_champion=True, why=f"{release.name} was given as the first teacher."))
        return teacher
    network, minutes = fitted(course, 0, course.data.labelled, plan.teacher_recipe, plan.teacher_noise, start=None)
    teacher = examined(course, "round-0", network, size=course.data.size)
    why = "The first teacher, fitted to what people labelled."
    notes.finished(round_of(teacher, number=0, minutes=minutes, became_champion=True, why=why))
    return teacher


def read_teacher(folder: Path) -> Release:
    """A release whose weights may label. Raises ReleaseError where they are not the ones that it names, or read other crops."""
    release = read(folder / MANIFEST)
    check_servable(release)
    expected = release.files.get(WEIGHTS, "none named")
    actual = file_sha256(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else "missing"
    if actual != expected:
        raise ModelDigestMismatch(f"{release.name}/{WEIGHTS}", expected=expected, actual=actual)
    return release


def fit_student(course: Course, number: int, *, teacher: Scholar) -> tuple[Scholar, bool]:
    """A network as wide as its teacher or wider, fitted with noise to people's labels and its teacher's; and whether it is better."""
    plan, notes = course.plan, course.notes
    recipe = plan.student_recipes[min(number, len(plan.student_recipes)) - 1]
    lessons = pseudo_labelled(course, teacher)
    taught = [half_taught(course, part, teacher) for part in course.data.labelled]
    if lessons is not None:
        notes.taught(number, lessons, teacher=teacher.name)
        taught.append(lessons.balanced)
    start = teacher.network if recipe.from_teacher and recipe.design == teacher.network.design else None
    network, minutes = fitted(course, number, taught, recipe, plan.noise, start=start)
    student = examined(course, f"round-{number}", network, size=course.data.size)
    marks = [list(each.reports.values()) for each in (student, teacher)]
    better = course.processes.agreed(lambda: gain(*marks, confidence=plan.confidence))
    won = better.low > 0
    notes.finished(
        round_of(
            student,
            number=number,
            teacher=teacher.name,
            unlabelled=lessons.unlabelled if lessons else 0,
            confident=histogram(lessons.confident) if lessons else {},
            balanced=histogram(lessons.balanced) if lessons else {},
            gain=better,
            minutes=minutes,
            became_champion=won,
            why=f"The gain's interval {'lies above' if won else 'does not lie above'} zero.",
        )
    )
    return student, won


def pseudo_labelled(course: Course, teacher: Scholar) -> Lessons | None:
    if not course.data.unlabelled:
        return None
    unlabelled = replace(joined(course.data.unlabelled), pseudo_labeller=teacher.name)
    return lessons_of(opinion_of(course, teacher, unlabelled), unlabelled, course.plan.pseudo_labelling)


def half_taught(course: Course, labelled: Clips, teacher: Scholar) -> Clips:
    """What people labelled, with the share of its teacher's opinion that the plan wants in it."""
    share = course.plan.pseudo_labelling.soften_labels
    return softened(labelled, opinion_of(course, teacher, labelled), share) if share else labelled


def opinion_of(course: Course, teacher: Scholar, clips: Clips) -> Tensor:
    return opinion(teacher.network, clips, size=teacher.size, processes=course.processes)


def fitted(
    course: Course, number: int, lessons: list[Clips], recipe: Recipe, noise: NoiseStrengths, *, start: Network | None
) -> tuple[Network, float]:
    """A finished network, and the minutes it took; read from the disk when an earlier process has finished it."""
    folder, plan = course.notes.of_round(number), course.plan
    done = course.processes.agreed(lambda: course.notes.done(number))
    if done is not None:
        return read_network(folder / WEIGHTS, recipe.design), done.minutes
    fit_of_round: Fitted = fit(
        lessons,
        recipe=recipe,
        noise=noise,
        seed=plan.seed + number,
        validate=course.data.measured,
        folder=folder,
        start=start,
        processes=course.processes,
        on_epoch=partial(course.notes.epoch, number),
    )
    network = fit_of_round.network.to(course.processes.device)
    read_luminance(network.encoder)
    finish(network, lessons=lessons, labelled=course.data.labelled, attention_steps=recipe.attention_steps, seed=plan.seed + number)
    if course.processes.leads:
        write_weights(network, folder)
    course.processes.wait()
    return read_network(folder / WEIGHTS, recipe.design), fit_of_round.minutes  # as a resumed run would: to the last bit


def examined(course: Course, name: str, network: Network, *, size: int) -> Scholar:
    """A network with its marks, given at the size of crops that it reads; the same ones in every process."""
    network.to(course.processes.device)
    measured = course.data.measured
    reports = course.processes.agreed(lambda: {part.name: evaluate(network, part.resized(size)) for part in measured})
    return Scholar(name=name, network=network, reports=reports, size=size)


def round_of(one: Scholar, *, number: int, became_champion: bool, why: str, minutes: float = 0.0, **details: Any) -> Round:
    """A scholar's round, for the record."""
    return Round(
        number=number,
        parameters=sum(parameter.numel() for parameter in one.network.parameters()),
        measured={name: report.measured() for name, report in one.reports.items()},
        became_champion=became_champion,
        why=why,
        minutes=round(minutes, 1),
        **details,
    )


def leave_candidate(course: Course, champion: Scholar, folder: Path) -> None:
    """Put the champion down as a release that could be published, unless it is one already."""
    if champion.release is not None or not course.processes.leads:
        return
    plan, data, network = course.plan, course.data, champion.network
    parent = read(plan.teacher / MANIFEST).version if plan.teacher is not None else None
    release = Release(
        version=plan.version or (parent or 0) + 1,
        parent=parent,
        size=champion.size,
        width=network.design.width,
        feature_size=network.encoder.feature_size,
        training=described_training(course, champion),
        metrics={name: report.figures() for name, report in champion.reports.items()},
        data=(
            *described(data.labelled, "train"),
            *described(data.unlabelled, "unlabelled"),
            *described(data.measured, "validation"),
        ),
        commit=described_commit(),
        notes=plan.notes,
    )
    write_candidate(network, release, folder)


def described_training(course: Course, champion: Scholar) -> dict[str, JsonValue]:
    """The plan without this machine's folders, and what the rounds came to."""
    rounds = course.notes.record.rounds
    minutes = sum(one.minutes for one in rounds)
    return {
        "plan": in_public(course.plan),
        "champion": champion.name,
        "minutes": round(minutes, 1),
        "hardware": described_hardware(course.processes.device, course.processes.count),
        "rounds": [one.model_dump(mode="json", exclude={"measured"}) for one in rounds],
    }


def in_public(plan: Plan) -> dict[str, JsonValue]:
    """A plan with the names of stores instead of their paths, which mean something on one machine only."""
    names = plan.model_copy(
        update={
            "labelled": tuple(named(source) for source in plan.labelled),
            "unlabelled": tuple(named(source) for source in plan.unlabelled),
            "frozen": tuple(Path(store.name) for store in plan.frozen),
            "teacher": plan.teacher and Path(plan.teacher.name),
        }
    )
    return names.model_dump(mode="json", exclude={"notes"})


def named(source: Source) -> Source:
    return source.model_copy(update={"store": Path(source.store.name)})


# --- what a plan asks for, and whether it can be had -------------------------------------------------------------------


def gather(plan: Plan) -> Data:
    """Read every store of a plan. Raises DataUnusable kinds, and PlanImpossible where the crops do not fit the recipes."""
    labelled: list[Clips] = []
    measured = [read_clips(folder).labelled() for folder in plan.frozen]
    for source in plan.labelled:
        clips = read_clips(source.store).labelled()
        if source.held_out:
            clips, held_out = split_by_subject(clips, held_out=source.held_out)
            measured.append(held_out)
        labelled.append(clips.part(list(range(len(clips))) * source.repeat))
    if not measured:
        raise PlanImpossible("nothing is measured on: name a frozen store, or hold some subjects out")
    unlabelled = [clips.part(list(range(len(clips))) * source.repeat) for source in plan.unlabelled for clips in [read_clips(source.store)]]
    check_names([*labelled, *unlabelled, *measured])
    check_apart([*labelled, *unlabelled], measured)
    check_classes(labelled)
    data = Data(labelled=labelled, unlabelled=unlabelled, measured=measured)
    check_sizes(plan, data)
    return data


def check_names(parts: list[Clips]) -> None:
    """Figures and cards know a set by its name: raise PlanImpossible where two sets have the same."""
    digests: dict[str, set[str]] = {}
    for part in parts:
        digests.setdefault(part.name, set()).add(part.sha256)
    twice = sorted(name for name, stores in digests.items() if len(stores) > 1)
    if twice:
        raise PlanImpossible(f"several stores are named {', '.join(twice)}")


def check_plan(plan: Plan, processes: Processes) -> None:
    """Raise PlanImpossible for what no data could mend."""
    for recipe, noise in ((plan.teacher_recipe, plan.teacher_noise), *((recipe, plan.noise) for recipe in plan.student_recipes)):
        if noise.groups_per_batch % processes.count or noise.groups_per_batch > recipe.batch:
            groups = f"{noise.groups_per_batch} groups of noise per batch of {recipe.batch}"
            raise PlanImpossible(f"{groups} cannot be shared by {processes.count} processes")
    if plan.rounds and not plan.unlabelled and not plan.pseudo_labelling.soften_labels:
        raise PlanImpossible("a round needs unlabelled clips, or labels that the teacher may soften")
    teacher = plan.teacher_recipe.design if plan.teacher is None else Design(width=read(plan.teacher / MANIFEST).width)
    designs = (teacher, *(recipe.design for recipe in plan.student_recipes[: plan.rounds]))
    for before, after in pairwise(designs):
        if after.width < before.width:  # Xie et al., section 2: equal or larger
            raise PlanImpossible(f"a student of width {after.width} is narrower than its teacher of {before.width}")
    for design in designs:
        if design != Design(width=design.width):
            raise PlanImpossible("a run ends with a release, which has all regions and all attentions")


def check_sizes(plan: Plan, data: Data) -> None:
    """Everything is cropped at one size, and every recipe ends with it: a network is measured at the size it is served at."""
    sizes = {part.size for part in [*data.labelled, *data.measured, *data.unlabelled]}
    if len(sizes) > 1:
        raise PlanImpossible(f"the stores are cropped at {sorted(sizes)} pixels")
    fitted_recipes = (*((plan.teacher_recipe,) if plan.teacher is None else ()), *(plan.student_recipes if plan.rounds else ()))
    for recipe in fitted_recipes:
        if max(stretch.size for stretch in recipe.stretches) > data.size:
            raise PlanImpossible(f"a recipe asks for more than the {data.size} pixels that the stores are cropped at")
        if recipe.stretches[-1].size != data.size:
            raise PlanImpossible(f"a recipe ends at {recipe.stretches[-1].size} pixels, and the stores are cropped at {data.size}")
