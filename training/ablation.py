"""Which networks make up each of the paper's tables (arXiv 2008.02655, section 4), and how their marks are set out."""

import logging
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from shared.errors import PlanImpossible
from shared.expressions import LABELS, REGIONS
from training.bootstrap import Interval
from training.cells import Cell, Cells, Experiment, Teaching
from training.datasets import Clips, joined, read_clips
from training.finish import has_clips
from training.folds import folds
from training.markdown import figures_table, percent
from training.plan import SILENCE, Design, NoiseStrengths, Plan
from training.rounds import Data, gather
from training.uncertainty import intervals

log = logging.getLogger(__name__)

AFEW: Final = "55.17 % (1)"
"""resnet18_noisy on AFEW 8.0's validation set: the paper's one figure for it."""
CK_PLUS: Final = "99.69 % (1)"
UNKNOWN: Final = "- (2)"

FOOTNOTES: Final = """\
(1) The paper's figure for its whole method: 55.17 % on AFEW 8.0's validation set, 99.69 % on CK+ (the latter as a review of the
paper has it). Other data, another network size and another number of iterations than here, so that it says where the method can come
to, not what this table should show.
(2) The paper's figure was not at hand as a number, and none is made up here. What the paper is said to find is said by a review of it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table: what it is called, and one experiment per seed; or why there is none."""

    name: str
    experiments: list[Experiment]
    paper: str = UNKNOWN
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What every table is made from."""

    plan: Plan
    seeds: list[int]
    k: int
    """Folds."""
    unenhanced: Plan | None
    """The same plan on stores that were harvested without enhancement."""
    cells: Cells

    @cached_property
    def data(self) -> Data:
        """Read once, and only by the tables that need it: folds are made otherwise, and of data that may lack a class."""
        return gather(self.plan)

    def experiment(self, data: Data, *, seed: int, design: Design | None = None, noise: NoiseStrengths | None = None) -> Experiment:
        """What is labelled, learnt by the teacher's recipe with some of it changed."""
        recipe = self.plan.teacher_recipe
        return Experiment(
            labelled=data.labelled,
            measured=data.measured,
            recipe=recipe.model_copy(update={"design": design}) if design else recipe,
            noise=noise or self.plan.teacher_noise,
            seed=seed,
        )

    def marks(self, row: Row) -> list[Cell]:
        """One per seed."""
        return [self._told(row, experiment) for experiment in row.experiments]

    def _told(self, row: Row, experiment: Experiment) -> Cell:
        cell = self.cells.cell(experiment)
        if self.cells.leads:
            log.info("%s, seed %d: accuracy %s, %.1f minutes", row.name, experiment.seed, percent(cell.measured.accuracy), cell.minutes)
        return cell


# --- the four tables ---------------------------------------------------------------------------------------------------


def regions(tables: Tables) -> str:
    """What can be told from the face alone, the eyes, the mouth, and all of them."""
    kinds = {**{region: (region,) for region in REGIONS}, "all": REGIONS}
    rows = [
        Row(name=name, experiments=varied(tables, tables.data, regions=kept), paper=AFEW if name == "all" else UNKNOWN)
        for name, kept in kinds.items()
    ]
    marks = [tables.marks(row) for row in rows]
    recalls = [(row.name, *(mean_recall(of_row, label) for label in LABELS)) for row, of_row in zip(rows, marks, strict=True)]
    text = "Fitted to what people labelled. The paper is said to find the eyes best for sad, the mouth for happy and angry, and all best."
    return "\n\n".join((text, table(tables, rows, marks), "Recall, as a mean over seeds:", figures_table(("regions", *LABELS), recalls)))


