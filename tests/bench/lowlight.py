"""What each way of brightening brings back of faces in the dark, and what it costs.

    make bench ARGS=lowlight                                             on the frames of a clip
    python -m tests.bench.lowlight --faces faces.parquet --release training/releases/000002
                                                                         on pictures with labels, as Markdown

Darkness is made of known amounts: exposure in linear light, with a sensor's noise, quantised. Pictures are of the people whom
training holds out, so that neither the release nor the generator has seen them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torchvision.ops import box_iou

from services.preprocess.faces.landmarks import FacePictures, mean_landmarks
from services.preprocess.faces.regions import Pixels, face_tensor
from services.preprocess.harvest.parquet import read_parquet
from services.preprocess.light.brighten import METHODS
from services.preprocess.light.lowlight import Brightening, Lowlight
from shared import releases
from shared.expressions import LABELS
from shared.jobs import Enhance
from tests.bench.dusk import at_dusk
from tests.bench.figures import Figure
from training.enlighten.darkness import Darkness, darkened
from training.enlighten.data import HELD_OUT, part_of
from training.enlighten.measure import EXPOSURES, READ_NOISE, SHOT_NOISE
from training.enlighten.settings import Settings
from training.export import read_release_network

DAYLIGHT = 1.0
SURE = 0.9
"""Confidence from which MTCNN's faces count."""
OVERLAP = 0.5
MIN_FACE_PX = 40
CANVAS_WIDTH_PX, CANVAS_HEIGHT_PX, CELL_PX, FACE_PX = 640, 480, 160, 128
WALL = 96
PICTURES_AT_ONCE = 32
CANVASES_AT_ONCE = 4
TIMED_FRAMES = 5

Boxes = torch.Tensor
"""float32 (N, 4): left, top, right, bottom."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A picture of a face, and what people say that it expresses."""

    rgb_hwc: Pixels
    label: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one method makes of one exposure."""

    method: str
    exposure: float
    recall: float
    accuracy: float
    touched: float
    """Share of the pictures that `auto` brightened."""


# --- on a clip: part of `make bench` ---------------------------------------------------------------------------------


def run(_home: Path, video: Path) -> list[Figure]:
    """Recall of the faces that are found in daylight, and the time of each method as a share of the detector's, alternately."""
    frames = some_frames(video)
    find = finder()
    lit = find(frames)
    figures = [figure(f"cost of the luminance rule on a lit frame{over}", value) for over, value in rule_cost(frames, find)]
    for method in METHODS:
        costs = cost(method, frames, find)
        figures.append(figure(f"{method}: time per dark frame over detection's", costs))
        for exposure in EXPOSURES:
            brightened = Lowlight(method=method).brightening(Enhance.AUTO).frames(in_the_dark(frames, exposure))
            figures.append(figure(f"{method}: recall at {named(exposure)}", recall(find(brightened), lit)))
    return [*figures, *of_the_front_end(video)]


def of_the_front_end(video: Path) -> Iterator[Figure]:
    """What serving itself sees in the clip, in which a face in the shade is brightened where the frame as a whole is not."""
    for way, exposure, faces, tracks, brightened in at_dusk(video, (DAYLIGHT, *EXPOSURES), darken=in_the_dark):
        where = f"front end, enhance={way}, at {named(exposure)}"
        yield figure(f"{where}: faces fit to be judged", faces)
        yield figure(f"{where}: tracks", tracks)
        yield figure(f"{where}: frames brightened", brightened)


def figure(name: str, value: float) -> Figure:
    return Figure(bench="lowlight", name=name, value=value, unit="")


