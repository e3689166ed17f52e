"""Finding faces: the search that serving uses, beside facenet-pytorch asked frame by frame, on the same frames in turn."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
import numpy as np
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut, coffee, rocket

from services.preprocess.decode.frames import Frame
from services.preprocess.decode.video import open_video
from services.preprocess.faces.face import Face
from services.preprocess.faces.search import FaceDetector, FaceSearch, Seen, smallest_face_px
from services.preprocess.frontend import Batch, in_batches
from tests.bench.figures import Figure

SAMPLE_FPS: Final = (8, 25)
LARGE: Final = (1920, 1080)
"""Of its frames a batch holds fewer, so that more are scanned."""
LARGE_SAMPLE_FPS: Final = 8
PUBLISHED_MIN_FACE_PX: Final = 20

SURE: Final = 0.9
"""Confidence from which a face of theirs has to be found."""
SAME_FACE: Final = 0.5
"""Intersection over union."""

EDGE_SHARE: Final = 0.3
"""Distance from the frame's edge, in sides of the face, within which facenet-pytorch stretches what it sees of it."""

LEAST_RATIO: Final = 5.0
LEAST_RECALL: Final = 0.98
MOST_DISTANCE: Final = 3.0

CLIP_SIZE: Final = (640, 360)
PORTRAIT_XYXY: Final = (60, 0, 370, 250)
"""Head and shoulders in skimage's portrait."""


def run(home: Path, video: Path) -> list[Figure]:
    """The given clip, and one made here in which several faces move, enter, leave, pass each other and are cut away."""
    home.mkdir(parents=True, exist_ok=True)
    crowd, large = home / "crowd.mp4", home / "large.mp4"
    make_crowd(crowd)
    make_crowd(large, size=LARGE)
    detector = FaceDetector()
    cases = [(name, clip, sample_fps) for name, clip in (("clip", video), ("crowd", crowd)) for sample_fps in SAMPLE_FPS]
    return [
        line
        for name, clip, sample_fps in [*cases, ("crowd at 1080p", large, LARGE_SAMPLE_FPS)]
        for line in figures(f"{name}, {sample_fps} fps", compared(clip, detector, sample_fps=sample_fps))
    ]


@dataclass
class Comparison:
    """What both found in the same frames, and how long it took them."""

    seconds: dict[str, float] = field(default_factory=lambda: {"ours": 0.0, "theirs": 0.0, "published": 0.0})
    wanted: int = 0
    found: int = 0
    distances: list[float] = field(default_factory=list)
    """Of the landmarks of faces that both found, in percent of the eyes' distance; the mean of five."""
    edge_distances: list[float] = field(default_factory=list)
    """The same of faces at the frame's edge, where facenet-pytorch's are wrong."""
    frames: int = 0
    scanned: int = 0

    def ratio(self, theirs: str) -> float:
        return self.seconds[theirs] / self.seconds["ours"]


def figures(about: str, measured: Comparison) -> Iterator[Figure]:
    yield aimed(f"{about}: over facenet-pytorch per frame", measured.ratio("theirs"), "x", least=LEAST_RATIO)
    yield figure(f"{about}: over it at its smallest face of {PUBLISHED_MIN_FACE_PX} px", measured.ratio("published"), "x")
    yield figure(f"{about}: time per frame", 1000 * measured.seconds["ours"] / measured.frames, "ms")
    yield figure(f"{about}: share of frames that are scanned", measured.scanned / measured.frames, "")
    yield figure(f"{about}: faces of theirs", measured.wanted, "")
    if measured.distances:
        yield aimed(f"{about}: recall of them", measured.found / measured.wanted, "", least=LEAST_RECALL)
        yield aimed(f"{about}: landmarks' distance, mean", statistics.mean(measured.distances), "% of eyes", most=MOST_DISTANCE)
        yield figure(f"{about}: landmarks' distance, 95 of 100", float(np.percentile(measured.distances, 95)), "% of eyes")
    if measured.edge_distances:
        yield figure(f"{about}: the same at the frame's edge, mean", statistics.mean(measured.edge_distances), "% of eyes")


def figure(name: str, value: float, unit: str, *, aim: str = "", reached: bool | None = None) -> Figure:
    return Figure(bench="detection", name=name, value=value, unit=unit, aim=aim, reached=reached)


def aimed(name: str, value: float, unit: str, *, least: float | None = None, most: float | None = None) -> Figure:
    if least is not None:
        return figure(name, value, unit, aim=f"at least {least:g}", reached=value >= least)
    return figure(name, value, unit, aim=f"at most {most:g}", reached=most is not None and value <= most)


def compared(clip: Path, detector: FaceDetector, *, sample_fps: float) -> Comparison:
    """In serving's batches: ours, theirs with the same smallest face, and theirs as it comes, each batch in another order."""
    with open_video(clip) as source:
        frames = list(source.frames(sample_fps))
    height, width = frames[0].rgb_hwc.shape[:2]
    smallest = smallest_face_px((width, height))
    search = detector.searching(frame_size=(width, height), min_face_px=smallest)
    theirs, published = (MTCNN(keep_all=True, min_face_size=side, device="cpu") for side in (smallest, PUBLISHED_MIN_FACE_PX))
    measured = Comparison(frames=len(frames))
    for network in (theirs, published):
        one_by_one(network, frames[:2])
    detector.searching(frame_size=(width, height), min_face_px=smallest).look(frames[:2])
    for turn, batch in enumerate(in_batches(frames)):
        seen, wanted = in_turn(search, theirs, published, batch, measured, turn=turn)
        measured.scanned += sum(each.scanned for each in seen)
        for ours, reference in zip(seen, wanted, strict=True):
            score(measured, ours.faces, reference, frame_size=(width, height))
    return measured