def iterations(tables: Tables) -> str:
    """What each round of students brings, with classes evened out among their lessons and without."""
    plan = tables.plan
    if not plan.unlabelled:
        return "Not measured: no unlabelled store was given."
    data = tables.data
    teachers = [tables.experiment(data, seed=seed) for seed in tables.seeds]
    rows = [Row(name="0: the first teacher", experiments=teachers)]
    for is_balanced, words in ((False, "unbalanced"), (True, "balanced")):
        chain = teachers
        for number in range(1, plan.rounds + 1):
            chain = [student_of(teacher, number, plan=plan, data=data, is_balanced=is_balanced) for teacher in chain]
            is_last = is_balanced and number == plan.rounds
            rows.append(Row(name=f"{number}, {words}", experiments=chain, paper=AFEW if is_last else UNKNOWN))
    marks = [tables.marks(row) for row in rows]
    taught = [f"{statistics.mean(cell.taught for cell in of_row):,.0f}" for of_row in marks]
    text = """\
Every student is the next one's teacher, better or not, so that the table shows what each iteration does; a run stops at the first
that does not help. The paper is said to find that accuracy rises over iterations, and that balance matters."""
    return f"{text}\n\n{table(tables, rows, marks, extra=('pseudo-labelled clips', taught))}"


def components(tables: Tables) -> str:
    """What is lost without each part of the method."""
    quiet = SILENCE.model_copy(update={"groups_per_batch": tables.plan.teacher_noise.groups_per_batch})
    rows = [
        Row(name="everything", experiments=varied(tables, tables.data), paper=AFEW),
        Row(name="without spatial attention", experiments=varied(tables, tables.data, spatial_attention=False)),
        Row(name="without channel attention", experiments=varied(tables, tables.data, channel_attention=False)),
        without_frame_attention(tables),
        Row(name="without noise", experiments=[tables.experiment(tables.data, seed=seed, noise=quiet) for seed in tables.seeds]),
        without_enhancement(tables),
    ]
    marks = [tables.marks(row) for row in rows]
    parameters = [f"{of_row[0].parameters:,}" if of_row else "-" for of_row in marks]
    text = "Fitted to what people labelled, each with one part less. The paper is said to find that every component helps."
    missing = [f"- {row.name}: not measured. {row.missing}" for row in rows if row.missing]
    return "\n\n".join(part for part in (text, table(tables, rows, marks, extra=("parameters", parameters)), "\n".join(missing)) if part)


def k_folds(tables: Tables) -> str:
    """How well people are judged who were not learnt from, everybody once: CK+'s protocol, on each labelled store."""
    return "\n\n".join(folds_of(tables, read_clips(source.store).labelled()) for source in tables.plan.labelled)


TABLES: Final[dict[str, tuple[str, Callable[[Tables], str]]]] = {
    "regions": ("Regions", regions),
    "iterations": ("Iterations", iterations),
    "components": ("Components", components),
    "folds": ("Subject-independent folds", k_folds),
}


# --- rows --------------------------------------------------------------------------------------------------------------


def varied(tables: Tables, data: Data, **changed: object) -> list[Experiment]:
    """One experiment per seed, with some of the design changed."""
    design = tables.plan.teacher_recipe.design.model_copy(update=changed)
    return [tables.experiment(data, seed=seed, design=design) for seed in tables.seeds]


def student_of(teacher: Experiment, number: int, *, plan: Plan, data: Data, is_balanced: bool) -> Experiment:
    """The student of a round, whatever its teacher is worth."""
    if not data.unlabelled:
        raise PlanImpossible("a student needs unlabelled clips")
    wanted = plan.pseudo_labelling.model_copy(update={"balanced": is_balanced})
    return replace(
        teacher,
        recipe=plan.student_recipes[min(number, len(plan.student_recipes)) - 1],
        noise=plan.noise,
        teaching=Teaching(teacher=teacher, unlabelled=replace(joined(data.unlabelled), pseudo_labeller="teacher"), wanted=wanted),
    )


def without_frame_attention(tables: Tables) -> Row:
    name = "without frame attention"
    if not has_clips(tables.data.measured):
        return Row(name=name, experiments=[], missing="Every measured clip is one picture, which leaves frame attention nothing to weigh.")
    return Row(name=name, experiments=varied(tables, tables.data, frame_attention=False))


def without_enhancement(tables: Tables) -> Row:
    name = "without enhancement"
    if tables.unenhanced is None:
        why = "It takes the same clips harvested once with enhancement of dark pictures and once without; no second harvest was given."
        return Row(name=name, experiments=[], missing=why)
    return Row(name=name, experiments=varied(tables, gather(tables.unenhanced)))


