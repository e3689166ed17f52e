"""Two releases side by side: what each scores, what it learnt from, and how it was trained otherwise."""

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from shared.jobs import Contract
from shared.releases import DataSet, Release


class Figure(Contract):
    """One figure on one set; null where a release was not measured at it."""

    set: str
    """What it was measured on."""
    figure: str
    """Such as `accuracy`, `macro_f1`, or the recall of a class."""
    left: float | None
    """The left release's."""
    right: float | None
    """The right release's."""
    difference: float | None
    """Right minus left; null unless both are there."""


class Difference(Contract):
    """One thing that is not the same in both; null where a release says nothing about it."""

    field: str
    """Path in `release.json`, such as `size` or `training.plan.seed`."""
    left: JsonValue
    """What the left release says."""
    right: JsonValue
    """What the right release says."""


class Comparison(Contract):
    """Two releases side by side."""

    left: int
    """Version of the one."""
    right: int
    """Version of the other."""
    metrics: tuple[Figure, ...]
    """Every set and figure that either was measured at, per class where it says so."""
    data_of_both: tuple[DataSet, ...]
    """Data that both know, for the same use."""
    data_of_left: tuple[DataSet, ...]
    """Data that only the left one knows."""
    data_of_right: tuple[DataSet, ...]
    """Data that only the right one knows."""
    differences: tuple[Difference, ...]
    """Of everything else: the network, the plan, the noise, the code."""


APART = {"version", "metrics", "data", "files", "notes"}
"""What is compared otherwise, or cannot be the same."""


def compare(left: Release, right: Release) -> Comparison:
    return Comparison(
        left=left.version,
        right=right.version,
        metrics=tuple(figures(left.metrics, right.metrics)),
        data_of_both=tuple(one for one in left.data if one in right.data),
        data_of_left=tuple(one for one in left.data if one not in right.data),
        data_of_right=tuple(one for one in right.data if one not in left.data),
        differences=tuple(differences(left.model_dump(mode="json", exclude=APART), right.model_dump(mode="json", exclude=APART))),
    )


def figures(left: Mapping[str, Mapping[str, float]], right: Mapping[str, Mapping[str, float]]) -> Iterator[Figure]:
    for name in dict.fromkeys((*left, *right)):
        ours, theirs = left.get(name, {}), right.get(name, {})
        for figure in dict.fromkeys((*ours, *theirs)):
            one, other = ours.get(figure), theirs.get(figure)
            difference = None if one is None or other is None else round(other - one, 6)
            yield Figure(set=name, figure=figure, left=one, right=other, difference=difference)


def differences(left: Mapping[str, JsonValue], right: Mapping[str, JsonValue]) -> Iterator[Difference]:
    ours, theirs = flat(left), flat(right)
    for field in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(field), theirs.get(field)
        if one != other:
            yield Difference(field=field, left=one, right=other)


def flat(tree: JsonValue | Mapping[str, JsonValue], path: str = "") -> dict[str, JsonValue]:
    """The leaves of a tree of mappings and lists, by their paths."""
    if isinstance(tree, Mapping):
        return {name: leaf for key, branch in tree.items() for name, leaf in flat(branch, f"{path}.{key}" if path else key).items()}
    if isinstance(tree, list) and any(isinstance(branch, (dict, list)) for branch in tree):
        return {name: leaf for place, branch in enumerate(tree) for name, leaf in flat(branch, f"{path}.{place}").items()}
    return {path: tree}
