"""What a plan that comes over the network may name: crop stores and releases that are there, and nothing else on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.exceptions import RequestValidationError

from shared.releases import MANIFEST
from training.plan import Plan
from training.stores import Stores, is_inside


def require_known_names(plan: Plan, *, stores: Stores, models: Path) -> None:
    """Raise RequestValidationError, with every name that leads nowhere or out of its folder."""
    errors = [*unknown_stores(plan, stores), *unknown_teacher(plan, models)]
    if errors:
        raise RequestValidationError(errors)


def unknown_stores(plan: Plan, stores: Stores) -> Iterator[dict[str, Any]]:
    named: dict[tuple[str | int, ...], Path] = {
        **{("labelled", number, "store"): source.store for number, source in enumerate(plan.labelled)},
        **{("unlabelled", number, "store"): source.store for number, source in enumerate(plan.unlabelled)},
        **{("frozen", number): store for number, store in enumerate(plan.frozen)},
    }
    for place, store in named.items():
        if not stores.has(store):
            yield {"loc": ("body", *place), "type": "unknown_store", "msg": "There is no crop store of this name"}


def unknown_teacher(plan: Plan, models: Path) -> Iterator[dict[str, Any]]:
    if plan.teacher is not None and not (is_inside(models, plan.teacher) and (models / plan.teacher / MANIFEST).is_file()):
        yield {
            "loc": ("body", "teacher"),
            "type": "unknown_release",
            "msg": "There is no published release of this name, such as mien_000001",
        }
