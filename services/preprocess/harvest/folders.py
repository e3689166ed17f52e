"""Walking the folders that data sets come in."""

from collections.abc import Collection
from pathlib import Path

from services.preprocess.harvest.labels import label_of
from shared.errors import DataUnusable
from shared.results import Label


def existing_folder(path: Path) -> Path:
    """The same path. Raises DataUnusable when there is no such folder."""
    if not path.is_dir():
        raise DataUnusable(f"{path} is not a folder")
    return path


def folders(path: Path) -> list[Path]:
    """The folders in a folder, by name. What archives of other systems leave behind is passed over."""
    return sorted(child for child in path.iterdir() if child.is_dir() and is_data(child.name))


def files(path: Path, suffixes: Collection[str]) -> list[Path]:
    """The files with one of these suffixes in a folder and in the folders below it, by name."""
    found = (child for child in path.rglob("*") if child.suffix.lower() in suffixes and child.is_file())
    return sorted(child for child in found if all(map(is_data, child.relative_to(path).parts)))


def class_folders(source: Path) -> list[tuple[Label, Path]]:
    """The folders of a folder, each with the label that its name means.

    Raises LabelUnknown for a name that means none of ours, and DataUnusable where there are no folders.
    """
    classes = [(label_of(folder.name, where=str(folder)), folder) for folder in folders(existing_folder(source))]
    if not classes:
        raise DataUnusable(f"{source} has no folder per class")
    return classes


def named(source: Path, path: Path) -> str:
    """A path as records name it: from the data set's own folder on, wherever that lies."""
    name = Path(source.resolve().name, path.relative_to(source))
    return str(name).encode(errors="backslashreplace").decode()  # names on the disk need not be text


def is_data(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"