def some_frames(video: Path) -> list[Pixels]:
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[:: max(1, len(frames) // TIMED_FRAMES)][:TIMED_FRAMES]


def rule_cost(frames: Sequence[Pixels], find: Callable[[Sequence[Pixels]], list[Boxes]]) -> Iterator[tuple[str, float]]:
    looked = [seconds(partial(Lowlight(method="gamma").brightening(Enhance.AUTO).frames, [frame])) for frame in frames]
    found = [seconds(partial(find, [frame])) for frame in frames]
    yield ", over detection's", statistics.median(looked) / statistics.median(found)
    yield ", in milliseconds", statistics.median(looked) * 1000


def cost(method: str, frames: Sequence[Pixels], find: Callable[[Sequence[Pixels]], list[Boxes]]) -> float:
    """The median over frames of what brightening a frame takes, over what finding its faces takes right afterwards."""
    always = Lowlight(method=method).brightening(Enhance.ALWAYS)
    dark = in_the_dark(frames, EXPOSURES[1])
    always.frames(dark[:1])
    return statistics.median(seconds(partial(always.frames, [frame])) / seconds(partial(find, [frame])) for frame in dark)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# --- on labelled pictures --------------------------------------------------------------------------------------------


def outcomes(pictures: Sequence[Labelled], methods: Iterable[str], classify: Callable[[Sequence[Pixels]], list[int]]) -> Iterator[Outcome]:
    """Every method at every exposure, daylight first."""
    find = finder()
    faces, labels = [each.rgb_hwc for each in pictures], [each.label for each in pictures]
    walls = list(canvases(faces))
    lit = find(walls)
    for exposure in (DAYLIGHT, *EXPOSURES):
        dark_faces, dark_walls = in_the_dark(faces, exposure), in_the_dark(walls, exposure)
        for method in methods:
            of_faces, of_walls = brightening(method), brightening(method)
            verdicts = classify(of_faces.frames(dark_faces))
            found = find(of_walls.frames(dark_walls))
            yield Outcome(
                method=method,
                exposure=exposure,
                recall=recall(found, lit),
                accuracy=float(np.mean(np.array(verdicts) == np.array(labels))),
                touched=of_faces.report().frames / len(faces),
            )


def brightening(method: str) -> Brightening:
    return Lowlight(method=method).brightening(Enhance.AUTO)


def held_out(file: Path, *, most: int) -> list[Labelled]:
    """Pictures of the people that training never sees, evenly chosen."""
    kept = [
        Labelled(rgb_hwc=picture.read(), label=LABELS.index(picture.label))
        for picture in read_parquet(file)
        if picture.label is not None and part_of(picture.subject, held_out=Settings().held_out) == HELD_OUT
    ]
    return kept[:: max(1, len(kept) // most)][:most]


def canvases(faces: Sequence[Pixels]) -> Iterator[Pixels]:
    """Grey walls with a dozen faces each: something to look for faces in."""
    cells = [(left, top) for top in range(0, CANVAS_HEIGHT_PX, CELL_PX) for left in range(0, CANVAS_WIDTH_PX, CELL_PX)]
    for start in range(0, len(faces), len(cells)):
        wall = Image.new("RGB", (CANVAS_WIDTH_PX, CANVAS_HEIGHT_PX), (WALL, WALL, WALL))
        for (left, top), face in zip(cells, faces[start : start + len(cells)], strict=False):
            wall.paste(Image.fromarray(face).resize((FACE_PX, FACE_PX), Image.Resampling.BILINEAR), (left + 16, top + 16))
        yield np.asarray(wall)


def classifier(weights: Path) -> Callable[[Sequence[Pixels]], list[int]]:
    """From pictures to verdicts as harvest and a release make them."""
    release = releases.read(weights / releases.MANIFEST)
    network, landmarks = read_release_network(release, weights / releases.WEIGHTS), FacePictures()

    @torch.inference_mode()
    def classify(pictures: Sequence[Pixels]) -> list[int]:
        verdicts: list[int] = []
        for start in range(0, len(pictures), PICTURES_AT_ONCE):
            group = pictures[start : start + PICTURES_AT_ONCE]
            points = [own if own is not None else mean_landmarks(rgb) for own, rgb in zip(landmarks.landmarks(group), group, strict=True)]
            crops = np.stack([face_tensor(rgb, own, size=release.size) for rgb, own in zip(group, points, strict=True)])
            logits = network(torch.from_numpy(crops), torch.ones(len(group), dtype=torch.int64))
            verdicts += logits.argmax(dim=1).tolist()
        return verdicts

    return classify


# --- both --------------------------------------------------------------------------------------------------------------


def in_the_dark(pictures: Sequence[Pixels], exposure: float) -> list[Pixels]:
    """The same pictures with so much of their light, and the noise of a sensor that gets no more; daylight is left as it is."""
    if exposure == DAYLIGHT:
        return list(pictures)
    draw = torch.Generator().manual_seed(0)
    amount = Darkness.known(1, exposure=exposure, read_noise=READ_NOISE, shot_noise=SHOT_NOISE)
    planes = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] for picture in pictures)
    return [np.ascontiguousarray(darkened(each, amount, draw)[0].permute(1, 2, 0).numpy()) for each in planes]


def finder() -> Callable[[Sequence[Pixels]], list[Boxes]]:
    """facenet-pytorch's MTCNN as it comes, sure faces only."""
    network = MTCNN(keep_all=True, min_face_size=MIN_FACE_PX, device="cpu")

    def find(frames: Sequence[Pixels]) -> list[Boxes]:
        found: list[Boxes] = []
        for start in range(0, len(frames), CANVASES_AT_ONCE):
            boxes, confidences = network.detect(np.stack(frames[start : start + CANVASES_AT_ONCE]))
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


def named(exposure: float) -> str:
    return "daylight" if exposure == DAYLIGHT else f"1/{round(1 / exposure)}"


def table(rows: Sequence[Outcome], value: Callable[[Outcome], float], *, heading: str) -> str:
    """Exposures across, methods down, percent."""
    exposures = list(dict.fromkeys(row.exposure for row in rows))
    cells = {(row.method, row.exposure): f"{100 * value(row):.1f}" for row in rows}
    lines = [
        f"| {heading} | " + " | ".join(map(named, exposures)) + " |",
        "| --- |" + " ---: |" * len(exposures),
        *(
            f"| {method} | " + " | ".join(cells[method, each] for each in exposures) + " |"
            for method in dict.fromkeys(r.method for r in rows)
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lowlight", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="parquet file with columns image, label and subject")
    parser.add_argument("--release", type=Path, required=True, help="weights folder of the release that judges")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--most", type=int, default=331, help="pictures")
    asked = parser.parse_args()
    pictures = held_out(asked.faces, most=asked.most)
    rows = []
    for row in outcomes(pictures, asked.methods, classifier(asked.release)):
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    print(f"{len(pictures)} pictures of held-out people\n")
    print(table(rows, lambda row: row.recall, heading="faces found, %"), "\n")
    print(table(rows, lambda row: row.accuracy, heading="expressions right, %"), "\n")
    print(table(rows, lambda row: row.touched, heading="brightened by auto, %"))


if __name__ == "__main__":
    main()
