"""Made-up people who walk through real pixels, and how well a tracker follows them: python -m tests.preprocess.faces.trajectories

A person is the portrait of scikit-image under a colour field of their own, so that people look different and each always alike.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment
from skimage.data import astronaut

from services.preprocess.faces.face import Face
from services.preprocess.faces.tracks import Tracker

FRAME_WIDTH, FRAME_HEIGHT = 640, 360
PORTRAIT = Image.fromarray(astronaut()[50:200, 165:282])
"""The face and little else, 117 by 150."""
LANDMARKS = np.array([(0.33, 0.39), (0.63, 0.38), (0.49, 0.59), (0.37, 0.76), (0.63, 0.75)])
"""In fractions of the portrait: eyes, nose, corners of the mouth."""
ASPECT = PORTRAIT.width / PORTRAIT.height
HIDDEN = 0.35
"""Of a face that is covered by this share the detector finds nothing."""
FIELD = 0.5
"""Strength of the colour fields, at which two people's looks are about as much alike as real people's."""


@dataclass(frozen=True)
class Place:
    """Where a face is: its centre and its height in pixels."""

    person: int
    x: float
    y: float
    height: float = 80.0


@dataclass(frozen=True)
class Moment:
    """One sampled frame of a scenario. Who stands in front comes first."""

    pts_ms: int
    places: list[Place]
    cut: bool = False


Scenario = Callable[[np.random.Generator, float], Iterator[Moment]]


def times(fps: float, seconds: float) -> list[int]:
    return [round(k * 1000 / fps) for k in range(round(seconds * fps))]


def sway(rng: np.random.Generator) -> Callable[[float], float]:
    """A smooth random movement of about one either way."""
    sizes, hertz, phases = rng.uniform(0.1, 0.5, 3), rng.uniform(0.1, 0.6, 3), rng.uniform(0, 2 * np.pi, 3)
    return lambda pts_ms: float((sizes * np.sin(2 * np.pi * hertz * pts_ms / 1000 + phases)).sum())


def gaps(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """Three people, each missed by the detector for half a second to a second, again and again."""
    sways = [sway(rng) for _ in range(3)]
    missed = [[(start, start + rng.uniform(500, 950)) for start in rng.uniform((1000, 4000, 7000), (2500, 5500, 8500))] for _ in range(3)]
    for now in times(fps, 11):
        seen = [k for k in range(3) if not any(start < now < end for start, end in missed[k])]
        yield Moment(now, [Place(k, 150 + 170 * k + 60 * sways[k](now), 180) for k in seen])


def hidden(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """One walks behind another and comes out on the other side."""
    speed = rng.uniform(0.1, 0.18)
    for now in times(fps, 6):
        yield Moment(now, [Place(0, 300, 180, 90), Place(1, 300 + (now - 3000) * speed, 185)])


def crossing(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """Two people of one size pass each other."""
    speed = rng.uniform(0.06, 0.1)
    for now in times(fps, 6):
        yield Moment(now, [Place(0, 320 + (now - 3000) * speed, 180), Place(1, 320 - (now - 3000) * speed, 182)])


def meeting(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """They meet, one is hidden for a moment, and both turn back: whoever follows by movement alone swaps them."""
    speed = rng.uniform(0.06, 0.09)
    for now in times(fps, 6):
        yield Moment(now, [Place(0, 335 + abs(now - 3000) * speed, 180), Place(1, 305 - abs(now - 3000) * speed, 182)])


def fast(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """Up to a whole width from sample to sample, turning without warning."""
    x, step = 300.0, 50.0
    for now in times(fps, 40 / fps):
        step = rng.uniform(30, 60) * rng.choice([-1, 1]) if rng.random() < 0.25 else step
        step = -step if not 60 < x + step < 580 else step
        x += step
        yield Moment(now, [Place(0, x, 180)])


def uneven(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """Two people in a video whose frames come when they like."""
    sways, now = [sway(rng) for _ in range(2)], 0.0
    while now < 10_000:
        yield Moment(round(now), [Place(k, 220 + 170 * k + 80 * sways[k](now), 180) for k in range(2)])
        now += rng.choice([0.3, 0.5, 1, 1, 1, 3]) * 1000 / fps


def crowd(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """Thirty-two people close together, each missed in one frame of ten."""
    sways = [sway(rng) for _ in range(32)]
    for now in times(fps, 5):
        places = [Place(k, 50 + 75 * (k % 8) + 8 * sways[k](now), 50 + 85 * (k // 8), 60) for k in range(32)]
        yield Moment(now, [place for place in places if rng.random() > 0.1])


def cut(rng: np.random.Generator, fps: float) -> Iterator[Moment]:
    """After three seconds other people sit where the first two did."""
    for last, now in pairwise([-1, *times(fps, 6)]):
        first = 2 if now >= 3000 else 0
        yield Moment(now, [Place(first + k, 220 + 160 * k, 180) for k in range(2)], cut=last < 3000 <= now)


SCENARIOS: dict[str, Scenario] = {scenario.__name__: scenario for scenario in (gaps, hidden, crossing, meeting, fast, uneven, crowd, cut)}


@dataclass(frozen=True)
class Score:
    """How well the numbers of tracks follow the people."""

    idf1: float
    """Share of faces whose track is their person's, each person having one track (Ristani et al., 2016)."""
    switches: int
    """How often a person's track became another one."""


