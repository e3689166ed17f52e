"""The paper's tables (arXiv 2008.02655, section 4) on any labelled data, as Markdown, with what is known of the paper's figures beside.

    python -m training.tables --labelled STORE --frozen STORE [--unlabelled STORE] --out DIR

Each network is a cell of `training.cells`: a killed command goes on where it was, and what two tables share is fitted once.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import MienError, PlanImpossible, TrainingError
from shared.videos import storage_errors, write_durably
from training import in_words
from training.ablation import FOOTNOTES, TABLES, Tables
from training.cells import Cells
from training.datasets import read_store
from training.enhancement import check_pair
from training.markdown import percent
from training.plan import Plan, Recipe, Source, Stretch
from training.processes import Processes

log = logging.getLogger(__name__)

CELLS: Final = "cells"

HELD_OUT: Final = 0.2
"""Share of the subjects that is measured on where no frozen store is given."""

Document = TypeVar("Document", bound=BaseModel)


def main(argv: Sequence[str]) -> int:
    """Write the tables that the arguments ask for; returns the exit status."""
    asked = parser()
    arguments = asked.parse_args(argv)
    if not arguments.labelled and not arguments.plan:
        asked.error("name labelled stores, or a plan that does")
    try:
        with Processes.joined() as processes:
            tables = tables_of(arguments, processes)
            written = [write(name, tables, arguments.out, leads=processes.leads) for name in arguments.only or TABLES]
    except MienError as error:
        say(error)
        return 1
    return 0 if all(written) else 1


def tables_of(arguments: argparse.Namespace, processes: Processes) -> Tables:
    plan = plan_of(arguments)
    return Tables(
        plan=plan,
        seeds=arguments.seeds or [plan.seed],
        k=arguments.folds,
        unenhanced=unenhanced(plan, arguments),
        cells=Cells(arguments.out / CELLS, processes=processes),
    )


def write(name: str, tables: Tables, folder: Path, *, leads: bool) -> bool:
    """Write one table as Markdown. False where its data or its networks do not allow it: that must not cost the other tables."""
    try:
        text = page(name, tables)
    except TrainingError as error:
        say(error, about=f"{name}: ")
        return False
    if leads:
        with storage_errors():
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(folder / f"{name}.md", text.encode())
        log.info("%s", folder / f"{name}.md")
    return True


def say(error: MienError, *, about: str = "") -> None:
    log.error("%s%s %s", about, error.title(), error.detail)


def page(name: str, tables: Tables) -> str:
    """A table's whole file."""
    title, make = TABLES[name]
    facts = "\n".join(
        f"- {fact}." for fact in (*data_of(name, tables), *how(name, tables.plan), f"Seeds: {', '.join(map(str, tables.seeds))}")
    )
    return "\n\n".join((f"# {title}", make(tables), FOOTNOTES, "## How it was measured", facts)) + "\n"


def data_of(name: str, tables: Tables) -> Iterator[str]:
    plan = tables.plan
    if name == "folds":
        yield f"Labelled: {', '.join(source.store.name for source in plan.labelled)}, each by itself"
        yield f"Measured on: everybody once, by a network that learnt from the other {tables.k - 1} of {tables.k} parts of the subjects"
        return
    yield f"Labelled: {', '.join(said(source) for source in plan.labelled)}"
    yield f"Measured on: {', '.join(measured_on(plan))}"
    if name == "components" and tables.unenhanced is not None:
        yield f"Without enhancement, both learnt from and measured on: {', '.join(plain_stores(plan, tables.unenhanced))}"
    if name == "iterations":
        yield f"Unlabelled: {', '.join(said(source) for source in plan.unlabelled) or 'none'}"


def how(name: str, plan: Plan) -> Iterator[str]:
    yield f"Recipe: {in_words.recipe(plan.teacher_recipe)}"
    yield f"Noise: {in_words.noise(plan.teacher_noise)}"
    if name == "iterations":
        yield from (f"Student {number}: {in_words.recipe(recipe)}" for number, recipe in enumerate(plan.student_recipes, start=1))
        yield f"Noise for students: {in_words.noise(plan.noise)}"
        yield f"Pseudo labels where balanced: {in_words.pseudo_labelling(plan.pseudo_labelling.model_copy(update={'balanced': True}))}"


def said(source: Source) -> str:
    return source.store.name if source.repeat == 1 else f"{source.store.name} {source.repeat} times"