def folds_of(tables: Tables, clips: Clips) -> str:
    """One store's table: a row per fold, then mean and standard deviation over all of them."""
    subjects: list[str] = []
    marks: list[list[Cell]] = []
    for number, (train, test) in enumerate(folds(clips, tables.k), start=1):
        data = Data(labelled=[train], unlabelled=[], measured=[test])
        row = Row(name=f"fold {number} of {clips.name}", experiments=varied(tables, data))
        marks.append(tables.marks(row))
        subjects.append(f"{len(set(test.subjects)):,}")
    rows = [
        (str(number), people, f"{of_fold[0].measured.samples:,}", mean_of(accuracies(of_fold)), mean_of(f1s(of_fold)), "")
        for number, (people, of_fold) in enumerate(zip(subjects, marks, strict=True), start=1)
    ]
    cells = [cell for of_fold in marks for cell in of_fold]
    people, samples = f"{len(set(clips.subjects)):,}", f"{len(clips):,}"
    whole = ("mean ± standard deviation", people, samples, spread_of(accuracies(cells)), spread_of(f1s(cells)), CK_PLUS)
    header = ("fold", "subjects", "clips", "accuracy", "macro-F1", "paper, CK+")
    return f"### {clips.name}, {tables.k} folds\n\n{figures_table(header, [*rows, whole])}\n\n{computed_by(marks)}"


# --- words -------------------------------------------------------------------------------------------------------------


def table(tables: Tables, rows: list[Row], marks: list[list[Cell]], *, extra: tuple[str, list[str]] | None = None) -> str:
    """A row per row: accuracy, macro-F1, a column of the table's own, and the paper's figure."""
    titles, columns = ((extra[0],), extra[1]) if extra else ((), [])
    lines = [
        (row.name, *figures(of_row, confidence=tables.plan.confidence), *(columns[number : number + 1]), row.paper)
        for number, (row, of_row) in enumerate(zip(rows, marks, strict=True))
    ]
    return figures_table(("", "accuracy", "macro-F1", *titles, "paper, AFEW 8.0"), lines) + f"\n\n{how_sure(tables)} {computed_by(marks)}"


def figures(cells: list[Cell], *, confidence: float) -> tuple[str, str]:
    """Accuracy and macro-F1, with what is known of their uncertainty."""
    if not cells:
        return "not measured", "not measured"
    if len(cells) > 1:
        return spread_of(accuracies(cells)), spread_of(f1s(cells))
    (cell,) = cells
    accuracy, macro_f1 = intervals(cell.measured.confusion, confidence=confidence)
    return within(cell.measured.accuracy, accuracy), within(cell.measured.macro_f1, macro_f1)


def how_sure(tables: Tables) -> str:
    if len(tables.seeds) > 1:
        return f"Mean ± standard deviation over {len(tables.seeds)} seeds."
    return f"In brackets the bootstrap interval over the measured clips, with {percent(tables.plan.confidence)} confidence; one seed."


def computed_by(marks: list[list[Cell]]) -> str:
    """Cells may be of several days and machines."""
    sources = sorted({f"`{cell.commit}` on {cell.hardware}" for of_row in marks for cell in of_row})
    return f"Computed by {'; '.join(sources)}."


def accuracies(cells: Iterable[Cell]) -> list[float]:
    return [cell.measured.accuracy for cell in cells]


def f1s(cells: Iterable[Cell]) -> list[float]:
    return [cell.measured.macro_f1 for cell in cells]


def mean_of(shares: list[float]) -> str:
    return percent(statistics.mean(shares))


def spread_of(shares: list[float]) -> str:
    return f"{mean_of(shares)} ± {100 * statistics.stdev(shares):.1f}"


def within(share: float, interval: Interval) -> str:
    low, high = interval
    return f"{percent(share)} ({100 * low:.1f} to {100 * high:.1f})"


def mean_recall(cells: list[Cell], label: str) -> str:
    recalls = [cell.measured.recall[label] for cell in cells if label in cell.measured.recall]
    return mean_of(recalls) if recalls else "-"
