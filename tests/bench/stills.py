"""Pictures of faces in the dark, each by itself: what a release reads from them when nothing has to be found first."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from services.preprocess.faces.landmarks import FacePictures, mean_landmarks
from services.preprocess.faces.regions import Pixels, face_tensor
from services.preprocess.light.brighten import METHODS
from services.preprocess.light.lowlight import DEFAULT_METHOD, Lowlight
from shared.expressions import LABELS
from shared.jobs import Enhance
from tests.bench.chance import percentage
from tests.bench.darkness import ALL_EXPOSURES, in_the_dark, named
from tests.bench.figures import Figure
from tests.bench.in_process import InProcess
from tests.bench.people import Labelled

AT_ONCE: Final = 32


def of_stills(people: Sequence[Labelled], classifier: InProcess) -> Iterator[Figure]:
    """By darkness and method, daylight first. Landmarks are found as harvest finds them."""
    landmarks = FacePictures()
    for exposure in ALL_EXPOSURES:
        dark = in_the_dark([person.rgb_hwc for person in people], exposure)
        right = {}
        for method in METHODS:
            brightening = Lowlight(method=method).brightening(Enhance.AUTO)
            told = labels([brightening.frame(rgb_hwc) for rgb_hwc in dark], landmarks, classifier)
            right[method] = [float(label == person.label) for label, person in zip(told, people, strict=True)]
            yield percentage(f"stills, {method}, at {named(exposure)}: judged right", right[method], people=people)
        for method in [each for each in METHODS if each != DEFAULT_METHOD]:
            lead = [ours - theirs for ours, theirs in zip(right[DEFAULT_METHOD], right[method], strict=True)]
            yield percentage(f"stills, {DEFAULT_METHOD} over {method}, at {named(exposure)}: judged right", lead, people=people)


def labels(pictures: Sequence[Pixels], landmarks: FacePictures, classifier: InProcess) -> list[str]:
    """What each of the pictures expresses, as clips of one frame."""
    told: list[str] = []
    for start in range(0, len(pictures), AT_ONCE):
        group = pictures[start : start + AT_ONCE]
        points = [own if own is not None else mean_landmarks(rgb) for own, rgb in zip(landmarks.landmarks(group), group, strict=True)]
        size = classifier.release.size
        crops = np.stack([face_tensor(rgb, own, size=size) for rgb, own in zip(group, points, strict=True)])
        features = classifier.encode(classifier.release, crops).features
        scores = classifier.judge(classifier.release, features[:, None], np.ones((len(group), 1), np.float32)).scores
        told += [LABELS[best] for best in scores.argmax(axis=1).tolist()]
    return told