def followed(scenario: Scenario, *, fps: float, seed: int, tracker: Tracker, jitter: float = 0.03) -> Score:
    """Let a tracker see a scenario: boxes and landmarks that jitter by a share of the face's height, over pixels with noise."""
    rng = np.random.default_rng(seed)
    shared: Counter[tuple[int, int]] = Counter()
    last: dict[int, int] = {}
    switches = 0
    for moment in scenario(rng, fps):
        visible = [place for k, place in enumerate(moment.places) if all(covered(place, front) < HIDDEN for front in moment.places[:k])]
        order = [visible[k] for k in rng.permutation(len(visible))]
        faces = [detected(place, rng, jitter) for place in order]
        numbers = tracker.update(moment.pts_ms, faces, painted(moment.places, rng), cut=moment.cut)
        for place, number in zip(order, numbers, strict=True):
            shared[place.person, number] += 1
            switches += last.get(place.person, number) != number
            last[place.person] = number
    return Score(idf1=idf1(shared), switches=switches)


def idf1(shared: Counter[tuple[int, int]]) -> float:
    people, numbers = (sorted(set(column)) for column in zip(*shared, strict=True))
    together = np.array([[shared[person, number] for number in numbers] for person in people])
    return float(together[linear_sum_assignment(together, maximize=True)].sum() / together.sum())


def covered(place: Place, front: Place) -> float:
    """The share of a face that is behind another one."""
    across = (place.height + front.height) * ASPECT / 2 - abs(place.x - front.x)
    down = (place.height + front.height) / 2 - abs(place.y - front.y)
    return max(0.0, min(across, place.height * ASPECT)) * max(0.0, min(down, place.height)) / (place.height**2 * ASPECT)


def detected(place: Place, rng: np.random.Generator, jitter: float) -> Face:
    x, y, grown = np.array((place.x, place.y, place.height)) + rng.normal(0, jitter, 3) * place.height
    half = np.array((grown * ASPECT, grown)) / 2
    corner = np.array((place.x - place.height * ASPECT / 2, place.y - place.height / 2))
    landmarks = corner + LANDMARKS * (place.height * ASPECT, place.height) + rng.normal(0, jitter / 2, (5, 2)) * place.height
    return Face(
        box_xyxy=np.array((x - half[0], y - half[1], x + half[0], y + half[1]), dtype=np.float32),
        landmarks_xy=landmarks.astype(np.float32),
        confidence=0.99,
    )


def painted(places: list[Place], rng: np.random.Generator) -> np.ndarray:
    """The frame as a camera would take it: uint8 RGB."""
    picture = Image.new("RGB", (FRAME_WIDTH, FRAME_HEIGHT), (90, 95, 100))
    for place in reversed(places):
        size = round(place.height * ASPECT), round(place.height)
        picture.paste(portrait(place.person).resize(size), (round(place.x - size[0] / 2), round(place.y - size[1] / 2)))
    light = rng.uniform(0.85, 1.15)
    noise = rng.integers(-4, 5, (FRAME_HEIGHT, FRAME_WIDTH, 1), dtype=np.int16)
    return np.clip(np.asarray(picture) * light + noise, 0, 255).astype(np.uint8)


@cache
def portrait(person: int) -> Image.Image:
    field = np.random.default_rng(1000 + person).normal(1, FIELD, (3, 3, 3)).clip(0.2, 2)
    smooth = np.asarray(Image.fromarray((field * 100).astype(np.uint8)).resize(PORTRAIT.size, Image.Resampling.BICUBIC)) / 100
    return Image.fromarray(np.clip(np.asarray(PORTRAIT) * smooth, 0, 255).astype(np.uint8))


def main() -> None:
    print(f"{'scenario':<10} fps   IDF1  switches, means of 5 runs")  # noqa: T201
    for name, scenario in SCENARIOS.items():
        for fps in (2, 8, 25):
            scores = [followed(scenario, fps=fps, seed=seed, tracker=Tracker()) for seed in range(5)]
            print(  # noqa: T201
                f"{name:<10} {fps:>3}  {np.mean([each.idf1 for each in scores]):.3f}  {np.mean([each.switches for each in scores]):.1f}"
            )


if __name__ == "__main__":
    main()