def in_turn(
    search: FaceSearch, theirs: MTCNN, published: MTCNN, batch: Batch, measured: Comparison, *, turn: int
) -> tuple[list[Seen], list[list[Face]]]:
    frames = batch.frames
    ways: list[tuple[str, Callable[[], object]]] = [
        ("ours", lambda: search.look(frames, following=batch.following)),
        ("theirs", lambda: one_by_one(theirs, frames)),
        ("published", lambda: one_by_one(published, frames)),
    ]
    answers: dict[str, object] = {}
    for name, way in ways[turn % 3 :] + ways[: turn % 3]:
        began = time.perf_counter()
        answers[name] = way()
        measured.seconds[name] += time.perf_counter() - began
    return answers["ours"], answers["theirs"]  # type: ignore[return-value]


def one_by_one(network: MTCNN, frames: Sequence[Frame]) -> list[list[Face]]:
    return [list(sure_faces(*network.detect(frame.rgb_hwc, landmarks=True))) for frame in frames]


def sure_faces(boxes: object, confidences: object, landmarks: object) -> Iterator[Face]:
    if boxes is None:
        return
    columns = (np.asarray(column, dtype=np.float32) for column in (boxes, confidences, landmarks))
    for box, confidence, points in zip(*columns, strict=True):
        if confidence >= SURE:
            yield Face(box_xyxy=box, landmarks_xy=points, confidence=min(1.0, float(confidence)))


def score(measured: Comparison, ours: Sequence[Face], theirs: Sequence[Face], *, frame_size: tuple[int, int]) -> None:
    """Each of ours stands for one of theirs at most."""
    left = list(ours)
    for wanted in theirs:
        measured.wanted += 1
        match = max(left, key=lambda face: overlap(face.box_xyxy, wanted.box_xyxy), default=None)
        if match is None or overlap(match.box_xyxy, wanted.box_xyxy) < SAME_FACE:
            continue
        left = [face for face in left if face is not match]
        measured.found += 1
        distances = measured.distances if well_inside(wanted, frame_size) else measured.edge_distances
        distances.append(distance_percent(match.landmarks_xy, wanted.landmarks_xy))


def well_inside(face: Face, frame_size: tuple[int, int]) -> bool:
    """Whether the square that O-Net was shown lies in the frame."""
    left, top, right, bottom = face.box_xyxy.tolist()
    margin = EDGE_SHARE * max(right - left, bottom - top)
    return bool(min(left, top, frame_size[0] - right, frame_size[1] - bottom) >= margin)


def overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Intersection over union."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (sum(float(np.prod(box[2:] - box[:2])) for box in (one, other)) - shared)


def distance_percent(ours_xy: NDArray[np.float32], theirs_xy: NDArray[np.float32]) -> float:
    apart = np.linalg.norm(ours_xy - theirs_xy, axis=1).mean()
    return float(100 * apart / np.linalg.norm(theirs_xy[0] - theirs_xy[1]))


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A portrait on its way over the picture; places are those of its centre, in fractions of the picture, at equal intervals."""

    places_xy: tuple[tuple[float, float], ...]
    height: float
    """In heights of the picture."""
    mirrored: bool = False


SHOTS: Final = (
    (
        coffee,
        (
            Walk(places_xy=((0.15, 0.6), (0.4, 0.5), (0.2, 0.7)), height=0.55),
            Walk(places_xy=((1.2, 0.4), (0.8, 0.45), (0.6, 0.4)), height=0.7, mirrored=True),  # enters
            Walk(places_xy=((0.5, 0.25), (0.52, 0.3), (0.5, 0.25)), height=0.4),
        ),
    ),
    (
        rocket,
        (
            Walk(places_xy=((0.3, 0.5), (0.7, 0.5)), height=0.8),
            Walk(places_xy=((0.85, 0.5), (0.5, 0.45), (-0.2, 0.5)), height=0.6, mirrored=True),  # passes behind, and leaves
        ),
    ),
)


def make_crowd(path: Path, *, size: tuple[int, int] = CLIP_SIZE, seconds_per_shot: float = 3.0, fps: int = 25) -> None:
    """Write an MP4 of `size` (width, height): two shots, in which copies of one portrait walk about."""
    count = round(seconds_per_shot * fps)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"threads": "1", "crf": "20"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for background, walks in SHOTS:
            still = Image.fromarray(background()).resize(size)
            for index in range(count):
                picture = np.asarray(peopled(still, walks, index / (count - 1)))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def peopled(background: Image.Image, walks: Sequence[Walk], progress: float) -> Image.Image:
    """The picture at `progress`, 0 to 1; who comes later in the list stands behind."""
    picture = background.copy()
    portrait = Image.fromarray(astronaut()).crop(PORTRAIT_XYXY)
    for walk in reversed(walks):
        height = round(walk.height * background.height)
        person = portrait.resize((height * portrait.width // portrait.height, height))
        person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if walk.mirrored else person
        x, y = place(walk, progress) * background.size - np.array(person.size) / 2
        picture.paste(person, (round(x), round(y)))
    return picture


def place(walk: Walk, progress: float) -> NDArray[np.floating]:
    legs = list(pairwise(np.array(walk.places_xy)))
    leg = min(int(progress * len(legs)), len(legs) - 1)
    start, end = legs[leg]
    return np.asarray(start + (end - start) * (progress * len(legs) - leg))
