"""The folder of crop stores: what there is to learn from, and where a plan's names lead."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from shared.crops import SAMPLES, STORE, Store, read_samples
from shared.errors import DataUnusable
from shared.jobs import Contract, Enhance
from shared.videos import storage_errors
from training.plan import Plan


class StoreSummary(Contract):
    """A crop store, and what is in it."""

    store: str
    """Its name in plans: the path relative to the folder of crop stores."""
    name: str
    """What it calls itself."""
    licence: str
    """Terms it may be used under, where a sample does not name its own."""
    preprocess: str
    """Version of the cropping code."""
    enhance: Enhance
    """Which pictures were brightened before they were cropped."""
    size: int
    """S, side of the crops in pixels."""
    samples: int
    """Clips."""
    frames: int
    """Of all clips."""
    labels: dict[str, int]
    """Samples per label."""
    unlabelled: int
    """Samples without a label."""
    without_consent: int
    """Samples that are never read by training."""
    subjects: int
    """People, as far as they are known."""
    dropped: dict[str, int]
    """What its source held that is not here, by reason."""


class Stores:
    """A folder of crop stores, in which stores may lie in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[StoreSummary]:
        """Every whole store, by name. A folder whose `store.json` is not ours is left out."""
        with storage_errors():
            return [summary for folder in found(self.folder) if (summary := self._summary(folder)) is not None]

    def has(self, name: Path) -> bool:
        """Whether there is a store of this name in the folder; a name that leads out of it names none."""
        return is_inside(self.folder, name) and (self.folder / name / STORE).is_file()

    def _summary(self, folder: Path) -> StoreSummary | None:
        try:
            store = Store.model_validate_json((folder / STORE).read_bytes())
            return summary(folder, folder.relative_to(self.folder).as_posix(), store.model_dump_json())
        except (ValidationError, FileNotFoundError):
            return None


@lru_cache(maxsize=64)
def summary(folder: Path, name: str, store_json: str) -> StoreSummary:
    """Counting the samples of a large store takes a second. A store never changes, so that it is done once for each `store.json`."""
    store = Store.model_validate_json(store_json)
    samples = read_samples(folder / SAMPLES)
    labels = Counter(sample.label for sample in samples)
    return StoreSummary(
        store=name,
        name=store.name,
        licence=store.licence,
        preprocess=store.preprocess,
        enhance=store.enhance,
        size=store.size,
        samples=store.samples,
        frames=store.frames,
        labels={label: count for label, count in sorted(labels.items(), key=str) if label is not None},
        unlabelled=labels[None],
        without_consent=sum(not sample.consent for sample in samples),
        subjects=len({sample.subject for sample in samples}),
        dropped=store.dropped,
    )


def found(root: Path) -> Iterator[Path]:
    """Every folder with a `store.json`, in order. What is inside a store is its own, and hidden folders are half written."""
    for name, folders, files in os.walk(root):
        if STORE in files:
            folders.clear()
            yield Path(name)
        folders[:] = sorted(each for each in folders if not each.startswith("."))


def is_inside(root: Path, name: Path) -> bool:
    """Whether `name`, read from `root`, leads to something inside `root` without ever leaving it, symbolic links followed."""
    if name.is_absolute() or ".." in name.parts or "\0" in str(name):
        return False
    target, base = (root / name).resolve(), root.resolve()
    return target != base and target.is_relative_to(base)


def placed(plan: Plan, *, crops: Path, models: Path, version: int) -> Plan:
    """The plan with its names as folders: stores from `crops`, the teacher from the model repository. Absolute paths stay as they are.

    Raises DataUnusable where there is no such store or teacher.
    """
    return plan.model_copy(
        update={
            "version": version,
            "labelled": tuple(source.model_copy(update={"store": there(crops, source.store)}) for source in plan.labelled),
            "unlabelled": tuple(source.model_copy(update={"store": there(crops, source.store)}) for source in plan.unlabelled),
            "frozen": tuple(there(crops, store) for store in plan.frozen),
            "teacher": None if plan.teacher is None else there(models, plan.teacher),
        }
    )


def there(root: Path, name: Path) -> Path:
    folder = (root / name).resolve()
    if not folder.is_dir():
        raise DataUnusable(f"there is no {name} in {root.name}")
    return folder