def measured_on(plan: Plan) -> list[str]:
    held_out = [f"{percent(source.held_out)} of the subjects of {source.store.name}" for source in plan.labelled if source.held_out]
    return [*(store.name for store in plan.frozen), *held_out]


def plain_stores(plan: Plan, unenhanced: Plan) -> Iterator[str]:
    for enhanced, plain in zip(stores_of(plan), stores_of(unenhanced), strict=True):
        yield f"{plain.name} in the place of {enhanced.name} (--enhance {read_store(enhanced).enhance})"


def stores_of(plan: Plan) -> tuple[Path, ...]:
    """What people labelled: to learn from, then to measure on."""
    return (*(source.store for source in plan.labelled), *plan.frozen)


# --- what is asked for --------------------------------------------------------------------------------------------------


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that is given, or a plain one, with the data that the arguments name. Raises PlanImpossible."""
    plan = read_document(arguments.plan, Plan) if arguments.plan else plain_plan(arguments)
    if arguments.labelled:
        held_out = 0.0 if arguments.frozen else HELD_OUT
        data = {
            "labelled": tuple(Source(store=store, held_out=held_out) for store in arguments.labelled),
            "unlabelled": tuple(Source(store=store) for store in arguments.unlabelled),
            "frozen": tuple(arguments.frozen),
        }
        plan = plan.model_copy(update=data)
    return plan if plan.unlabelled else plan.model_copy(update={"rounds": 0})


def plain_plan(arguments: argparse.Namespace) -> Plan:
    """One recipe for all; the default one at the stores' own size unless another is given."""
    if arguments.recipe:
        recipe = read_document(arguments.recipe, Recipe)
    else:
        recipe = Recipe(stretches=(Stretch(epochs=Recipe().epochs, size=read_store(arguments.labelled[0]).size),))
    sources = tuple(Source(store=store) for store in arguments.labelled)
    return Plan(name="tables", labelled=sources, teacher_recipe=recipe, student_recipes=(recipe,))


def unenhanced(plan: Plan, arguments: argparse.Namespace) -> Plan | None:
    """The plan over the stores that were harvested without enhancement, in the order of those with it. Raises PlanImpossible where two
    differ otherwise, too.
    """
    if not arguments.unenhanced:
        return None
    if (len(arguments.unenhanced), len(arguments.unenhanced_frozen)) != (len(plan.labelled), len(plan.frozen)):
        raise PlanImpossible("every labelled and every frozen store needs one without enhancement")
    labelled = (source.model_copy(update={"store": store}) for source, store in zip(plan.labelled, arguments.unenhanced, strict=True))
    stores = {"labelled": tuple(labelled), "frozen": tuple(arguments.unenhanced_frozen), "unlabelled": (), "rounds": 0}
    other = plan.model_copy(update=stores)
    for enhanced, plain in zip(stores_of(plan), stores_of(other), strict=True):
        check_pair(enhanced, plain)
    return other


def read_document(path: Path, kind: type[Document]) -> Document:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise PlanImpossible(f"there is no {path}") from None
    except ValidationError as error:
        raise PlanImpossible(f"{path}: {error}") from error


def parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser(prog="python -m training.tables", description="Write the paper's tables for any labelled data.")
    add_stores(asked, "--labelled", "crop stores to learn from; folds are made of each")
    add_stores(asked, "--frozen", f"crop stores to measure on; {HELD_OUT:.0%}% of the labelled subjects by default")
    add_stores(asked, "--unlabelled", "crop stores that teachers label, for the table of iterations")
    add_stores(asked, "--unenhanced", "the labelled stores, harvested without enhancement")
    add_stores(asked, "--unenhanced-frozen", "the frozen stores, harvested without enhancement")
    how = asked.add_mutually_exclusive_group()
    how.add_argument("--plan", type=Path, help="a run's plan.json: recipes, noise, pseudo labelling, rounds, and data unless named here")
    how.add_argument("--recipe", type=Path, help="a Recipe as JSON, for teacher and students")
    asked.add_argument("--seeds", type=int, nargs="+", help="every network is fitted once per seed; the plan's seed by default")
    asked.add_argument("--folds", type=int, default=10, metavar="K")
    asked.add_argument("--only", choices=TABLES, nargs="+", help="not all four tables")
    asked.add_argument("--out", type=Path, required=True, help="folder for the tables and for the networks behind them")
    return asked


def add_stores(asked: argparse.ArgumentParser, flag: str, words: str) -> None:
    asked.add_argument(flag, type=Path, nargs="+", default=[], metavar="STORE", help=words)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
