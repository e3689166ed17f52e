"""Clips of many faces in the dark, through the whole front end and the release that ships: how many faces get a verdict, and the right one.

Each way of brightening follows serving's rule of what is dark; `none` brightens nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from services.preprocess.asking import nobody
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FrontEnd
from services.preprocess.judge.judging import Judging
from services.preprocess.judge.sightings import Sightings
from services.preprocess.light.brighten import METHODS
from services.preprocess.light.lowlight import DEFAULT_METHOD, Lowlight
from services.preprocess.stopwatch import Stopwatch
from shared.jobs import Enhance, Options
from shared.results import Track
from tests.bench.chance import percentage
from tests.bench.darkness import ALL_EXPOSURES, named
from tests.bench.dusk import at_dusk
from tests.bench.figures import Figure
from tests.bench.in_process import InProcess
from tests.bench.people import Labelled
from tests.bench.walls import SAMPLES, STEP_MS, Wall, walls

Verdicts = Sequence[str | None]
"""Of each of the people, in order: None for a face without one."""


def of_walls(people: Sequence[Labelled], classifier: InProcess) -> Iterator[Figure]:
    """By darkness and method. A face is found when one of its clip's tracks lies in its picture; a track is judged as serving judges."""
    detector, hung = FaceDetector(), list(walls(people))
    ready = {method: Lowlight(method=method) for method in METHODS}
    for exposure in ALL_EXPOSURES:
        dark = [Wall(people=wall.people, frames=at_dusk(wall.frames, exposure)) for wall in hung]
        told = {
            method: [verdict for wall in dark for verdict in verdicts(wall, lowlight, detector=detector, classifier=classifier)]
            for method, lowlight in ready.items()
        }
        for method, of_people in told.items():
            yield from figures(f"walls, {method}, at {named(exposure)}", of_people, people=people)
        for method in [each for each in told if each != DEFAULT_METHOD]:
            yield from leads(
                f"walls, {DEFAULT_METHOD} over {method}, at {named(exposure)}", told[DEFAULT_METHOD], told[method], people=people
            )


def verdicts(wall: Wall, lowlight: Lowlight, *, detector: FaceDetector, classifier: InProcess) -> Verdicts:
    """The label of the longest track in each picture."""
    tracks: defaultdict[int | None, list[Track]] = defaultdict(list)
    for track in judged(wall, lowlight, detector=detector, classifier=classifier):
        tracks[picture_of(track, wall)].append(track)
    longest = [max(tracks[number], key=lambda track: track.frames, default=None) for number in range(len(wall.people))]
    return [None if track is None else track.verdict.label for track in longest]


def judged(wall: Wall, lowlight: Lowlight, *, detector: FaceDetector, classifier: InProcess) -> list[Track]:
    """What serving makes of a clip between the decoder and the result."""
    release, sightings, watch = classifier.release, Sightings(), Stopwatch()
    front = FrontEnd(
        detector=detector, lowlight=lowlight, options=Options(enhance=Enhance.AUTO), size=release.size, sightings=sightings, watch=watch
    )
    with Judging(release=release, classifier=classifier, sightings=sightings, watch=watch) as judging:
        for batch in front.batches(wall.frames):
            for frame, crops in zip(batch.frames, front.crops(batch), strict=True):
                judging.send(crops, pts_ms=frame.pts_ms, ask=nobody)
        _, tracks = judging.finish(duration_ms=SAMPLES * STEP_MS, ask=nobody)
    return tracks


def picture_of(track: Track, wall: Wall) -> int | None:
    """By the middle of the face in the frame that counted most."""
    frame = track.explanation.frames[0]
    left, top, right, bottom = frame.box
    height, width = wall.frames[0].rgb_hwc.shape[:2]
    return wall.who((left + right) / 2 * width, (top + bottom) / 2 * height, pts_ms=frame.pts_ms)


def figures(where: str, told: Verdicts, *, people: Sequence[Labelled]) -> Iterator[Figure]:
    found, right = are_found(told), are_right(told, people)
    yield percentage(f"{where}: faces found", found, people=people)
    yield percentage(f"{where}: of them judged right", right, people=people, of=found)
    yield percentage(f"{where}: found and judged right", right, people=people)


def leads(where: str, ours: Verdicts, theirs: Verdicts, *, people: Sequence[Labelled]) -> Iterator[Figure]:
    """Face by face, so that what is hard for both counts for nothing."""
    found = [mine - other for mine, other in zip(are_found(ours), are_found(theirs), strict=True)]
    right = [mine - other for mine, other in zip(are_right(ours, people), are_right(theirs, people), strict=True)]
    yield percentage(f"{where}: faces found", found, people=people)
    yield percentage(f"{where}: found and judged right", right, people=people)


def are_found(told: Verdicts) -> list[float]:
    return [float(label is not None) for label in told]


def are_right(told: Verdicts, people: Sequence[Labelled]) -> list[float]:
    return [float(label == person.label) for label, person in zip(told, people, strict=True)]
