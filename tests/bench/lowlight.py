"""What each way of brightening brings back of faces in the dark, and what it costs.

    make bench ARGS=lowlight                              of a clip with one large face
    make bench ARGS="lowlight --faces faces.parquet"      and of many known faces, in clips and each by itself: some minutes

Darkness is made of known amounts, and known faces are of people from whom neither the release nor the generator has learnt.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import av
import numpy as np
import torch
from facenet_pytorch import MTCNN
from torchvision.ops import box_iou

from deploy.stack import newest_release
from services.preprocess.faces.regions import Pixels
from services.preprocess.light.brighten import METHODS
from services.preprocess.light.lowlight import Lowlight
from shared.jobs import Enhance
from tests.bench.darkness import in_the_dark, named
from tests.bench.dusk import figure, of_the_front_end
from tests.bench.figures import Figure
from tests.bench.in_process import InProcess
from tests.bench.nightfall import of_walls
from tests.bench.people import held_out
from tests.bench.stills import of_stills
from training.enlighten.measure import EXPOSURES

SURE: Final = 0.9
"""Confidence from which MTCNN's faces count."""
OVERLAP: Final = 0.5
MIN_FACE_PX: Final = 40
FRAMES_AT_ONCE: Final = 4
TIMED_FRAMES: Final = 5

Boxes = torch.Tensor
"""float32 (N, 4): left, top, right, bottom."""
Find = Callable[[Sequence[Pixels]], list[Boxes]]


def run(_home: Path, video: Path, *, faces: Path | None = None) -> list[Figure]:
    """faces: a parquet file with columns image, label and subject, of which only people count who were held out."""
    figures = [*of_frames(video), *of_the_front_end(video)]
    return figures if faces is None else [*figures, *of_people(faces)]


def of_people(faces: Path) -> Iterator[Figure]:
    classifier = InProcess(newest_release())
    people = held_out(faces, release=classifier.release)
    yield figure(f"held-out faces that {classifier.release.name} judges", len(people))
    yield from of_stills(people, classifier)
    yield from of_walls(people, classifier)


def of_frames(video: Path) -> Iterator[Figure]:
    """Recall of the faces that are found in daylight, and the time of each method as a share of the detector's, alternately."""
    frames = some_frames(video)
    find = finder()
    lit = find(frames)
    for over, value in rule_cost(frames, find):
        yield figure(f"cost of the luminance rule on a lit frame{over}", value)
    for method in METHODS:
        yield figure(f"{method}: time per dark frame over detection's", cost(method, frames, find))
        for exposure in EXPOSURES:
            brightening = Lowlight(method=method).brightening(Enhance.AUTO)
            brightened = [brightening.frame(frame) for frame in in_the_dark(frames, exposure)]
            yield figure(f"{method}: recall at {named(exposure)}", recall(find(brightened), lit))


def some_frames(video: Path) -> list[Pixels]:
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[:: max(1, len(frames) // TIMED_FRAMES)][:TIMED_FRAMES]


def rule_cost(frames: Sequence[Pixels], find: Find) -> Iterator[tuple[str, float]]:
    looked = [seconds(partial(Lowlight(method="gamma").brightening(Enhance.AUTO).frame, frame)) for frame in frames]
    found = [seconds(partial(find, [frame])) for frame in frames]
    yield ", over detection's", statistics.median(looked) / statistics.median(found)
    yield ", in milliseconds", statistics.median(looked) * 1000


def cost(method: str, frames: Sequence[Pixels], find: Find) -> float:
    """The median over frames of what brightening a frame takes, over what finding its faces takes right afterwards."""
    always = Lowlight(method=method).brightening(Enhance.ALWAYS)
    dark = in_the_dark(frames, EXPOSURES[1])
    always.frame(dark[0])
    return statistics.median(seconds(partial(always.frame, frame)) / seconds(partial(find, [frame])) for frame in dark)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def finder() -> Find:
    """facenet-pytorch's MTCNN as it comes, sure faces only."""
    network = MTCNN(keep_all=True, min_face_size=MIN_FACE_PX, device="cpu")

    def find(frames: Sequence[Pixels]) -> list[Boxes]:
        found: list[Boxes] = []
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            boxes, confidences = network.detect(np.stack(frames[start : start + FRAMES_AT_ONCE]))
            found += [sure(*each) for each in zip(boxes, confidences, strict=True)]
        return found

    return find


def sure(boxes: np.ndarray | None, confidences: np.ndarray) -> Boxes:
    if boxes is None:
        return torch.zeros(0, 4)
    return torch.from_numpy(np.asarray(boxes, dtype=np.float32)[np.asarray(confidences, dtype=np.float32) >= SURE])


def recall(found: Sequence[Boxes], truth: Sequence[Boxes]) -> float:
    """Share of the true faces that are found."""
    hits = [box_iou(true, own).amax(dim=1) >= OVERLAP for true, own in zip(truth, found, strict=True) if len(true) and len(own)]
    return sum(int(each.sum()) for each in hits) / sum(map(len, truth))
