"""Shares of people, and how far they may be off by chance."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.figures import Figure
from tests.bench.people import Labelled

DRAWS: Final = 2000


def percentage(name: str, hits: Sequence[float], *, people: Sequence[Labelled], of: Sequence[float] | None = None) -> Figure:
    """The sum of `hits` over that of `of`, which is everybody when nobody says; one of each for each of the people.

    The error is that of drawing other people: a bootstrap over subjects, since the pictures of one resemble each other.
    """
    counts = np.array([hits, [1.0] * len(people) if of is None else of])
    drawn = ratio(counts @ times_drawn(people).T)
    return Figure(
        bench="lowlight",
        name=name,
        value=float(100 * ratio(counts.sum(axis=1))),
        unit="%",
        error=float(100 * np.nanstd(drawn)) if np.isfinite(drawn).any() else float("nan"),
    )


def times_drawn(people: Sequence[Labelled]) -> NDArray[np.int64]:
    """(DRAWS, N): how often each of the people is there when subjects are drawn, with replacement, as many as there are."""
    subjects, subject_of = np.unique([person.subject for person in people], return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), size=DRAWS)
    return drawn[:, subject_of]


def ratio(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first row over the second, NaN where that is nothing."""
    return np.divide(counts[0], counts[1], out=np.full_like(counts[0], np.nan), where=counts[1] > 0)
